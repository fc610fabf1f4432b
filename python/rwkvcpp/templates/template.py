"""A chat template: how messages become the text that a model was trained on.

A turn is `before name mark gap text after`, turns are parted by `between`, and the prompt ends
with the assistant's `before name mark` and what its mode prefills. World is

    User: Hi⏎⏎Assistant: Hello.⏎⏎User: Why?⏎⏎Assistant: <think

with the mark ":", the gap " " and a blank line between. Every format is a row of such strings, in
`formats.py`; its Jinja twin (`twin.py`) is made of the same row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rwkvcpp.templates.cleaning import BLINKDL, Cleaning
from rwkvcpp.templates.messages import Message, MessageDict, read_messages
from rwkvcpp.templates.reply import CLOSE, Reply, ReplyStream, split


@dataclass(frozen=True)
class Mode:
    """How a reply begins: in the open, in thought, or past a thought that was none."""

    name: str
    prefill: str = ""  # the beginning of the reply, as the prompt has it
    hint: str = ""  # behind the user's text: how long to think
    profile: str | None = None  # of rwkvcpp.profiles; None: no other than usual


PLAIN = Mode("chat")


@dataclass(frozen=True, kw_only=True)
class Template:
    """A chat format: renders messages, says where replies end, and takes replies apart.

    >>> template = choose_template("g1")
    >>> template.render([{"role": "user", "content": "Hi"}], mode="think")
    'User: Hi\\n\\nAssistant: <think'
    """

    name: str
    description: str = ""
    begin_of_text: bool = True  # whether token 0, which parts texts in training, comes first
    stops: tuple[str, ...]  # a reply ends before the first of them, or at one of stop_tokens
    stop_tokens: tuple[int, ...] = (0,)
    modes: Mapping[str, Mode]
    default_mode: str

    user: str
    assistant: str
    system: str  # "": what the system says stands without a name

    before: str = ""
    mark: str = ":"
    gap: str = " "
    after: str = ""
    between: str = "\n\n"
    cleaning: Cleaning = BLINKDL
    closed_up: frozenset[str] = frozenset({"system", "user", "tool"})  # roles without blank lines

    # What it says

    def render(
        self,
        messages: Sequence[MessageDict],
        *,
        mode: str | None = None,
        add_generation_prompt: bool = True,
        verbatim: bool = False,
    ) -> str:
        """The text of `messages`, and the beginning of the reply that `mode` asks for.

        Thoughts of earlier replies are left out. With verbatim, replies that know what the model
        wrote (`reply_message`) come back to the letter, thoughts included: that is the text which a
        session has consumed that went from turn to turn.
        """
        turns = read_messages(messages)
        chosen = self.mode(mode)
        asked = [self._mode_of(turn) if verbatim else None for turn in turns]
        following = [*asked[1:], chosen if add_generation_prompt else None]
        texts = [
            self._turn(turn, next_mode) if own_mode is None else self._generated(turn, own_mode)
            for turn, own_mode, next_mode in zip(turns, asked, following, strict=False)
        ]
        if add_generation_prompt:
            texts.append(self._opening(self.assistant) + chosen.prefill)
        elif turns and turns[-1].is_open:
            texts[-1] = texts[-1].removesuffix(self.after)
        return self.between.join(texts)

    def next_turn(self, text: str, *, pending: str = "", mode: str | None = None) -> str:
        """What follows a reply that the session has consumed, up to the next reply.

        pending: the end of the consumed text that was not shown: a stop, or a part of one. What it
        has of the new turn already is not said again. For any reply,
        `render(before) + reply + pending + next_turn(text, pending=pending)` is
        `render(before + [reply_message(reply), {"role": "user", "content": text}], verbatim=True)`.
        """
        turn = self.render([{"role": "user", "content": text}], mode=mode)
        following = self.after + self.between + turn
        if following.startswith(pending):
            return following[len(pending) :]
        opened = self.after + self.between + self._opening(self.user)
        if not pending.startswith(opened):
            return following
        # The model has begun the user's turn, and not as we would have: only its text is missing.
        rest = following[len(opened) :]
        return rest.removeprefix(self.gap) if pending[-1].isspace() else rest

    def mode(self, name: str | None = None) -> Mode:
        """The mode called `name`; None is the default."""
        found = self.modes.get(self.default_mode if name is None else name)
        if found is None:
            known = ", ".join(self.modes)
            raise ValueError(f"the template {self.name} has no mode {name!r}, only {known}")
        return found

    def mode_for(
        self, *, enable_thinking: bool | None = None, reasoning_effort: str | None = None
    ) -> str:
        """The name of the mode that a request's words mean; the default where they mean nothing.

        reasoning_effort: "none" or "minimal" (no thought), "low", "medium" or "high".
        """
        if reasoning_effort is not None and reasoning_effort not in EFFORTS:
            known = ", ".join(EFFORTS)
            raise ValueError(f"reasoning_effort is {reasoning_effort!r}, expected one of {known}")
        if enable_thinking is False:
            wanted = EFFORTS["none"]
        elif reasoning_effort is not None:
            wanted = EFFORTS[reasoning_effort]
        else:
            wanted = ("think",) if enable_thinking else ()
        return next((mode for mode in wanted if mode in self.modes), self.default_mode)

    def with_names(
        self, *, user: str | None = None, assistant: str | None = None, system: str | None = None
    ) -> Template:
        """The same format with other names for the roles; its stops follow."""
        names = {"user": user, "assistant": assistant, "system": system}
        chosen: dict[str, Any] = {role: name for role, name in names.items() if name is not None}
        for role, name in chosen.items():
            if not name.strip() and role != "system":
                raise ValueError(f"the name of the {role} is {name!r}, expected a word")
        renamed = replace(self, **chosen)
        stops = tuple(renamed._stop_of(self, stop) for stop in self.stops)
        return replace(renamed, stops=tuple(dict.fromkeys(stops)))

    # What comes back

    def split_reply(self, text: str, *, mode: str | None = None) -> Reply:
        """`text`, a reply as the model wrote it in `mode`, as thoughts and answer."""
        return split(text, self.mode(mode).prefill)

    def reply_stream(self, *, mode: str | None = None) -> ReplyStream:
        """Takes a reply apart while it comes: what it gives, joined, is what split_reply gives."""
        return ReplyStream(self.mode(mode).prefill)

    def reply_message(self, text: str, *, mode: str | None = None) -> dict[str, Any]:
        """`text`, a reply as the model wrote it in `mode`, as a message for the history."""
        chosen = self.mode(mode)
        reply = split(text, chosen.prefill)
        message: dict[str, Any] = {"role": "assistant", "content": reply.content}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        return message | {"mode": chosen.name, "generated": text}

    # Turns

    def _turn(self, turn: Message, following: Mode | None) -> str:
        """A turn in its canonical form, with the hint of the mode that `following` asks for."""
        text = turn.text
        if turn.role == "assistant":
            text = text.rpartition(CLOSE + ">")[2]
        text = self.cleaning.clean(text, turn.role in self.closed_up)
        if turn.role == "user" and following is not None:
            text += following.hint
        return self._named(turn.role, text) + self.after

    def _generated(self, turn: Message, mode: Mode) -> str:
        """A reply as the model wrote it."""
        return self._opening(self.assistant) + mode.prefill + (turn.generated or "") + self.after

    def _mode_of(self, turn: Message) -> Mode | None:
        """The mode of a reply that the model wrote; None for other turns."""
        is_reply = turn.role == "assistant" and turn.generated is not None
        return self.mode(turn.mode) if is_reply else None

    def _named(self, role: str, text: str) -> str:
        name = {"assistant": self.assistant, "system": self.system}.get(role, self.user)
        if not name:
            return text
        return self._opening(name) + (self.gap + text if text else "")

    def _opening(self, name: str) -> str:
        return self.before + name + self.mark

    def _stop_of(self, old: Template, stop: str) -> str:
        """`stop`, where it was the beginning of a turn, with the new name."""
        for role in ("user", "system", "assistant"):
            if stop == old.between + old._opening(getattr(old, role)):
                return self.between + self._opening(getattr(self, role))
        return stop


EFFORTS: dict[str, tuple[str, ...]] = {  # the first that a template has
    "none": ("fake-think", "chat"),
    "minimal": ("fake-think", "chat"),
    "low": ("think-a-bit", "think"),
    "medium": ("think-medium", "think"),
    "high": ("think-a-lot", "think"),
}

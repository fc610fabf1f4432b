"""What every chat template can do: render messages, say where replies end, take replies apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rwkvcpp.templates.messages import MessageDict
from rwkvcpp.templates.reply import Reply, ReplyStream, split


@dataclass(frozen=True)
class Mode:
    """How a reply begins: in the open, in thought, or past a thought that was none."""

    name: str
    prefill: str = ""  # the beginning of the reply, as the prompt has it
    hint: str = ""  # behind the user's text: how long to think
    profile: str = "standard"  # of rwkvcpp.profiles


@dataclass(frozen=True, kw_only=True)
class Template(ABC):
    """A chat template.

    >>> template = choose_template("g1")
    >>> template.render([{"role": "user", "content": "Hi"}], mode="think")
    'User: Hi\\n\\nAssistant: <think'
    """

    name: str
    description: str = ""
    begin_of_text: bool = True  # whether token 0, which parts texts in training, comes first
    stops: tuple[str, ...]  # a reply ends before the first of these, or at one of stop_tokens
    stop_tokens: tuple[int, ...] = (0,)
    modes: Mapping[str, Mode] = field(hash=False)
    default_mode: str
    user: str = "User"  # names; "" where turns have none
    assistant: str = "Assistant"
    system: str = "System"
    mark: str = ":"  # behind a name
    between: str = "\n\n"  # parts turns

    @abstractmethod
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

    @abstractmethod
    def next_turn(self, text: str, *, pending: str = "", mode: str | None = None) -> str:
        """What follows a reply that the session has consumed, up to the next reply.

        pending: the end of the consumed text that was not shown: a stop, or a part of one. What it
        has of the new turn already is not said again. For any reply,
        `render(before) + reply + pending + next_turn(text, pending=pending)` is
        `render(before + [reply_message(reply), {"role": "user", "content": text}], verbatim=True)`.
        """

    @abstractmethod
    def with_names(
        self,
        *,
        user: str | None = None,
        assistant: str | None = None,
        system: str | None = None,
        mark: str | None = None,
    ) -> Template:
        """The same template with other names, and another mark behind them; its stops follow."""

    @property
    @abstractmethod
    def jinja(self) -> str:
        """The Jinja text of the template, for other programs."""

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

    # What comes back

    def begun(self, mode: str | None = None) -> str:
        """What the prompt has of the reply already, in `mode`."""
        return self.mode(mode).prefill

    def split_reply(self, text: str, *, mode: str | None = None) -> Reply:
        """`text`, a reply as the model wrote it in `mode`, as thoughts and answer."""
        return split(text, self.begun(mode))

    def reply_stream(self, *, mode: str | None = None) -> ReplyStream:
        """Takes a reply apart while it comes: what it gives, joined, is what split_reply gives."""
        return ReplyStream(self.begun(mode))

    def reply_message(self, text: str, *, mode: str | None = None) -> dict[str, Any]:
        """`text`, a reply as the model wrote it in `mode`, as a message for the history."""
        reply = self.split_reply(text, mode=mode)
        message: dict[str, Any] = {"role": "assistant", "content": reply.content}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        return message | {"mode": self.mode(mode).name, "generated": text}


EFFORTS: dict[str, tuple[str, ...]] = {  # the first that a template has
    "none": ("fake-think", "chat"),
    "minimal": ("fake-think", "chat"),
    "low": ("think-a-bit", "think"),
    "medium": ("think-medium", "think"),
    "high": ("think-a-lot", "think"),
}

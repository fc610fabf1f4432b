"""Turns with a name in front: the chat formats of RWKV, each a row of strings.

A turn is `before name mark gap text after`, turns are parted by `between`, and the prompt ends
with the assistant's `before name mark` and what its mode prefills. World is

    User: Hi⏎⏎Assistant: Hello.⏎⏎User: Why?⏎⏎Assistant: <think

with the mark ":", the gap " " and a blank line between. The rows are in `formats.py`; the Jinja
twin of a format (`twin.py`) is made of the same row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rwkvcpp.templates.cleaning import BLINKDL, Cleaning
from rwkvcpp.templates.messages import Message, MessageDict, read_messages
from rwkvcpp.templates.reply import CLOSE
from rwkvcpp.templates.template import Mode, Template, Tools
from rwkvcpp.templates.tools import SIGNATURES, TOOL_FORMS, ToolForm, read_tools
from rwkvcpp.templates.twin import twin


@dataclass(frozen=True, kw_only=True)
class Turns(Template):
    """A format of named turns."""

    before: str = ""
    gap: str = " "
    after: str = ""
    tool: str = ""  # the name in front of a tool's results; "": the user's
    tool_form: ToolForm = SIGNATURES
    tools_template: Turns | None = None  # for conversations with tools
    cleaning: Cleaning = BLINKDL
    closed_up: frozenset[str] = frozenset({"system", "user", "tool"})  # roles without blank lines

    def render(
        self,
        messages: Sequence[MessageDict],
        *,
        mode: str | None = None,
        add_generation_prompt: bool = True,
        verbatim: bool = False,
        tools: Tools = None,
    ) -> str:
        if tools and self.tools_template is not None:
            return self.tools_template.render(
                messages,
                mode=mode,
                add_generation_prompt=add_generation_prompt,
                verbatim=verbatim,
                tools=tools,
            )
        turns = self._with_tools(read_messages(messages), tools)
        is_open = bool(turns) and turns[-1].is_open and not add_generation_prompt
        turns = [replace(turn, is_open=is_open and turn is turns[-1]) for turn in turns]
        chosen = self.mode(mode, tools=tools)
        asked = [self._mode_of(turn) if verbatim else None for turn in turns]
        following = [*asked[1:], chosen if add_generation_prompt else None]
        texts = [
            self._turn(turn, next_mode) if own_mode is None else self._generated(turn, own_mode)
            for turn, own_mode, next_mode in zip(turns, asked, following, strict=False)
        ]
        if add_generation_prompt:
            texts.append(self._opening(self.assistant) + chosen.prefill)
        elif is_open:
            texts[-1] = texts[-1].removesuffix(self.after)
        return self.between.join(texts)

    @property
    def jinja(self) -> str:
        return twin(self)

    def next_turn(
        self, text: str, *, pending: str | bytes = "", mode: str | None = None, role: str = "user"
    ) -> str:
        turn = self.render([{"role": role, "content": text}], mode=mode)
        following = self.after + self.between + turn
        pending = self._text_of(pending)
        if following.startswith(pending):
            return following[len(pending) :]
        opened = self.after + self.between + self._opening(self._name(role))
        if not pending.startswith(opened):
            return following
        # The model has begun the user's turn, and not as we would have: only its text is missing.
        rest = following[len(opened) :]
        return rest.removeprefix(self.gap) if pending[-1].isspace() else rest

    def with_names(
        self,
        *,
        user: str | None = None,
        assistant: str | None = None,
        system: str | None = None,
        mark: str | None = None,
    ) -> Turns:
        named = {"user": user, "assistant": assistant, "system": system, "mark": mark}
        chosen: dict[str, Any] = {key: text for key, text in named.items() if text is not None}
        for role in chosen.keys() & {"user", "assistant"}:
            if not chosen[role].strip():
                raise ValueError(f"the name of the {role} is {chosen[role]!r}, expected a word")
        renamed = replace(self, **chosen)
        stops = (renamed._stop_for(stop, self) for stop in self.stops)
        return replace(renamed, stops=tuple(dict.fromkeys(stops)))

    def _with_tools(self, turns: list[Message], tools: Tools) -> list[Message]:
        """`turns` with what the system says of `tools`, behind what it says first."""
        if not tools:
            return turns
        described = self.tool_form.describe(read_tools(tools))
        if turns and turns[0].role == "system":
            first = self.cleaning.clean(turns[0].text, "system" in self.closed_up)
            both = "\n".join(filter(None, [first, described]))
            return [replace(turns[0], text=both), *turns[1:]]
        return [Message(role="system", text=described), *turns]

    def for_tools(self) -> Template:
        return self.tools_template or self

    def with_tool_form(self, name: str) -> Turns:
        if name not in TOOL_FORMS:
            known = ", ".join(TOOL_FORMS)
            raise ValueError(f"there is no form of tools {name!r}, only {known}")
        return replace(self, tool_form=TOOL_FORMS[name], tools_template=None)

    def _turn(self, turn: Message, following: Mode | None) -> str:
        """A turn in its canonical form, with the hint of the mode that `following` asks for."""
        text = turn.text
        if turn.role == "assistant" and not turn.is_open:
            text = text.rpartition(CLOSE + ">")[2]
        if turn.role == "tool":
            text = self.tool_form.result(text)
        if not turn.is_raw:
            text = self.cleaning.clean(text, turn.role in self.closed_up)
        text = "\n".join(filter(None, [text, *map(self.tool_form.call, turn.tool_calls)]))
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
        name = self._name(role)
        if not name:
            return text
        return self._opening(name) + (self.gap + text if text else "")

    def _name(self, role: str) -> str:
        names = {"user": self.user, "assistant": self.assistant, "system": self.system}
        return names.get(role, self.tool or self.user)

    def _opening(self, name: str) -> str:
        return self.before + name + self.mark

    def _stop_for(self, stop: str, old: Turns) -> str:
        """`stop` of the `old` format, with our name where it was the beginning of a turn."""
        for role in ("user", "system", "assistant"):
            if stop == old.between + old._opening(getattr(old, role)):
                return self.between + self._opening(getattr(self, role))
        return stop

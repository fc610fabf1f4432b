"""What every chat template can do: render messages, say where replies end, take replies apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rwkvcpp.templates.messages import MessageDict
from rwkvcpp.templates.reply import Reply, ReplyStream
from rwkvcpp.templates.tools import read_tools

Tools: TypeAlias = "Sequence[Mapping[str, Any]] | None"

CALL = "call"  # the mode that asks for a call


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
        tools: Tools = None,
    ) -> str:
        """The text of `messages`, and the beginning of the reply that `mode` asks for.

        tools: functions that may be called, as OpenAI's API has them. With them the default mode is
            the one that asks for a call, where there is one.
        Thoughts of earlier replies are left out. With verbatim, replies that know what the model
        wrote (`reply_message`) come back to the letter, thoughts included: that is the text which a
        session has consumed that went from turn to turn.
        """

    @abstractmethod
    def next_turn(
        self, text: str, *, pending: str | bytes = "", mode: str | None = None, role: str = "user"
    ) -> str:
        """What follows a reply that the session has consumed, up to the next reply.

        text: what the user says; or a tool, with the role "tool".
        pending: `session.pending`, the end of the consumed text that was not shown: a stop, or a
            part of one. What it has of the new turn already is not said again.

        For any reply,
        `render(before) + reply + pending + next_turn(text, pending=pending)` is
        `render(before + [reply_message(reply), {"role": "user", "content": text}], verbatim=True)`.
        """

    @staticmethod
    def _text_of(pending: str | bytes) -> str:
        return pending.decode("utf-8", "replace") if isinstance(pending, bytes) else pending

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

    def for_tools(self) -> Template:
        """The template that this one leaves conversations with tools to; mostly itself."""
        return self

    @abstractmethod
    def with_tool_form(self, name: str) -> Template:
        """The same template with tools told in another form: "signatures", "json", "headings"."""

    @property
    @abstractmethod
    def jinja(self) -> str:
        """The Jinja text of the template, for other programs."""

    def mode(self, name: str | None = None, *, tools: Tools = None) -> Mode:
        """The mode called `name`; None is the default, with tools the one that asks for a call."""
        if name is None:
            name = CALL if tools and CALL in self.modes else self.default_mode
        found = self.modes.get(name)
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

    def split_reply(self, text: str, *, mode: str | None = None, tools: Tools = None) -> Reply:
        """`text`, a reply as the model wrote it in `mode`, as thoughts, answer and calls.

        Without `tools`, those that it may call, it is read for calls only in a mode that asks for
        one.
        """
        stream = self.reply_stream(mode=mode, tools=tools)
        stream.push(text)
        stream.finish()
        return stream.reply

    def reply_stream(self, *, mode: str | None = None, tools: Tools = None) -> ReplyStream:
        """Takes a reply apart while it comes: what it gives, joined, is what split_reply gives."""
        names = None if tools is None else [tool.name for tool in read_tools(tools)]
        return ReplyStream(self.begun(self.mode(mode, tools=tools).name), tools=names)

    def reply_message(
        self, text: str, *, mode: str | None = None, tools: Tools = None
    ) -> dict[str, Any]:
        """`text`, a reply as the model wrote it in `mode`, as a message for the history."""
        reply = self.split_reply(text, mode=mode, tools=tools)
        message: dict[str, Any] = {"role": "assistant", "content": reply.content}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.tool_calls:
            message["tool_calls"] = [call.message() for call in reply.tool_calls]
        return message | {"mode": self.mode(mode, tools=tools).name, "generated": text}


EFFORTS: dict[str, tuple[str, ...]] = {  # the first that a template has
    "none": ("fake-think", "chat"),
    "minimal": ("fake-think", "chat"),
    "low": ("think-a-bit", "think"),
    "medium": ("think-medium", "think"),
    "high": ("think-a-lot", "think"),
}

"""A reply taken apart: what the model thought, what it said, what it wants called.

The prompt may have opened the thought (`<think`, without the `>` that the model then chooses), so a
reply is read together with the prompt's own beginning of it. Cut anywhere, the parts joined are
those of the whole: `split` is one push and the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rwkvcpp.templates.calls import CallReader, overlap
from rwkvcpp.templates.messages import ToolCall
from rwkvcpp.templates.tools import FENCE

OPEN, CLOSE = "<think", "</think"

Kind = Literal["reasoning", "content"]


class Delta(NamedTuple):
    """More of a reply: some text of one kind."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Reply:
    """What a model answered. Texts have no blanks around them."""

    reasoning: str = ""
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


class ReplyStream:
    """Takes a reply apart while it comes.

    >>> stream = ReplyStream(" <think")
    >>> stream.push(">Well.</th"), stream.push("ink>\\n\\nYes"), stream.finish()
    ([Delta(kind='reasoning', text='Well.')], [Delta(kind='content', text='Yes')], [])
    """

    def __init__(self, begun: str = "", *, tools: Collection[str] | None = None) -> None:
        """A stream of the reply that the prompt has `begun`.

        tools: the names of functions that may be called; None takes no fence for a call, unless
            the prompt has begun one.
        """
        is_called = begun.rstrip().endswith(FENCE)
        self._calls = (
            None if tools is None and not is_called else CallReader(tools or (), is_begun=is_called)
        )
        self._step: Callable[[bool], bool] = self._opening
        self._held = ""  # not yet told apart
        self._reasoning, self._content = _Trimmed(), _Trimmed()
        self._deltas: list[Delta] = []
        self._deltas = self.push(begun)  # words that a thought began with come with the first push

    def push(self, text: str) -> list[Delta]:
        """What is certain now that `text` has come."""
        return self._advance(text, final=False)

    def finish(self) -> list[Delta]:
        """What was held back, when nothing more will come."""
        return self._advance("", final=True)

    @property
    def reply(self) -> Reply:
        """All that was certain so far; the whole reply after `finish`."""
        return Reply(self._reasoning.text, self._content.text, self.tool_calls)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that are complete."""
        return () if self._calls is None else tuple(self._calls.calls)

    def _advance(self, text: str, *, final: bool) -> list[Delta]:
        self._held += text
        while self._step(final):
            pass
        deltas, self._deltas = self._deltas, []
        return deltas

    # Each step takes what it can from _held, and says whether the next step may go on at once.

    def _opening(self, final: bool) -> bool:
        text = self._held.lstrip()
        if not final and (len(text) <= len(OPEN) and OPEN.startswith(text[: len(OPEN)])):
            return False
        if text.startswith(OPEN) and not text[len(OPEN) : len(OPEN) + 1].isalnum():
            self._held = text[len(OPEN) :].removeprefix(">")
            self._step = self._thinking
        else:
            self._step = self._speaking
        return True

    def _thinking(self, final: bool) -> bool:
        thought, close, rest = self._held.partition(CLOSE)
        if close:
            self._emit("reasoning", self._reasoning.push(thought))
            self._held = rest
            self._step = self._closing
            return True
        n_held = 0 if final else overlap(self._held, CLOSE)
        self._emit("reasoning", self._reasoning.push(thought[: len(thought) - n_held]))
        self._held = thought[len(thought) - n_held :]
        return False

    def _closing(self, final: bool) -> bool:
        if not self._held and not final:
            return False
        self._held = self._held.removeprefix(">")
        self._step = self._speaking
        return True

    def _speaking(self, final: bool) -> bool:
        text, self._held = self._held, ""
        if self._calls is not None:
            text = self._calls.push(text, final=final)
        self._emit("content", self._content.push(text))
        return False

    def _emit(self, kind: Kind, text: str) -> None:
        if text:
            self._deltas.append(Delta(kind, text))


class _Trimmed:
    """Text without the blanks around it: those at an end wait for what follows them."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._blanks = ""

    def push(self, text: str) -> str:
        """What `text` adds."""
        text = self._blanks + text if self._parts else text.lstrip()
        shown = text.rstrip()
        self._blanks = text[len(shown) :]
        if shown:
            self._parts.append(shown)
        return shown

    @property
    def text(self) -> str:
        return "".join(self._parts)


def split(text: str, begun: str = "", *, tools: Collection[str] | None = None) -> Reply:
    """The parts of a whole reply, which the prompt had `begun`."""
    stream = ReplyStream(begun, tools=tools)
    stream.push(text)
    stream.finish()
    return stream.reply

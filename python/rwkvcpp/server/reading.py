"""Reading: a reply taken apart while it comes: thoughts, words, calls, and the client's stops.

Stops of the client count in the words alone: what a model thinks may have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rwkvcpp.stream import TextStream
from rwkvcpp.templates import Delta, ReplyStream, ToolCall

THOUGHT, END_OF_THOUGHT = "<think>", "</think>\n\n"


class Inline:
    """Thoughts as words, in their tags."""

    def __init__(self, *, is_begun: bool = False) -> None:
        """is_begun: whoever asked has written the first tag, and the model goes on behind it."""
        self._is_thinking = self._is_open = is_begun

    def words(self, delta: Delta) -> Delta:
        """What `delta` is among the words."""
        before = ""
        if delta.kind == "reasoning" and not self._is_open:
            before, self._is_thinking, self._is_open = THOUGHT, True, True
        elif delta.kind == "content" and self._is_thinking:
            before, self._is_thinking = END_OF_THOUGHT, False
        return Delta("content", before + delta.text)


class Reading:
    """Texts of a generation in, deltas out; cut anywhere, the deltas joined are the same.

    inline: thoughts are words, too.
    """

    def __init__(
        self, stream: ReplyStream, stops: Sequence[str] = (), *, inline: Inline | None = None
    ) -> None:
        self._stream = stream
        self._inline = inline
        self._words = TextStream(stops)

    @property
    def stopped(self) -> bool:
        """Whether one of the stops came."""
        return self._words.stopped

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that are complete."""
        return self._stream.tool_calls

    def push(self, text: str) -> list[Delta]:
        """What is certain now that `text` has come."""
        return self._read(self._stream.push(text))

    def finish(self) -> list[Delta]:
        """What was held back, when nothing more will come."""
        rest = self._read(self._stream.finish())
        held = self._words.finish()
        return rest + ([Delta("content", held)] if held else [])

    def _read(self, deltas: Sequence[Delta]) -> list[Delta]:
        if self._inline is not None:
            deltas = [self._inline.words(delta) for delta in deltas]
        shown = [
            Delta(kind, self._words.push(text.encode("utf-8")) if kind == "content" else text)
            for kind, text in deltas
        ]
        return [delta for delta in shown if delta.text]


def until_stop(reading: Reading, stops: Sequence[str]) -> Callable[[str], bool] | None:
    """For `Request.until`: whether one of the stops came by now, in a reading of its own."""
    if not stops:
        return None

    def is_enough(text: str) -> bool:
        reading.push(text)
        return reading.stopped

    return is_enough

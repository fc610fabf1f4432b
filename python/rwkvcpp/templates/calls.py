"""Calls of functions in what a model says, told apart from its text while it comes.

A call is JSON with a name and arguments, behind a heading and a fence, in a fence alone if a tool
has that name, or behind `<tool_call>`. Any other fence is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from rwkvcpp.templates.messages import NO_JSON, ToolCall
from rwkvcpp.templates.tools import CALL_HEADING, END, FENCE, read_calls

TAG, END_TAG = "<tool_call>", "</tool_call>"

# What a call may begin with, and where what it begins ends.
OPENINGS = {TAG: re.compile(re.escape(END_TAG)), FENCE: re.compile(r"\n[ \t]*```"),
            END: re.compile(r"\n[ \t]*```")}  # fmt: skip
MARKS = (CALL_HEADING, *OPENINGS)
END_OF_FENCE = OPENINGS[FENCE]
MAYBE_END_OF_FENCE = re.compile(r"\n[ \t]*`{0,2}\Z")


class CallReader:
    """Takes calls out of text that comes in pieces."""

    def __init__(self, names: Collection[str], *, is_begun: bool = False) -> None:
        """A reader of calls of the functions `names`; is_begun: a fence that comes first is one."""
        self.calls: list[ToolCall] = []
        self._names = names
        self._is_begun = is_begun
        self._held = ""
        self._step = self._text

    def push(self, text: str, *, final: bool = False) -> str:
        """The text that is certain to be none of a call; calls are in `calls` by then."""
        self._held += text
        shown = []
        while (piece := self._step(final)) is not None:
            shown.append(piece)
        return "".join(shown)

    # Each step takes what it can from _held and gives the text of it, or None to wait for more.

    def _text(self, final: bool) -> str | None:
        found = [at for mark in MARKS if (at := self._held.find(mark)) >= 0]
        if found:
            self._step = self._beginning
            return self._take(min(found))
        n_held = 0 if final else max(overlap(self._held, mark) for mark in MARKS)
        return self._take(len(self._held) - n_held) or None

    def _beginning(self, final: bool) -> str | None:
        has_heading = self._held.startswith(CALL_HEADING)
        rest = self._held[len(CALL_HEADING) * has_heading :].lstrip() if has_heading else self._held
        opening = next((each for each in OPENINGS if rest.startswith(each)), None)
        could_be = any(each.startswith(rest) for each in OPENINGS)
        said = rest[len(opening or "") :].lstrip()
        if not final and (could_be or (opening and not said)):
            return None
        if opening is None or said[:1] not in ("{", "["):
            return self._no_call()
        start = len(self._held) - len(said)
        end = OPENINGS[opening].search(self._held, start)
        if end is None and not final:
            return None
        is_certain = has_heading or opening == TAG or self._is_begun
        return self._call(start, end.span() if end else None, is_certain)

    def _call(self, start: int, end: tuple[int, int] | None, is_certain: bool) -> str:
        """Keep the call whose JSON begins at `start`, or give its text if it is none."""
        self._step = self._text
        self._is_begun = False
        if end is None:
            end = _end_of_json(self._held, start)
        calls = read_calls(self._held[start : end[0]])
        if not calls or not (is_certain or all(call.name in self._names for call in calls)):
            return self._take(end[1])
        self.calls += calls
        self._take(end[1])
        return ""

    def _no_call(self) -> str:
        """The mark that begins no call; what a fence holds is text up to its end."""
        self._is_begun = False
        mark = next(mark for mark in (CALL_HEADING, TAG, END) if self._held.startswith(mark))
        self._step = self._fence if mark == END else self._text
        return self._take(len(mark))

    def _fence(self, final: bool) -> str | None:
        end = END_OF_FENCE.search(self._held)
        if end:
            self._step = self._text
            return self._take(end.end())
        maybe = None if final else MAYBE_END_OF_FENCE.search(self._held)
        return self._take(maybe.start() if maybe else len(self._held)) or None

    def _take(self, n: int) -> str:
        taken, self._held = self._held[:n], self._held[n:]
        return taken


def _end_of_json(text: str, start: int) -> tuple[int, int]:
    """Where JSON that nothing closes ends, and where what is behind it begins."""
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
    except NO_JSON:
        return len(text), len(text)
    closed = re.compile(r"\s*(```|</tool_call>)?").match(text, end)
    return end, closed.end() if closed else end


def overlap(text: str, mark: str) -> int:
    """The length of the longest end of `text` that `mark` may begin with."""
    longest = min(len(mark) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if mark.startswith(text[-n:])), 0)

"""TokenTrail: which tokens a shown text is made of, when much of what came is not shown.

Thoughts, tags, calls and stops go, blanks are trimmed, and half a character waits for the rest: so
each piece that is shown is looked for in the bytes that came and were not shown yet.
"""

from __future__ import annotations

from collections import deque

from rwkvcpp.engine import TokenEvent


class TokenTrail:
    """Tokens in as they come, and out with the text that they are in."""

    def __init__(self) -> None:
        self._data = b""  # that came behind the text shown last
        self._begin = 0  # where that is in all that came
        self._tokens: deque[tuple[int, int, TokenEvent]] = deque()  # begin, end

    def push(self, event: TokenEvent) -> None:
        """A token came."""
        begin = self._begin + len(self._data)
        self._data += event.data
        self._tokens.append((begin, begin + len(event.data), event))

    def take(self, text: str) -> list[TokenEvent]:
        """The tokens of `text`, which is shown now; what came before it will never be.

        A token that goes on behind it is one of its own.
        """
        shown = text.encode("utf-8", "replace")
        at = self._data.find(shown)
        n_past = len(self._data) if at < 0 else at + len(shown)  # < 0: some bytes were no text
        begin, end = self._begin + max(at, 0), self._begin + n_past
        taken = []
        while self._tokens and self._tokens[0][0] < end:
            _, token_end, event = self._tokens.popleft()
            if token_end > begin:
                taken.append(event)
        self._data, self._begin = self._data[n_past:], end
        return taken

    def skip(self) -> None:
        """What came until now is told in another way."""
        self._begin += len(self._data)
        self._data = b""
        self._tokens.clear()

    @property
    def unshown(self) -> str:
        """What came behind the text that was shown."""
        return self._data.decode("utf-8", "replace")

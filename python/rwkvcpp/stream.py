"""TextStream: token bytes in, text out, never half a character and never part of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text that a reader may see while tokens arrive.

    Bytes that do not yet make a whole UTF-8 character wait for the rest; bytes that never will
    become U+FFFD. The text ends before the first stop string to be complete; what may be the
    beginning of one is held back until that is decided.

    >>> stream = TextStream(["\\n\\n"])
    >>> stream.push(b"Yes.\\n"), stream.push(b"No"), stream.push(b"\\n\\nBut"), stream.stopped
    ('Yes.', '\\nNo', '', True)
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        """A stream that ends before any of the strings in `stop`, none of which may be empty."""
        for text in stop:
            if not isinstance(text, str):
                raise TypeError(f"a stop must be text, got {text!r}")
            if not text:
                raise ValueError("a stop string must not be empty: it would end every text")
        self._stops = tuple(stop)
        # Bytes that are no text stay apart until they are shown: so what was shown can be counted.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._held = ""
        self._n_shown = 0
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether a stop string appeared; nothing is shown from then on."""
        return self._stopped

    @property
    def n_shown(self) -> int:
        """Of the bytes that came, how many the text so far stands for."""
        return self._n_shown

    def push(self, data: bytes) -> str:
        """The text that is certain now that `data` has come."""
        return self._show(self._decoder.decode(data), final=False)

    def finish(self) -> str:
        """The text that was held back, when nothing more will come."""
        return self._show(self._decoder.decode(b"", final=True), final=True)

    def _show(self, text: str, *, final: bool) -> str:
        if self._stopped:
            return ""
        text = self._held + text
        end = self._first_stop(text)
        if end is not None:
            self._stopped, self._held = True, ""
            return self._shown(text[:end])
        n_held = 0 if final else self._undecided(text)
        self._held = text[len(text) - n_held :]
        return self._shown(text[: len(text) - n_held])

    def _shown(self, text: str) -> str:
        data = text.encode("utf-8", "surrogateescape")
        self._n_shown += len(data)
        return data.decode("utf-8", "replace")

    def _first_stop(self, text: str) -> int | None:
        """Where the stop begins that is complete first: however the text arrives, the same one."""
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _undecided(self, text: str) -> int:
        """The length of the longest end of `text` that may begin a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for n in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-n:]) for stop in self._stops):
                return n
        return 0

"""Text in lines that end between words, while it comes piece by piece.

A word waits until it is whole. Lines of code, between fences of three backticks, are left as long
as they are.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.cells import cell_len

FENCE = "```"
LONGEST = 24  # characters that wait for the end of their word: not all languages part words


class WordWrap:
    """Breaks text to lines of a width that may change.

    >>> wrap = WordWrap(lambda: 10)
    >>> wrap.push("The quick bro"), wrap.push("wn fox"), wrap.finish()
    ('The quick', '\\nbrown', ' fox')
    """

    def __init__(self, width: Callable[[], int], column: int = 0) -> None:
        """A wrap for text that begins at `column` of a line."""
        self._width, self._column = width, column
        self._gap = self._word = ""  # what waits: blanks, then the beginning of a word
        self._in_code = False

    def push(self, text: str) -> str:
        """What can be shown now that `text` has come."""
        return "".join(map(self._take, text))

    def finish(self) -> str:
        """The word that still waited."""
        return self._place()

    def _take(self, character: str) -> str:
        if character == "\n":
            shown = self._place() + "\n"
            self._gap, self._column = "", 0
            return shown
        if character.isspace():
            shown = self._place()
            self._gap += character
            return shown
        if cell_len(character) == 2:  # such scripts break anywhere
            shown = self._place()
            self._word = character
            return shown + self._place()
        self._word += character
        return self._place() if len(self._word) == LONGEST else ""

    def _place(self) -> str:
        """The word on this line, or on the next."""
        word, gap, width = self._word, self._gap, self._width()
        if not word:
            return ""
        self._word = self._gap = ""
        if self._column == 0 and not gap and word.startswith(FENCE):
            self._in_code = not self._in_code
        end = self._column + len(gap) + cell_len(word)
        if end > width and self._column > 0 and not self._in_code:
            self._column = cell_len(word)
            return "\n" + word
        self._column = end if end <= width else end % width
        return gap + word

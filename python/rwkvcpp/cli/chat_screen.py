"""What a chat looks like on a terminal of any width."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console

from rwkvcpp.chat import (
    Event,
    Note,
    Problem,
    Reading,
    Said,
    Silent,
    Speaking,
    Table,
    Thought,
    Words,
)
from rwkvcpp.cli.word_wrap import WordWrap

if TYPE_CHECKING:
    from rich.status import Status

# A model's text may hold anything; what would steer a terminal is shown as a replacement character.
UNSHOWABLE = {
    code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
STYLES: dict[type[Event] | None, str | None] = {Thought: "dim italic", Said: None, None: None}
SILENCE = 0.3  # seconds of reading before there is a word about it
NARROW = 60  # columns, below which tables become lists


class Screen:
    """Shows events on a terminal: names bold, thoughts dim, the program's own words coloured."""

    def __init__(self, words: Callable[[], Words]) -> None:
        """A screen for a program that has these words at the moment."""
        self._words = words
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._kind: type[Said] | type[Thought] | None = None  # of what was shown last of an answer
        self._wrap = WordWrap(lambda: self._console.width)
        self._is_speaking = False
        self._reading_since: float | None = None
        self._status: Status | None = None

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Reading):
            self._read(event)
            return
        self.rest()
        match event:
            case Speaking(name):
                self._is_speaking, self._kind = True, None
                name = f"{name}: " if name else ""
                self._out(name, "bold")
                self._wrap = WordWrap(lambda: self._console.width, column=cell_len(name))
            case Said(text) | Thought(text):
                self._say(type(event), text)
            case Silent():
                if self._is_speaking:
                    self._out(self._wrap.finish() + "\n\n", STYLES.get(self._kind))
                self._is_speaking = False
            case Note(text):
                self._console.print(text, style="cyan")
            case Problem(text):
                self._console.print(text, style="yellow")
            case Table(rows):
                self._table(rows)

    def busy(self, text: str) -> Status:
        """A line that says what is waited for, as long as it is entered."""
        from rich.status import Status  # late: the input line is to be there soon

        return Status(text, console=self._console, spinner="line")

    def rest(self) -> None:
        """Nothing is being read any more."""
        if self._status is not None:
            self._status.stop()
        self._status = self._reading_since = None

    def _read(self, event: Reading) -> None:
        now = time.monotonic()
        if self._reading_since is None:
            self._reading_since = now
        if self._status is None and now - self._reading_since > SILENCE:
            self._status = self.busy("")
            self._status.start()
        if self._status is not None:
            self._status.update(self._words()("reading", done=event.done, total=event.total))

    def _say(self, kind: type[Said] | type[Thought], text: str) -> None:
        if self._kind is None:
            text = text.lstrip()
        elif self._kind is not kind:
            self._out(self._wrap.finish() + self._wrap.push("\n\n"), STYLES[self._kind])
        if text:
            self._out(self._wrap.push(text.translate(UNSHOWABLE)), STYLES[kind])
            self._kind = kind

    def _out(self, text: str, style: str | None) -> None:
        if text:
            self._console.out(text, style=style, end="", highlight=False)
            self._console.file.flush()

    def _table(self, rows: tuple[tuple[str, str], ...]) -> None:
        from rich.padding import Padding
        from rich.table import Table as Grid

        if self._console.width < NARROW:
            for name, text in rows:
                self._console.print(name, style="bold")
                self._console.print(Padding(text, (0, 0, 0, 2)))
            return
        grid = Grid.grid(padding=(0, 2))
        grid.add_column(style="bold", max_width=self._console.width // 2)
        grid.add_column()
        for row in rows:
            grid.add_row(*row)
        self._console.print(grid)

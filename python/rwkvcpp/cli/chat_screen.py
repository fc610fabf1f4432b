"""What a chat looks like: events as text on a terminal of any width, or as two streams."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from rwkvcpp.chat import Note, Problem, Said, Silent, Speaking, Table, Thought
from rwkvcpp.chat.events import Event

if TYPE_CHECKING:
    from rich.console import Console

# A model's text may hold anything; what would steer a terminal is shown as a replacement character.
UNSHOWABLE = {
    code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
NARROW = 60  # columns, below which tables become lists


class Screen:
    """Shows events on a terminal: names bold, thoughts dim, the program's own words cyan."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._kind: type[Said] | type[Thought] | None = None  # of what was shown last of an answer
        self._is_speaking = False

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Speaking(name):
                self._is_speaking, self._kind = True, None
                if name:
                    self._console.out(f"{name}: ", style="bold", end="", highlight=False)
            case Said(text) | Thought(text):
                self._say(type(event), text)
            case Silent():
                if self._is_speaking:
                    self._console.out("\n", highlight=False)
                self._is_speaking = False
            case Note(text):
                self._console.print(text, style="cyan")
            case Problem(text):
                self._console.print(text, style="yellow")
            case Table(rows):
                self._table(rows)

    def _say(self, kind: type[Said] | type[Thought], text: str) -> None:
        if self._kind is None:
            text = text.lstrip()
        elif self._kind is not kind:
            self._console.out("\n", highlight=False)
        if text:
            style = "dim italic" if kind is Thought else None
            self._console.out(text.translate(UNSHOWABLE), style=style, end="", highlight=False)
            self._console.file.flush()
            self._kind = kind

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


class Streams:
    """Shows what the model says on one stream, and everything else on the other."""

    def __init__(self, words: TextIO, notes: TextIO | None) -> None:
        self._words, self._notes = words, notes
        self._is_speaking = self._has_spoken = False

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Speaking():
                self._is_speaking, self._has_spoken = True, False
            case Said(text):
                text = text if self._has_spoken else text.lstrip()
                self._has_spoken = self._has_spoken or bool(text)
                print(text, end="", file=self._words, flush=True)
            case Silent():
                if self._is_speaking:
                    print(file=self._words, flush=True)
                self._is_speaking = False
            case Note(text) | Problem(text):
                self._note(text)
            case Table(rows):
                width = max(len(name) for name, _ in rows)
                for name, text in rows:
                    self._note(f"{name:{width}}  {text}")

    def _note(self, text: str) -> None:
        if self._notes is not None:
            print(text, file=self._notes, flush=True)


def streams(*, quiet: bool) -> Streams:
    """Standard output for the model, standard error for the program; nothing of it when quiet."""
    return Streams(sys.stdout, None if quiet else sys.stderr)

"""Bars on standard error: for work that is counted in bytes, and for work in parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

PATIENCE = 0.5  # seconds before a bar is worth drawing
NARROW = 40  # columns, of which per cent take four and bytes up to nineteen


@contextmanager
def byte_progress(what: str, *, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A function of (bytes done, bytes in all) that draws the bar; None when it is not `shown`."""
    if not shown:
        yield None
        return
    from rich.progress import DownloadColumn

    with _bar(what, DownloadColumn(binary_units=True)) as progress:
        yield progress


@contextmanager
def part_progress(what: str, *, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """The same for (parts done, parts in all)."""
    if not shown:
        yield None
        return
    from rich.progress import MofNCompleteColumn

    with _bar(what, MofNCompleteColumn()) as progress:
        yield progress


@contextmanager
def _bar(what: str, counter: ProgressColumn) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True)
    counted = TaskProgressColumn() if console.width < NARROW else counter
    bar = Progress(TextColumn(what), BarColumn(), counted, console=console, transient=True)
    task = bar.add_task(what)
    begun = time.monotonic()

    def progress(done: int, total: int) -> None:
        if time.monotonic() - begun > PATIENCE:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield progress
    finally:
        bar.stop()

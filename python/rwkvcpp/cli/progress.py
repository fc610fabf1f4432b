"""A bar on standard error for work that is counted in bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 0.5  # seconds before a bar is worth drawing


@contextmanager
def byte_progress(what: str, *, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A function of (bytes done, bytes in all) that draws the bar; None when it is not `shown`."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(binary_units=True))
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
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

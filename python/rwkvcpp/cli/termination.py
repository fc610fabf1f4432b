"""Being told to end works as Ctrl-C does: the command unwinds, and what it was writing goes away.

Python raises KeyboardInterrupt for SIGINT alone; the others end a process on the spot, and a file
that is half written stays.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP


@contextmanager
def unwinding() -> Iterator[None]:
    """SystemExit, with the code that a shell gives the signal, instead of an end on the spot."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored (nohup) or has another handler stays so.
    ours = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)

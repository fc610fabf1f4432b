"""Channel: all that an engine and the one who asks share of a request; whoever has it may read it.

A run has a state of many megabytes, and is gone when it ends; a channel may be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue

from rwkvcpp.engine.events import Event


class Channel:
    """Events one way, and the other way that nobody wants them."""

    def __init__(self, notify: Callable[[], object] | None = None) -> None:
        self.events: SimpleQueue[Event | Exception] = SimpleQueue()  # an exception is the last
        self._notify = notify
        self.cancelled = False
        self.ended = False

    def put(self, event: Event | Exception) -> None:
        """An event, for whoever takes them."""
        self.events.put(event)
        if self._notify is not None:
            self._notify()

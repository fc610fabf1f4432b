"""Channel: all that an engine and the one who asks share of a request; whoever has it may read it.

A run has a state of many megabytes, and is gone when it ends; a channel may be kept.
"""

from __future__ import annotations

from queue import SimpleQueue

from rwkvcpp.engine.events import Event


class Channel:
    """Events one way, and the other way that nobody wants them."""

    def __init__(self) -> None:
        self.events: SimpleQueue[Event | Exception] = SimpleQueue()  # an exception is the last
        self.cancelled = False
        self.ended = False

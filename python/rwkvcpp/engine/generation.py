"""Generation: the other end of a request: its events, for any thread, and the way to cancel it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty
from typing import TYPE_CHECKING

from rwkvcpp.engine.channel import Channel
from rwkvcpp.engine.events import EndEvent, Event, PromptEvent, TokenEvent

if TYPE_CHECKING:
    from rwkvcpp.engine.engine import Engine


@dataclass(frozen=True)
class Answer:
    """All events of a generation."""

    prompt: PromptEvent | None  # None when it was cancelled before
    tokens: tuple[TokenEvent, ...]
    end: EndEvent

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(event.text for event in self.tokens) + self.end.text


class Generation:
    """What `engine.submit` gives. Dropped, or left as a context, it is cancelled."""

    def __init__(self, channel: Channel, engine: Engine) -> None:
        self._channel = channel
        self._engine = engine  # which lives as long as somebody wants something of it

    def get(self, timeout: float | None = None) -> Event:
        """The next event, after the last one the EndEvent again; TimeoutError if none comes.

        What went wrong with the request is raised here.
        """
        try:
            event = self._channel.events.get(timeout=timeout)
        except Empty:
            raise TimeoutError(f"no event within {timeout:g} s") from None
        if isinstance(event, TokenEvent | PromptEvent):
            return event
        self._channel.events.put(event)  # for other threads, and for the next time
        if isinstance(event, Exception):
            raise event
        return event

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """The events as they come, up to the EndEvent; TimeoutError when one takes too long.

        After that the generation goes on, and so can another iterator.
        """
        while True:
            event = self.get(timeout)
            yield event
            if isinstance(event, EndEvent):
                return

    def __iter__(self) -> Iterator[Event]:
        return self.events()

    def answer(self, timeout: float | None = None) -> Answer:
        """All events together; TimeoutError unless the end comes within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        prompt: PromptEvent | None = None
        tokens: list[TokenEvent] = []
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            event = self.get(left)
            if isinstance(event, EndEvent):
                return Answer(prompt, tuple(tokens), event)
            if isinstance(event, PromptEvent):
                prompt = event
            else:
                tokens.append(event)

    def cancel(self) -> None:
        """End it, waiting or running, within one step; the EndEvent says "cancelled".

        Nothing happens when it has ended already.
        """
        self._channel.cancelled = True
        self._engine.wake()

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if not self._channel.ended:
            self.cancel()

"""Choices: several generations that answer one request, and their events in the order they come.

Equal prompts (n > 1) are read once: the others follow the first one's prompt, which the prefix
cache then has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import NamedTuple

from rwkvcpp.engine import EndEvent, Engine, Event, Generation, PromptEvent, Request


class Numbered(NamedTuple):
    """An event of one of the choices."""

    choice: int
    event: Event


class Choices:
    """The generations of one request. As a context, they are cancelled at the end.

    requests: each prompt's, as many times as it is to be answered: [[a, a2], [b, b2]] has the
        indices 0, 1, 2 and 3.
    """

    def __init__(self, engine: Engine, requests: Sequence[Sequence[Request]]) -> None:
        self._engine = engine
        self._ready: SimpleQueue[int] = SimpleQueue()
        self._generations: dict[int, Generation] = {}
        self._followers: dict[int, list[tuple[int, Request]]] = {}
        self._n = 0
        self._is_cancelled = False
        try:
            for first, *others in requests:
                index = self._n
                numbered = [(index + 1 + i, other) for i, other in enumerate(others)]
                self._followers[index] = numbered
                self._n += 1 + len(others)
                self._submit(index, first)
        except BaseException:
            self.cancel()
            raise

    def __len__(self) -> int:
        return self._n

    def _submit(self, index: int, request: Request) -> None:
        generation = self._engine.submit(request, notify=partial(self._ready.put, index))
        self._generations[index] = generation
        if self._is_cancelled:
            generation.cancel()

    def events(self, silence: float | None = None) -> Iterator[Numbered | None]:
        """All events, up to the last end; None after each `silence` seconds without one.

        What goes wrong with one of them is raised here.
        """
        n_left = self._n
        while n_left:
            try:
                index = self._ready.get(timeout=silence)
            except Empty:
                yield None
                continue
            event = self._generations[index].get(timeout=0)
            if isinstance(event, PromptEvent):
                self._follow(index)
            yield Numbered(index, event)
            if isinstance(event, EndEvent):
                n_left -= 1
                n_left -= len(self._followers.pop(index, ()))  # cancelled before its prompt

    def _follow(self, index: int) -> None:
        for other, request in self._followers.pop(index, ()):
            self._submit(other, request)

    def cancel(self) -> None:
        """End all of them within one step; from any thread."""
        self._is_cancelled = True
        for generation in list(self._generations.values()):
            generation.cancel()

    def __enter__(self) -> Choices:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

"""Choices: several generations that answer one request, and their events in the order they come.

Equal prompts (n > 1) are read once: the others follow the first one's prompt, which the prefix
cache then has. No request has more of them in the engine than the engine has slots; the rest follow
as these end, so a request of a thousand prompts leaves the line to others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import NamedTuple

from rwkvcpp import Sampler
from rwkvcpp.engine import (
    EndEvent,
    Engine,
    Event,
    Generation,
    PromptEvent,
    QueueFullError,
    Request,
    Usage,
)
from rwkvcpp.engine.request import check_state, checked_tokens
from rwkvcpp.server.record import current_record
from rwkvcpp.server.speeds import Speeds

RETRY = 0.05  # seconds between two tries to join a line that is full


class Numbered(NamedTuple):
    """An event of one of the choices."""

    choice: int
    event: Event


class Choices:
    """The generations of one request. As a context, they are cancelled at the end.

    They are cancelled, too, when the client hangs up of whose request of HTTP they are made, and
    its record counts their tokens.

    requests: each prompt's, as many times as it is to be answered: [[a, a2], [b, b2]] has the
        indices 0, 1, 2 and 3.

    What is wrong with one of them is raised here, QueueFullError if not one gets in.
    """

    def __init__(self, engine: Engine, requests: Sequence[Sequence[Request]]) -> None:
        self._engine = engine
        self._ready: SimpleQueue[int] = SimpleQueue()
        self._generations: dict[int, Generation] = {}
        self._followers: dict[int, list[tuple[int, Request]]] = {}
        self._outside: deque[tuple[int, Request]] = deque()  # who are not in the engine yet
        self.client = requests[0][0].client if requests else ""  # whose they are
        self.speeds = Speeds()
        self._n = 0
        self._n_inside = 0
        self._is_cancelled = self._is_stopped = False
        self.is_over = False  # nobody reads its events any more
        for first, *others in requests:
            index = self._n
            self._followers[index] = [(index + 1 + i, other) for i, other in enumerate(others)]
            self._outside.append((index, first))
            self._n += 1 + len(others)
        for _, request in [*self._outside][engine.max_batch :]:
            _check(request, engine)
        record = current_record()
        self._see = None if record is None else record.see
        self._unwatch = None if record is None else record.watch(self.cancel)
        try:
            self._admit(is_first=True)
        except BaseException:
            self.__exit__()
            raise

    def __len__(self) -> int:
        return self._n

    def events(self, silence: float | None = None) -> Iterator[Numbered | None]:
        """All events, up to the last end; None after each `silence` seconds without one.

        What goes wrong with one of them is raised here.
        """
        n_left = self._n
        while n_left:
            index = self._next(silence)
            if index is None:
                if self._is_cancelled and not self._n_inside:
                    yield from self._never_begun()
                    return
                yield None
                continue
            event = self._generations[index].get(timeout=0)
            self.speeds.see(event)
            if self._see is not None:
                self._see(event)
            if isinstance(event, PromptEvent):
                self._outside.extendleft(reversed(self._followers.pop(index, [])))
            if isinstance(event, EndEvent):
                self._n_inside -= 1
                n_left -= 1
                event = self._as_asked(event)
            self._admit()
            yield Numbered(index, event)

    def cancel(self) -> None:
        """End all of them within one step; from any thread."""
        self._is_cancelled = True
        for generation in list(self._generations.values()):
            generation.cancel()

    def stop(self) -> None:
        """The same because whoever asked has enough: what there is, is the answer."""
        self._is_stopped = True
        self.cancel()

    def __enter__(self) -> Choices:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        if self._unwatch is not None:
            self._unwatch()
        self.cancel()

    def _next(self, silence: float | None) -> int | None:
        """Whose event is the next; None after `silence` seconds, or if nobody is left inside."""
        deadline = None if silence is None else time.monotonic() + silence
        while True:
            pause = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._n_inside:
                if self._is_cancelled:
                    return None
                self._admit()
                pause = RETRY if pause is None else min(RETRY, pause)
            try:
                return self._ready.get(timeout=pause)
            except Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    return None

    def _admit(self, *, is_first: bool = False) -> None:
        """Let in who is outside, as far as there is room."""
        while self._outside and self._n_inside < self._engine.max_batch and not self._is_cancelled:
            index, request = self._outside[0]
            try:
                generation = self._engine.submit(request, notify=partial(self._ready.put, index))
            except QueueFullError:
                if is_first and not self._n_inside:
                    raise
                return
            self._outside.popleft()
            self._n_inside += 1
            self._generations[index] = generation
            if self._is_cancelled:
                generation.cancel()

    def _never_begun(self) -> Iterator[Numbered]:
        """The ends of those who were cancelled outside."""
        for index in range(self._n):
            if index not in self._generations:
                end = EndEvent("", "cancelled", Usage(0, 0, 0))
                yield Numbered(index, self._as_asked(end))

    def _as_asked(self, end: EndEvent) -> EndEvent:
        is_enough = self._is_stopped and end.finish_reason == "cancelled"
        return replace(end, finish_reason="stop") if is_enough else end


def _check(request: Request, engine: Engine) -> None:
    """Raises what the engine would."""
    checked_tokens(request, engine.model)
    check_state(request, engine.model)
    Sampler(request.sampling)

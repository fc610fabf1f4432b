"""Loop: the engine's thread. Each step feeds all who run, together; it sleeps when nobody does.

A step: those who were cancelled leave, those who wait take free slots, then one forward pass with
a row for each who writes and some of the prompts of those who read, then everybody's logits.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.engine.errors import EngineClosedError, QueueFullError
from rwkvcpp.engine.pace import Pace, shares
from rwkvcpp.engine.run import Run
from rwkvcpp.engine.waiting import WaitingLine
from rwkvcpp.prefix_cache import PrefixCache

if TYPE_CHECKING:
    from rwkvcpp.model import Model

Feeding: TypeAlias = "tuple[Run, NDArray[np.int32]]"
Outcome: TypeAlias = "NDArray[np.float32] | Exception"


class Loop:
    """What the thread and those who ask share; `run` is the thread's."""

    def __init__(
        self, model: Model, max_batch: int, max_waiting: int, cache: PrefixCache | None, pace: Pace
    ) -> None:
        self.done = threading.Event()
        self.cache = cache
        self.pace = pace
        self.n_steps = 0
        self.endings: Counter[str] = Counter()
        self._model = model
        self._max_batch, self._max_waiting = max_batch, max_waiting
        self._lock = threading.Lock()  # of the line and of whether it is open
        self._waiting = WaitingLine()
        self._closing = self._stopped = False
        self._running: list[Run] = []
        self._seconds = 1.0  # that a request runs, about
        self._calls: SimpleQueue[None] = SimpleQueue()

    # From any thread

    def submit(self, run: Run) -> None:
        """Let it wait for a slot."""
        with self._lock:
            if self._closing:
                raise EngineClosedError("the engine is closed, expected one that takes requests")
            self._dismiss_cancelled()
            if len(self._waiting) >= self._max_waiting:
                raise QueueFullError(len(self._waiting), max(1.0, self._seconds / self._max_batch))
            self._waiting.put(run)
        self.wake()

    def wake(self) -> None:
        """Have the thread look around. It takes no lock, so a finalizer may call it."""
        self._calls.put(None)

    def counts(self) -> tuple[int, int]:
        """How many run and how many wait."""
        with self._lock:
            return len(self._running), len(self._waiting)

    def close(self) -> None:
        """Take no more requests; the thread ends after the last one."""
        with self._lock:
            self._closing = True
        self.wake()

    def stop(self) -> None:
        """End after this step, whoever runs or waits."""
        self._stopped = True
        self.wake()

    # The thread

    def run(self) -> None:
        """Step after step, until it is closed and everyone is done."""
        error: Exception = EngineClosedError("the engine was closed before the request was done")
        try:
            while self._look_around():
                self._step()
        except Exception as bug:
            error.__cause__ = bug
            raise
        finally:
            self._end_all(error)
            self.done.set()

    def _look_around(self) -> bool:
        """Who leaves and who joins; sleeps as long as nobody runs. False when it is over."""
        while not self._stopped:
            while not self._calls.empty():
                self._calls.get()
            self._leave()
            with self._lock:
                self._dismiss_cancelled()
            self._join()
            if self._running:
                return True
            with self._lock:
                if self._closing and not len(self._waiting):
                    return False
            self._calls.get()
        return False

    def _dismiss_cancelled(self) -> None:
        for run in self._waiting.take_cancelled():
            self._settle(run, run.cancel)

    def _leave(self) -> None:
        for run in self._running:
            if run.cancelled and not run.ended:
                self._settle(run, run.cancel)
        self._running = [run for run in self._running if not run.ended]

    def _join(self) -> None:
        while len(self._running) < self._max_batch:
            with self._lock:
                if not len(self._waiting):
                    return
                run = self._waiting.take()
            run.joined_at = time.monotonic()
            self._settle(run, run.join, self.cache)
            if not run.ended:
                self._running.append(run)

    def _step(self) -> None:
        begun = time.perf_counter()
        feedings = self._feedings()
        n_read = sum(len(tokens) for run, tokens in feedings if run.is_reading)
        for (run, tokens), outcome in zip(feedings, self._forward(feedings), strict=True):
            if isinstance(outcome, Exception):
                self._settle(run, run.fail, outcome)
            else:
                self._settle(run, run.fed, tokens, outcome)
        self.n_steps += 1
        if n_read:
            n_rows = sum(len(tokens) for _, tokens in feedings)
            self.pace.measured(n_rows, time.perf_counter() - begun)

    def _feedings(self) -> list[Feeding]:
        """A token of each who writes; the prompts share what the pace allows."""
        writing = [run for run in self._running if not run.is_reading]
        reading = [run for run in self._running if run.is_reading]
        if reading:  # where there are not rows for all, others are the first next time
            first = self.n_steps % len(reading)
            reading = reading[first:] + reading[:first]
        rows = shares([run.n_wanted for run in reading], self.pace.prompt_rows(len(writing)))
        both = [(run, 1) for run in writing] + list(zip(reading, rows, strict=True))
        return [(run, run.next_tokens(n_rows)) for run, n_rows in both if n_rows]

    def _forward(self, feedings: Sequence[Feeding]) -> list[Outcome]:
        """Logits for each, or what was wrong with it."""
        outcomes: dict[Run, Outcome] = {}
        together = [feeding for feeding in feedings if not feeding[0].wants_all_logits]
        for (run, _), outcome in zip(together, self._forward_together(together), strict=True):
            outcomes[run] = outcome
        for run, tokens in feedings:
            if run.wants_all_logits:
                outcomes[run] = self._forward_all_logits(run, tokens)
        return [outcomes[run] for run, _ in feedings]

    def _forward_together(self, feedings: Sequence[Feeding]) -> list[Outcome]:
        """One pass. If that fails, no state has moved, and each has one of its own."""
        if not feedings:
            return []
        try:
            return [*self._model.forward_batch([(tokens, run.state) for run, tokens in feedings])]
        except Exception as error:
            if len(feedings) == 1:
                return [error]
            return [self._forward_together([feeding])[0] for feeding in feedings]

    def _forward_all_logits(self, run: Run, tokens: NDArray[np.int32]) -> Outcome:
        try:
            return self._model.forward(tokens, run.state, all_logits=True)
        except Exception as error:
            return error

    def _settle(self, run: Run, change: Callable[..., None], *arguments: Any) -> None:
        """What goes wrong with one request ends that one."""
        try:
            change(*arguments)
        except Exception as error:
            run.fail(error)
        if run.ended:
            self.endings[run.ending] += 1
            if run.joined_at:
                self._seconds += 0.1 * (time.monotonic() - run.joined_at - self._seconds)

    def _end_all(self, error: Exception) -> None:
        with self._lock:
            self._closing = True
            waiting = self._waiting.take_all()
        for run in [*self._running, *waiting]:
            if not run.ended:
                self._settle(run, run.fail, error)
        self._running = []

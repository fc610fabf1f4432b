"""Engine: a model that answers many requests at once, from a thread of its own.

What a request gets never depends on the others: results do not depend on how a batch is made up, so
the same request with the same seed gives the same text alone and under load.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rwkvcpp.engine.generation import Generation
from rwkvcpp.engine.loop import Loop
from rwkvcpp.engine.pace import STEP_SECONDS, Pace
from rwkvcpp.engine.request import Request
from rwkvcpp.engine.run import Run
from rwkvcpp.prefix_cache import PrefixCache

if TYPE_CHECKING:
    from rwkvcpp.model import Model


@dataclass(frozen=True)
class EngineStatus:
    """What an engine does now, and what it has done since it was made."""

    running: int
    waiting: int
    steps: int
    endings: Mapping[str, int]  # requests by "stop", "length", "cancelled" and "error"
    rows_per_second: float | None  # of steps that read prompts; None before the first


class Engine:
    """Takes requests and batches them; threads may share one.

    It keeps its model for life. For another model make another engine, send what comes from then on
    there, and `close` this one with some seconds of grace: those who run are served to the end.

    As a context it is closed at the end, without grace. Its thread ends, at the latest, with the
    interpreter.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_batch: int = 16,
        max_waiting: int = 128,
        cache: PrefixCache | None = None,
        use_cache: bool = True,
        step_seconds: float = STEP_SECONDS,
    ) -> None:
        """An engine of `model`, which others may go on using: calls queue for the cores.

        max_batch: requests that run at once.
        max_waiting: requests that wait for one of these places; more are a QueueFullError.
        cache: what prompts begin from, shared with whoever has it; None: one of its own.
        use_cache: False begins without one.
        step_seconds: how long those who write wait for a token while others' prompts are read.
        """
        for name, value in (("max_batch", max_batch), ("max_waiting", max_waiting)):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        if not 0 < step_seconds < float("inf"):
            raise ValueError(f"step_seconds is {step_seconds}, expected more than 0")
        if use_cache and cache is None:
            cache = PrefixCache()
        kept = cache if use_cache else None
        self._model = model
        self._max_batch = max_batch
        self._loop = Loop(model, max_batch, max_waiting, kept, Pace(step_seconds))
        self._thread = threading.Thread(target=self._loop.run, name="rwkvcpp-engine", daemon=True)
        # Forgotten, it ends. The collector must not wait for that: it may hold what the step needs.
        weakref.finalize(self, self._loop.stop)
        # A daemon may be cut off in native code, so the interpreter waits; a thread that runs is
        # never collected, and for one that has run there is nothing to wait for.
        weakref.finalize(self._thread, _end, self._loop)
        self._thread.start()

    @property
    def model(self) -> Model:
        """The model that answers."""
        return self._model

    @property
    def max_batch(self) -> int:
        """Requests that run at once."""
        return self._max_batch

    @property
    def cache(self) -> PrefixCache | None:
        """What the prompts of requests to come begin from; None: from nothing."""
        return self._loop.cache

    @cache.setter
    def cache(self, cache: PrefixCache | None) -> None:
        self._loop.cache = cache

    def submit(self, request: Request, *, notify: Callable[[], object] | None = None) -> Generation:
        """What the request gets, at once and before there is any of it.

        notify: called after each event by the thread that made it, for those who wait for several
            generations; it must be quick.
        QueueFullError when too many wait, EngineClosedError after `close`; what is wrong with the
        request is raised here, too.
        """
        run = Run(request, self._model, notify)
        self._loop.submit(run)
        return Generation(run.channel, self)

    def status(self) -> EngineStatus:
        """Who runs and waits, and counts."""
        loop = self._loop
        return EngineStatus(
            *loop.counts(), loop.n_steps, Counter(loop.endings), loop.pace.rows_per_second
        )

    def wake(self) -> None:
        """Have the thread see who was cancelled, should it sleep."""
        self._loop.wake()

    def close(self, grace: float = 0.0) -> None:
        """Refuse requests from now on, and return when nobody runs or waits.

        After `grace` seconds, and at Ctrl-C, those who are left get an EngineClosedError.
        """
        self._loop.close()
        try:
            self._loop.done.wait(grace)  # not join(): Ctrl-C there has a thread look ended
        finally:
            _end(self._loop)
        self._thread.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(loop: Loop) -> None:
    loop.stop()
    loop.done.wait()

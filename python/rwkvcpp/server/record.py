"""Record: what a request of HTTP has cost so far, and whether its client is still there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from flask import has_request_context, request

from rwkvcpp.engine import Event, PromptEvent, TokenEvent

if TYPE_CHECKING:
    from rwkvcpp.server.disconnects import Disconnects
    from rwkvcpp.server.metrics import Metrics

KEY = "rwkvcpp.record"


class Record:
    """Of one request; the thread that answers it writes."""

    def __init__(
        self, environ: Mapping[str, Any], metrics: Metrics, disconnects: Disconnects
    ) -> None:
        self.begun = time.monotonic()
        self.route = ""  # as the table of routes has it; "" for what is no route
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._environ = environ
        self._metrics = metrics
        self._disconnects = disconnects

    @property
    def seconds(self) -> float:
        """Since the request came."""
        return time.monotonic() - self.begun

    def see(self, event: Event) -> None:
        """An event of the generations that answer the request."""
        if isinstance(event, TokenEvent):
            if not self.completion_tokens:
                self._metrics.first_token(self.seconds)
            self.completion_tokens += 1
            self._metrics.drawn()
        elif isinstance(event, PromptEvent):
            self.prompt_tokens += event.n_tokens
            self._metrics.read(event.n_tokens, event.n_cached)

    def watch(self, on_gone: Callable[[], object]) -> Callable[[], None]:
        """Have the method `on_gone` called when the client hangs up; returns what ends that.

        Its object is not kept.
        """
        call = WeakMethod(on_gone)
        return self._disconnects.watch(self._environ, lambda: (call() or bool)())


def current_record() -> Record | None:
    """That of the request that this thread answers."""
    return request.environ.get(KEY) if has_request_context() else None

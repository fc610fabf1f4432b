"""Service: what all routes share: the model that is served, its engine, and the defaults."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import rwkvcpp
from rwkvcpp.engine import Engine
from rwkvcpp.server.disconnects import Disconnects
from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.metrics import Metrics
from rwkvcpp.server.openai.tool_memory import ToolMemory
from rwkvcpp.server.settings import Settings
from rwkvcpp.templates import Template, choose_template


class Status(IntEnum):
    """As RWKV-Runner counts."""

    OFFLINE = 0
    LOADING = 2
    WORKING = 3


@dataclass(frozen=True)
class Serving:
    """A model that is being served. A request keeps the one that it began with."""

    model: rwkvcpp.Model
    engine: Engine
    template: Template
    created: int  # seconds since 1970

    @property
    def id(self) -> str:
        """What the model is called."""
        return self.model.path.stem


class Service:
    """The model and what was said about it; threads share one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.status = Status.OFFLINE
        self.deploy = settings.deploy  # /switch-model may turn it on, and nothing off
        self.defaults: dict[str, Any] = {}  # fields of requests that /update-config gave
        self.disconnects = Disconnects()
        self.metrics = Metrics(self)
        self.tools_of_calls = ToolMemory()
        self.is_ending = False  # what comes now is refused
        self.on_exit: Callable[[], None] | None = None  # what /exit does, where it can
        self._serving: Serving | None = None
        self._retiring: list[Engine] = []
        self._loading = threading.Lock()
        if not settings.no_model:
            self.load(settings.model, type=settings.type, tokenizer=settings.tokenizer)

    def serving(self) -> Serving:
        """What answers now; ApiError when nothing does."""
        if self._serving is None:
            raise ApiError(400, "model not loaded", code="model_not_loaded")
        return self._serving

    @property
    def is_serving(self) -> bool:
        """Whether there is a model."""
        return self._serving is not None

    def tuned_state(self, name: str) -> rwkvcpp.State:
        """The tuned state of that name, which is loaded; ApiError for others."""
        states = self.serving().model.tuned_states
        if name not in states:
            known = ", ".join(map(repr, states)) or "none"
            message = f"the tuned state {name!r} is not loaded; those that are: {known}"
            raise ApiError(400, message, code="invalid_value", param="state")
        return states[name]

    def load(self, path: Any, **options: Any) -> Serving:
        """Serve another model from now on; if it cannot be loaded, the old one goes on.

        ApiError 304 while another one is being loaded.
        """
        if not self._loading.acquire(blocking=False):
            raise ApiError(304, "another model is being loaded")
        try:
            self.status = Status.LOADING
            new = self._made(rwkvcpp.Model(path, threads=self.settings.threads, **options))
            old, self._serving = self._serving, new
        finally:
            self.status = Status.WORKING if self._serving else Status.OFFLINE
            self._loading.release()
        self._retire(old)
        return new

    def unload(self) -> None:
        """Serve nothing."""
        old, self._serving = self._serving, None
        self.status = Status.OFFLINE
        self._retire(old)

    def close(self, grace: float | None = None) -> None:
        """Take no more requests, and end when those that run have had their grace.

        grace: seconds; None is that of the settings.
        """
        deadline = time.monotonic() + (self.settings.grace if grace is None else grace)
        serving = [] if self._serving is None else [self._serving.engine]
        for engine in [*self._retiring, *serving]:
            engine.close(max(0.0, deadline - time.monotonic()))

    def _made(self, model: rwkvcpp.Model) -> Serving:
        template = self.settings.template
        chosen = model.chat_template if template is None else choose_template(template)
        for state in self.settings.state:
            model.load_tuned_state(state)
        engine = Engine(
            model, max_batch=self.settings.max_batch, max_waiting=self.settings.max_waiting
        )
        return Serving(model, engine, chosen, int(time.time()))

    def _retire(self, old: Serving | None) -> None:
        """Those whom it serves get their answers."""
        if old is not None:
            self._retiring.append(old.engine)
            threading.Thread(
                target=self._close_retired, args=(old.engine,), name="rwkvcpp-retire", daemon=True
            ).start()

    def _close_retired(self, engine: Engine) -> None:
        engine.close(self.settings.grace)
        self._retiring.remove(engine)

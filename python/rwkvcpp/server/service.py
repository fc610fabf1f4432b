"""Service: what all routes share: the model that is served, its engine, and the defaults."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from weakref import WeakSet

import rwkvcpp
from rwkvcpp import PrefixCache, StrategyWarning
from rwkvcpp.engine import Engine
from rwkvcpp.server.active import ActiveRequests
from rwkvcpp.server.disconnects import Disconnects
from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.metrics import Metrics
from rwkvcpp.server.openai.tool_memory import ToolMemory
from rwkvcpp.server.settings import Settings
from rwkvcpp.server.tuned_states import TunedStates
from rwkvcpp.templates import Template, choose_template

logger = logging.getLogger(__name__)


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
    states: TunedStates
    created: int  # seconds since 1970
    notes: tuple[str, ...] = ()  # what is otherwise than whoever asked for it may think

    @property
    def id(self) -> str:
        """What the model is called."""
        return self.model.path.stem

    @property
    def end_of_text(self) -> list[int]:
        """The token that parts texts, where the vocabulary has one."""
        end = self.model.tokenizer.end_of_text
        return [] if end is None else [end]

    def raw_begin(self, wanted: bool | None = None) -> list[int]:
        """What comes before a text that is no conversation: the token that parts texts, or nothing.

        wanted: None is as `rwkvcpp generate` has it: the bundled model's texts begin with that
            token, others' do not.
        """
        if wanted is None:
            wanted = self.template.begin_of_text and not self.template.user
        return self.end_of_text if wanted else []


class Service:
    """The model and what was said about it; threads share one."""

    def __init__(
        self, settings: Settings, *, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Load the model that the settings name.

        progress: called with (bytes done, bytes in all) meanwhile.
        """
        self.settings = settings
        self.deploy = settings.deploy  # /switch-model may turn it on, and nothing off
        self.defaults: dict[str, Any] = {}  # fields of requests that /update-config gave
        self.disconnects = Disconnects()
        self.metrics = Metrics(self)
        self.active = ActiveRequests()
        self.tools_of_calls = ToolMemory()
        self.is_ending = False  # what comes now is refused
        self.on_exit: Callable[[], None] | None = None  # what /exit does, where it can
        self.on_serving: Callable[[Serving], None] | None = None  # told of another model
        self._serving: Serving | None = None
        self._loading = threading.Lock()
        self._keeps_prefixes = True
        self._retired: WeakSet[Engine] = WeakSet()
        if not settings.no_model:
            self._begin(progress)

    def _begin(self, progress: Callable[[int, int], None] | None) -> None:
        settings = self.settings
        made = self._made(
            settings.model,
            type=settings.type,
            strategy=settings.strategy,
            lora=settings.lora,
            tokenizer=settings.tokenizer,
            mmap=settings.mmap,
            progress=progress,
        )
        if made.states.misfits:
            raise made.states.misfits[0]
        self._serving = made

    @property
    def status(self) -> Status:
        """What it is about, as RWKV-Runner counts."""
        if self._loading.locked():
            return Status.LOADING
        return Status.WORKING if self.is_serving else Status.OFFLINE

    @property
    def is_serving(self) -> bool:
        """Whether there is a model."""
        return self._serving is not None

    def serving(self) -> Serving:
        """What answers now; ApiError when nothing does."""
        serving = self._serving
        if serving is not None:
            return serving
        if self.status == Status.LOADING:
            raise ApiError(503, "the model is being loaded", code="loading")
        raise ApiError(400, "model not loaded", code="model_not_loaded")

    # The model

    def load(self, path: Any, **options: Any) -> Serving:
        """Serve another model from now on; if it cannot be loaded, the old one goes on.

        For a while there are both in memory. Requests that have begun end with the old one.
        ApiError 304 while another one is being loaded.
        """
        with self._changing():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", StrategyWarning)  # they are among the notes
                made = self._made(path, **options)
            self._replace(made)
        for note in made.notes:
            logger.warning("%s: %s", made.id, note)
        return made

    def unload(self) -> None:
        """Serve nothing."""
        with self._changing():
            self._replace(None)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        if not self._loading.acquire(blocking=False):
            raise ApiError(304, "another model is being loaded")
        try:
            yield
        finally:
            self._loading.release()

    def _made(self, path: Any, **options: Any) -> Serving:
        settings = self.settings
        model = rwkvcpp.Model(path, threads=settings.threads, **options)
        _ = model.tokenizer  # without one it could not answer
        states = TunedStates(model, settings.state, settings.state_folder)
        asked = settings.template
        template = model.chat_template if asked is None else choose_template(asked)
        engine = Engine(model, max_batch=settings.max_batch, max_waiting=settings.max_waiting)
        notes = (
            *model.strategy_warnings,
            *map(str, states.misfits),
            *self._without_unfit_state(states),
        )
        return Serving(model, engine, template, states, int(time.time()), notes)

    def _without_unfit_state(self, states: TunedStates) -> list[str]:
        """Forget the state that /update-config mounted, if it is none of these, and say so."""
        try:
            states.named(self.defaults.get("state", ""))
        except ApiError as error:
            self.defaults = {**self.defaults, "state": ""}
            return [f"requests begin without a tuned state from now on: {error}"]
        return []

    def _replace(self, new: Serving | None) -> None:
        old, self._serving = self._serving, new
        self.keep_prefixes(self._keeps_prefixes)
        if new is not None and self.on_serving is not None:
            self.on_serving(new)
        if old is not None:
            # Whoever asks it still holds it, and the last one who lets go ends it.
            self._retired.add(old.engine)

    def close(self, grace: float | None = None) -> None:
        """Take no more requests, and end when those that run have had their grace.

        grace: seconds; None is that of the settings.
        """
        deadline = time.monotonic() + (self.settings.grace if grace is None else grace)
        serving = [] if self._serving is None else [self._serving.engine]
        for engine in [*self._retired, *serving]:
            engine.close(max(0.0, deadline - time.monotonic()))

    # What it remembers of prompts

    def keep_prefixes(self, keeps: bool) -> None:
        """Whether requests to come begin from what was read before, and leave what they read."""
        self._keeps_prefixes = keeps
        if self._serving is None:
            return
        engine = self._serving.engine
        if not keeps:
            engine.cache = None
        elif engine.cache is None:
            engine.cache = PrefixCache()

    def forget_prefixes(self) -> None:
        """Remember nothing of what was read until now."""
        if self._serving is not None and self._serving.engine.cache is not None:
            self._serving.engine.cache.clear()

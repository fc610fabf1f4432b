"""Metrics: what Prometheus reads of a server at /metrics, counted as it happens."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from rwkvcpp.server.service import Service

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
RATE_WINDOW = 10.0  # seconds that tokens per second are taken over


class Metrics:
    """The numbers of one app; threads share them."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(EngineNumbers(service))
        self._requests = Counter(
            "rwkvcpp_requests",
            "Requests answered, by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.")
        self._cached_tokens = self._counter(
            "cached_tokens", "Tokens of prompts that the prefix cache had."
        )
        self._completion_tokens = self._counter("completion_tokens", "Tokens drawn.")
        self._refusals = self._counter("queue_refusals", "Requests that found the queue full.")
        self._first_token = self._histogram(
            "first_token_seconds", "From the arrival of a request to its first token."
        )
        self._request_seconds = self._histogram(
            "request_seconds", "From the arrival of a request to the end of its answer."
        )
        self._rate = Rate()
        gauge = self._gauge("tokens_per_second", f"Tokens drawn, over {RATE_WINDOW:g} seconds.")
        gauge.set_function(self._rate.per_second)

    def read(self, n_tokens: int, n_cached: int) -> None:
        """A prompt is read, of which so many tokens cost nothing."""
        self._prompt_tokens.inc(n_tokens)
        self._cached_tokens.inc(n_cached)

    def first_token(self, seconds: float) -> None:
        """The first of an answer is there, so long after the request."""
        self._first_token.observe(seconds)

    def drawn(self) -> None:
        """A token is drawn."""
        self._completion_tokens.inc()
        self._rate.add()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request is done; it took so long."""
        self._requests.labels(method, route, status).inc()
        self._request_seconds.observe(seconds)

    def refused(self) -> None:
        """The queue was full."""
        self._refusals.inc()

    def text(self) -> bytes:
        """What /metrics answers."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help: str) -> Counter:
        return Counter(f"rwkvcpp_{name}", help, registry=self.registry)

    def _gauge(self, name: str, help: str) -> Gauge:
        return Gauge(f"rwkvcpp_{name}", help, registry=self.registry)

    def _histogram(self, name: str, help: str) -> Histogram:
        return Histogram(f"rwkvcpp_{name}", help, buckets=SECONDS, registry=self.registry)


class EngineNumbers(Collector):
    """What the engine and its cache say when somebody asks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """All of them; those of no model are 0."""
        yield GaugeMetricFamily(
            "rwkvcpp_model_loaded", "Whether a model is served.", self._service.is_serving
        )
        if not self._service.is_serving:
            return
        engine = self._service.serving().engine
        status = engine.status()
        yield GaugeMetricFamily("rwkvcpp_running", "Requests that run.", status.running)
        yield GaugeMetricFamily("rwkvcpp_waiting", "Requests that wait.", status.waiting)
        yield CounterMetricFamily("rwkvcpp_steps", "Steps of this model's engine.", status.steps)
        if engine.cache is None:
            return
        cache = engine.cache.stats()
        yield GaugeMetricFamily("rwkvcpp_cache_entries", "Snapshots in memory.", cache.entries)
        yield GaugeMetricFamily("rwkvcpp_cache_bytes", "Their bytes.", cache.nbytes)
        yield CounterMetricFamily("rwkvcpp_cache_hits", "Prompts begun from one.", cache.hits)
        yield CounterMetricFamily("rwkvcpp_cache_misses", "Prompts read whole.", cache.misses)


class Rate:
    """How many a second, lately: counts in seconds, of which the old ones are forgotten."""

    def __init__(self, window: float = RATE_WINDOW) -> None:
        self._window = window
        self._lock = threading.Lock()
        self._counts: deque[tuple[int, int]] = deque()  # second, count

    def add(self) -> None:
        """One more, now."""
        now = int(time.monotonic())
        with self._lock:
            if self._counts and self._counts[-1][0] == now:
                self._counts.append((now, self._counts.pop()[1] + 1))
            else:
                self._forget(now)
                self._counts.append((now, 1))

    def per_second(self) -> float:
        """Over the window."""
        with self._lock:
            self._forget(int(time.monotonic()))
            return sum(count for _, count in self._counts) / self._window

    def _forget(self, now: int) -> None:
        while self._counts and self._counts[0][0] <= now - self._window:
            self._counts.popleft()

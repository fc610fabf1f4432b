"""How many tokens a second: runs of a model that can be timed, and their medians."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from rwkvcpp.model import Model
from rwkvcpp.sampling import SamplingParams
from rwkvcpp.state import State


@dataclass(frozen=True)
class Case:
    """Something to time: run() gives seconds, or with no tokens what it measured, as a roof."""

    name: str
    run: Callable[[], float]
    n_tokens: int = 0
    bytes_read: int = 0
    int8_ops: int = 0

    @property
    def is_timed(self) -> bool:
        return self.n_tokens > 0


@dataclass(frozen=True)
class Figure:
    """The median of a case's runs, and half the distance between the extremes."""

    case: Case
    value: float  # tokens/s, GB/s, Gop/s or a share
    spread: float

    def rate(self, amount: int) -> float:
        """`amount` of a run in giga-units per second."""
        return amount * self.value / self.case.n_tokens / 1e9


def measure(
    cases: Sequence[Case], repeats: int, *, before_each: Callable[[Case], None] = lambda case: None
) -> list[Figure]:
    """Rounds over all cases, after one that warms up: a neighbour's burst meets each of them."""
    rounds = [[_run(case, before_each) for case in cases] for _ in range(1 + repeats)]
    by_case = zip(*rounds[1:], strict=True)
    return [_figure(case, runs) for case, runs in zip(cases, by_case, strict=True)]


def _run(case: Case, before: Callable[[Case], None]) -> float:
    before(case)
    result = case.run()
    return case.n_tokens / result if case.is_timed else result


def _figure(case: Case, values: Sequence[float]) -> Figure:
    return Figure(case, median(values), (max(values) - min(values)) / 2)


def some_tokens(n_vocab: int, n: int) -> list[int]:
    """Any will do, as long as they are the same for all."""
    return [(7919 * i + 13) % n_vocab for i in range(n)]


def prefill_seconds(model: Model, n: int) -> float:
    """Of a prompt of n tokens."""
    tokens, state = some_tokens(model.n_vocab, n), model.initial_state()
    begun = time.perf_counter()
    model.forward(tokens, state)
    return time.perf_counter() - begun


def decode_seconds(model: Model, n: int) -> float:
    """Of n tokens, one by one."""
    tokens, state = some_tokens(model.n_vocab, n), model.initial_state()
    begun = time.perf_counter()
    for token in tokens:
        model.forward([token], state)
    return time.perf_counter() - begun


def generate_seconds(model: Model, n: int) -> float:
    """Of n tokens as users get them: drawn with the default parameters and turned into text."""
    session, sampling = model.session(), SamplingParams(seed=1)
    pieces = session.generate([1], max_tokens=n, sampling=sampling, stop_tokens=())
    begun = time.perf_counter()
    for _ in pieces:
        pass
    return time.perf_counter() - begun


def loop_share(model: Model, n: int) -> float:
    """The share of the time of n generated tokens that is not the model's: Python, sampling, text.

    What comes with each piece of text is forwarded once more at once, on a state of its own, so
    that a neighbour's burst meets both; the median over the pieces counts.
    """
    session, state = model.session(), model.initial_state()
    sampling = SamplingParams(seed=1)
    pieces = session.generate([1], max_tokens=n, sampling=sampling, stop_tokens=())
    n_fed, model_shares = 1, []
    text: str | None = ""
    while text is not None:
        begun = time.perf_counter()
        text = next(pieces, None)
        generated = time.perf_counter() - begun
        if drawn := session.tokens[n_fed:]:
            n_fed += len(drawn)
            model_shares.append(_forward_seconds(model, drawn, state) / generated)
    return 1 - median(model_shares)


def _forward_seconds(model: Model, tokens: Sequence[int], state: State) -> float:
    begun = time.perf_counter()
    for token in tokens:
        model.forward([token], state)
    return time.perf_counter() - begun


def batch_seconds(model: Model, size: int, n_steps: int) -> float:
    """Of n_steps tokens for each of `size` sessions that decode together, after a first one.

    The first brings the memory of new states into being, which costs as much as some tokens.
    """
    states = [model.initial_state() for _ in range(size)]
    tokens = some_tokens(model.n_vocab, size * (n_steps + 1))
    _step_together(model, tokens[:size], states)
    begun = time.perf_counter()
    for start in range(size, len(tokens), size):
        _step_together(model, tokens[start : start + size], states)
    return time.perf_counter() - begun


def _step_together(model: Model, tokens: Sequence[int], states: Sequence[State]) -> None:
    model.forward_batch([([token], state) for token, state in zip(tokens, states, strict=True)])

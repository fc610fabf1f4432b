"""Branching conversations in two threads that share a cache: no bit tells that there is one.

Each thread keeps every conversation twice: with the cache, and without. After each step both have
the same tokens, logits, state and text, whatever the other thread did meanwhile, and however little
the cache may hold.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp import PrefixCache, SamplingParams, Session
from tests.reference.cases import NARROW, Case

BYTES = replace(NARROW, n_vocab=256)  # a vocabulary that needs no file
CASES = [
    Case("4", "bin", "Q5_1", BYTES),
    Case("5.0", "bin", "F16", BYTES),
    Case("5.1", "bin", "F32", BYTES),
    Case("5.2", "bin", "Q8_0", BYTES),
    Case("6", "gguf", "Q4_0", BYTES),
    Case("7", "gguf", "Q5_1", BYTES),
]
TRAINED = [
    "tiny-rwkv-4v0-660K-FP32.bin",
    "tiny-rwkv-5v1-730K-FP32.bin",
    "tiny-rwkv-5v2-730K-Q5_1.bin",
    "tiny-rwkv-6v0-3m-Q5_1.bin",
    "tiny-rwkv-7v0-834K-Q5_1.bin",
]
N_TOKENS = 132


@dataclass(frozen=True)
class Step:
    """One thing that happens to one of the conversations, counted from the last one."""

    what: str  # "begin", "go on", "reply", "fork", "go back", "clear"
    conversation: int
    theme: int  # of a text: there are two, so texts begin alike
    n_tokens: int  # of a text: as lengths differ, texts part anywhere
    at: int  # a place: a boundary, or where to go back to

    @property
    def text(self) -> list[int]:
        theme = self.theme
        return [(i * i * (theme + 3) + 7 * i + theme) % N_TOKENS for i in range(self.n_tokens)]


steps = st.builds(
    Step,
    st.sampled_from(4 * ["begin", "go on", "reply", "go back"] + ["fork", "clear"]),
    st.integers(0, 3),
    st.integers(0, 1),
    st.sampled_from([1, 2, 9, 60, 255, 256, 257, 520]),
    st.integers(0, 600),
)
histories = st.lists(steps, min_size=6, max_size=12)


class Conversations:
    """The conversations of a thread, each with the cache and without."""

    def __init__(self, model: rwkvcpp.Model, cache: PrefixCache) -> None:
        self._model, self._cache = model, cache
        self._pairs: list[tuple[Session, Session]] = []

    def take(self, step: Step) -> None:
        if step.what == "clear":
            self._cache.clear()
            return
        if step.what == "begin" or not self._pairs:
            self._pairs.append((self._model.session(), self._model.session()))
            pair = self._feed(self._pairs[-1], step.text, step.at)
        else:
            pair = self._do(step, self._pairs[-1 - step.conversation % len(self._pairs)])
        assert_same(*pair)

    def _do(self, step: Step, pair: tuple[Session, Session]) -> tuple[Session, Session]:
        if step.what == "go on":
            return self._feed(pair, step.text, step.at)
        if step.what == "reply":
            return self._reply(pair, step)
        if step.what == "fork":
            self._pairs.append((pair[0].fork(), pair[1].fork()))
            return self._feed(self._pairs[-1], step.text, step.at)
        begun = pair[0].tokens[: step.at]  # go back, and from there into another text
        self._pairs.append((self._model.session(), self._model.session()))
        return self._feed(self._pairs[-1], begun + step.text[: 1 + step.at % 7], len(begun))

    def _feed(
        self, pair: tuple[Session, Session], tokens: list[int], place: int
    ) -> tuple[Session, Session]:
        boundaries = [place] if place <= len(tokens) else []
        n_cached = self._cache.prefill(pair[0], tokens, boundaries=boundaries)
        assert 0 <= n_cached <= len(tokens)
        pair[1].feed(tokens)
        return pair

    def _reply(self, pair: tuple[Session, Session], step: Step) -> tuple[Session, Session]:
        sampling = SamplingParams(temperature=1.2, top_p=0.9, seed=step.at)
        replies = ["".join(s.generate(max_tokens=5, sampling=sampling)) for s in pair]
        assert replies[0] == replies[1]
        self._cache.store(pair[0])
        return pair


def assert_same(cached: Session, plain: Session) -> None:
    assert cached.tokens == plain.tokens
    assert cached.logits.tobytes() == plain.logits.tobytes()
    assert cached.state.to_bytes() == plain.state.to_bytes()
    assert (cached.text, cached.pending) == (plain.text, plain.pending)


def run_together(model: rwkvcpp.Model, cache: PrefixCache, both: list[list[Step]]) -> None:
    """Each history in a thread of its own."""
    barrier = threading.Barrier(len(both))
    failures: list[BaseException] = []

    def live(history: list[Step]) -> None:
        try:
            barrier.wait()
            conversations = Conversations(model, cache)
            for step in history:
                conversations.take(step)
        except BaseException as error:  # raised by the main thread
            failures.append(error)

    threads = [threading.Thread(target=live, args=(history,)) for history in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check_histories(model: rwkvcpp.Model, folder: Path, *, n_examples: int) -> None:
    n_bytes = model.initial_state().nbytes + 4 * model.n_vocab
    # Room for everything, for little, for one and for none; with a folder for more, or less.
    budgets = st.sampled_from([2**28, 4 * n_bytes, n_bytes + 4096, 0])
    folders = st.sampled_from([None, folder])

    @settings(
        max_examples=n_examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(histories, histories, budgets, folders, budgets)
    def check(one, two, budget, directory, disk_budget) -> None:
        cache = PrefixCache(budget, directory, disk_budget=disk_budget)
        run_together(model, cache, [one, two])
        stats = cache.stats()
        assert stats.nbytes <= budget
        assert directory is None or stats.file_bytes <= disk_budget

    check()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_cache_changes_no_bit(case: Case, model_file: Callable[[Case], Path], tmp_path) -> None:
    check_histories(rwkvcpp.Model(model_file(case)), tmp_path, n_examples=30)


@pytest.mark.parametrize("name", TRAINED)
def test_a_cache_changes_no_bit_of_trained_models(shared: Path, name: str, tmp_path) -> None:
    check_histories(rwkvcpp.Model(shared / "models" / name), tmp_path, n_examples=10)


def test_histories_do_meet_what_was_kept(model_file, tmp_path) -> None:
    """Or the tests above would say little."""
    model = rwkvcpp.Model(model_file(CASES[-1]))
    hits, misses, saved = [], [], []

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(histories, histories)
    def check(one, two) -> None:
        cache = PrefixCache()
        run_together(model, cache, [one, two])
        stats = cache.stats()
        hits.append(stats.hits)
        misses.append(stats.misses)
        saved.append(stats.tokens_saved)

    check()
    assert sum(hits) > sum(misses) / 2
    assert sum(saved) > 20 * sum(hits)

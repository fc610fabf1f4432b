"""Requests that come, go and share an engine at random: whoever stays gets what he would get alone.

Threads submit, wait and cancel at any moment, while the cache is small, large or off and prompts
begin alike. Texts, logprobs and states are compared with those of a session of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp import PrefixCache, SamplingParams
from rwkvcpp.engine import Engine, Request
from tests.reference.cases import NARROW, Case

BYTES = replace(NARROW, n_vocab=256)  # a vocabulary that needs no file
CASES = [
    Case("4", "bin", "Q8_0", BYTES),
    Case("5.2", "bin", "Q5_1", BYTES),
    Case("6", "gguf", "F16", BYTES),
    Case("7", "gguf", "Q4_0", BYTES),
]
PATIENCE = 30


@dataclass(frozen=True)
class Visit:
    """One request, who comes with it and when, and when he loses patience."""

    theme: int  # of the prompt: there are three, so prompts begin alike
    n_tokens: int
    max_tokens: int
    seed: int
    stop: str
    continues: bool  # a state
    scored: bool
    use_cache: bool
    pause: float  # before it comes
    leaves_after: int | None  # events; None stays to the end

    def request(self, state: rwkvcpp.State) -> Request:
        return Request(
            tokens=[(i * i * (self.theme + 3) + 7 * i) % 250 for i in range(self.n_tokens)],
            state=state if self.continues else None,
            max_tokens=self.max_tokens,
            sampling=SamplingParams(top_p=0.95, frequency_penalty=0.2, seed=self.seed),
            stop=[self.stop],
            stop_tokens=[],
            prompt_logprobs=1 if self.scored else None,
            logprobs=0,
            return_state=True,
            use_cache=self.use_cache,
            client=str(self.theme),
        )


visits = st.builds(
    Visit,
    st.integers(0, 2),
    st.integers(1, 60) | st.integers(250, 300),
    st.integers(0, 12),
    st.integers(0, 3),
    st.sampled_from(["e", "\x01", "qu"]),
    st.booleans(),
    st.sampled_from([False, False, True]),
    st.booleans(),
    st.sampled_from([0.0, 0.0, 0.001, 0.01]),
    st.none() | st.integers(0, 6),
)


@dataclass(frozen=True)
class Outcome:
    """What one visitor saw."""

    tokens: list[int]
    text: str
    reason: str | None
    state: bytes


def visited(engine: Engine, request: Request, visit: Visit) -> Outcome | None:
    """None for one that did not wait for the end."""
    generation = engine.submit(request)
    if visit.leaves_after is None:
        answer = generation.answer(PATIENCE)
        state = answer.end.state.to_bytes()
        tokens = [event.token for event in answer.tokens]
        return Outcome(tokens, answer.text, answer.end.finish_reason, state)
    for n_seen, _ in enumerate(generation.events(PATIENCE)):
        if n_seen == visit.leaves_after:
            break
    generation.cancel()
    assert generation.answer(PATIENCE).end.finish_reason in ("cancelled", "stop", "length")
    return None


def alone(model: rwkvcpp.Model, request: Request) -> Outcome:
    session = model.session(request.state)
    text = "".join(
        session.generate(
            request.tokens,
            max_tokens=request.max_tokens,
            sampling=request.sampling,
            stop=request.stop,
            stop_tokens=request.stop_tokens,
        )
    )
    tokens = session.tokens[len(request.tokens) :]
    return Outcome(tokens, text, session.finish_reason, session.state.to_bytes())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.version)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    parties=st.lists(st.lists(visits, min_size=1, max_size=6), min_size=1, max_size=4),
    max_batch=st.integers(1, 6),
    budget=st.sampled_from([0, 400_000, 2**28]),
)
def test_whoever_stays_gets_what_he_would_get_alone(
    case: Case,
    parties: list[list[Visit]],
    max_batch: int,
    budget: int,
    model_file: Callable[[Case], Path],
) -> None:
    model = rwkvcpp.Model(model_file(case))
    state = model.initial_state()
    model.forward([3, 1, 4], state)
    seen: list[tuple[Visit, Outcome | None]] = []

    def party(engine: Engine, plan: list[Visit]) -> None:
        for visit in plan:
            time.sleep(visit.pause)
            seen.append((visit, visited(engine, visit.request(state), visit)))

    with Engine(model, max_batch=max_batch, cache=PrefixCache(budget=budget)) as engine:
        threads = [threading.Thread(target=party, args=(engine, plan)) for plan in parties]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    status = engine.status()
    assert len(seen) == sum(map(len, parties)) == sum(status.endings.values())
    assert status.running == status.waiting == 0
    for visit, outcome in seen:
        if outcome is not None:
            assert outcome == alone(model, visit.request(state))

"""Many requests at once: each gets what it would get alone, and none disturbs another."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp import ApproximateStateWarning, PrefixCache, SamplingParams, StateError
from rwkvcpp.engine import (
    EndEvent,
    Engine,
    EngineClosedError,
    PromptEvent,
    QueueFullError,
    Request,
    TokenEvent,
)
from rwkvcpp.engine.run import Run
from rwkvcpp.predictions import log_softmax
from rwkvcpp.prefix_cache import SPACING
from tests.reference.cases import NARROW, Case

PATIENCE = 30  # seconds until a test fails that would wait for ever
BYTES = replace(NARROW, n_vocab=256)  # a vocabulary that needs no file
CASES = [
    Case("4", "bin", "Q5_1", BYTES),
    Case("5.1", "bin", "F32", BYTES),
    Case("5.2", "bin", "Q8_0", BYTES),
    Case("6", "gguf", "Q4_0", BYTES),
    Case("7", "gguf", "Q5_1", BYTES),
]
WARM = SamplingParams(
    top_p=0.9, presence_penalty=0.3, frequency_penalty=0.2, penalty_decay=0.99, seed=5
)


@pytest.fixture(scope="module")
def model() -> rwkvcpp.Model:
    return rwkvcpp.Model()


@pytest.fixture
def engine(model):
    with Engine(model) as engine:
        yield engine


def prompt(n_tokens: int, kind: int = 0) -> list[int]:
    return [1 + (i * i * 31 + (17 + kind) * i + kind) % 250 for i in range(n_tokens)]


def request(n_tokens: int = 20, kind: int = 0, **options) -> Request:
    options = {"sampling": replace(WARM, seed=kind), "max_tokens": 12} | options
    return Request(tokens=prompt(n_tokens, kind), **options)


def alone(model: rwkvcpp.Model, wanted: Request) -> rwkvcpp.Session:
    """A session that did by itself what a request asks for."""
    session = model.session(wanted.state)
    session.shown = "".join(
        session.generate(
            wanted.tokens,
            max_tokens=wanted.max_tokens,
            sampling=wanted.sampling,
            stop=wanted.stop,
            stop_tokens=wanted.stop_tokens,
        )
    )
    return session


class Gate:
    """Lets an engine make one step of the model at a time, and knows who was in it."""

    def __init__(self, model: rwkvcpp.Model) -> None:
        self.steps: list[list[int]] = []  # tokens of each segment
        self.positions: list[list[int]] = []  # where each begins
        self.arrived = threading.Semaphore(0)
        self._free = threading.Semaphore(0)
        self._open = False
        self._forward_batch = model.forward_batch

    def __call__(self, segments):
        self.steps.append([len(tokens) for tokens, _ in segments])
        self.positions.append([state.n_tokens for _, state in segments])
        self.arrived.release()
        assert self._open or self._free.acquire(timeout=PATIENCE)
        return self._forward_batch(segments)

    def wait(self) -> None:
        """Until a step is about to be made."""
        assert self.arrived.acquire(timeout=PATIENCE)

    def step(self) -> None:
        """Make it, and wait for the next."""
        self._free.release()
        self.wait()

    def open(self) -> None:
        self._open = True
        self._free.release()


@pytest.fixture
def gate(model, monkeypatch):
    gate = Gate(model)
    monkeypatch.setattr(model, "forward_batch", gate)
    yield gate
    gate.open()


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.001)


# ---- what a request gets ---------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.version)
@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
def test_under_load_everyone_gets_what_he_would_get_alone(case, use_cache, model_file):
    model = rwkvcpp.Model(model_file(case))
    wanted = [
        request(1 + 37 * kind % 90, kind % 5, max_tokens=3 + kind % 4 * 5, return_state=True)
        for kind in range(24)
    ]
    with Engine(model, max_batch=7, use_cache=use_cache) as engine:
        generations = [engine.submit(each) for each in wanted]
        answers = [each.answer(PATIENCE) for each in generations]
    for each, answer in zip(wanted, answers, strict=True):
        session = alone(model, each)
        drawn = [event.token for event in answer.tokens]
        assert drawn == session.tokens[len(each.tokens) :]
        assert answer.text == session.shown
        assert answer.end.finish_reason == session.finish_reason
        assert answer.end.state.to_bytes() == session.state.to_bytes()


def test_events_come_in_order_and_their_texts_are_the_text(model, engine):
    wanted = request(stop=["e"], max_tokens=100)
    events = list(engine.submit(wanted))
    assert isinstance(events[0], PromptEvent)
    assert all(isinstance(event, TokenEvent) for event in events[1:-1])
    assert isinstance(events[-1], EndEvent)
    session = alone(model, wanted)
    assert "".join(event.text for event in events[1:]) == session.shown
    data = b"".join(model.tokenizer.token_bytes(event.token) for event in events[1:-1])
    assert b"".join(event.data for event in events[1:-1]) == data
    assert session.finish_reason == events[-1].finish_reason == "stop"
    assert events[-1].stop_token is None
    n_drawn = len(session.tokens) - len(wanted.tokens)
    assert events[-1].usage.completion_tokens == n_drawn == len(events) - 2


def test_a_stop_token_ends_the_text_and_is_not_shown(model, engine):
    first = engine.submit(request()).answer(PATIENCE)
    stop = first.tokens[4].token
    at = [event.token for event in first.tokens].index(stop)
    answer = engine.submit(request(stop_tokens=[stop], return_state=True)).answer(PATIENCE)
    assert [event.token for event in answer.tokens] == [e.token for e in first.tokens[:at]]
    assert (answer.end.finish_reason, answer.end.stop_token) == ("stop", stop)
    assert answer.end.usage.completion_tokens == at + 1
    assert answer.end.state.n_tokens == 20 + at + 1


def test_a_request_ends_when_it_is_enough(model, engine):
    session = alone(model, request())
    seen: list[str] = []

    def is_enough(text: str) -> bool:
        seen.append(text)
        return len(seen) == 3

    answer = engine.submit(request(until=is_enough, return_state=True)).answer(PATIENCE)
    assert answer.end.finish_reason == "stop"
    assert "".join(seen) == answer.text == session.shown[: len(answer.text)] != ""
    assert answer.end.state.n_tokens == 20 + len(answer.tokens)


def test_events_are_announced_one_by_one(engine):
    announced = threading.Semaphore(0)
    generation = engine.submit(request(), notify=announced.release)
    answer = generation.answer(PATIENCE)
    assert all(announced.acquire(timeout=PATIENCE) for _ in range(len(answer.tokens) + 2))
    assert not announced.acquire(blocking=False)


def test_logprobs_are_of_the_logits_as_they_are(model, engine):
    wanted = request(logprobs=3, prompt_logprobs=2, max_tokens=5)
    answer = engine.submit(wanted).answer(PATIENCE)
    drawn = [event.token for event in answer.tokens]
    tokens = [*wanted.tokens, *drawn]
    rows = model.forward(tokens, model.initial_state(), all_logits=True)
    expected = log_softmax(rows)
    told = [*answer.prompt.logprobs, *(event.logprob for event in answer.tokens)]
    assert told[0] is None
    for i, logprob in enumerate(told[1:]):
        assert logprob.token == tokens[i + 1]
        assert logprob.logprob == expected[i, tokens[i + 1]]
        n_top = 2 if i + 1 < len(wanted.tokens) else 3
        best = np.argsort(-expected[i], kind="stable")[:n_top]
        assert logprob.top == tuple((int(token), expected[i, token]) for token in best)


def test_the_stop_token_has_a_logprob_too(engine):
    drawn = engine.submit(request(logprobs=2, stop_tokens=[])).answer(PATIENCE).tokens
    wanted = request(logprobs=2, stop_tokens=[drawn[3].token])
    answer = engine.submit(wanted).answer(PATIENCE)
    n_shown = len(answer.tokens)
    assert answer.end.stop_logprob == drawn[n_shown].logprob
    silent = engine.submit(request(stop_tokens=[drawn[3].token])).answer(PATIENCE)
    assert silent.end.stop_token is not None
    assert silent.end.stop_logprob is None


def test_a_prompt_may_be_scored_and_nothing_drawn(model, engine):
    wanted = request(300, max_tokens=0, prompt_logprobs=0)
    answer = engine.submit(wanted).answer(PATIENCE)
    assert (answer.tokens, answer.text, answer.end.finish_reason) == ((), "", "length")
    assert [p.token for p in answer.prompt.logprobs[1:]] == wanted.tokens[1:]
    assert all(p.top == () for p in answer.prompt.logprobs[1:])
    again = engine.submit(wanted).answer(PATIENCE)  # what the cache has is no help
    assert again.prompt == answer.prompt
    assert again.end.usage.cached_tokens == 0


def test_a_returned_state_goes_on(model, engine):
    first = engine.submit(request(return_state=True, stop_tokens=[])).answer(PATIENCE)
    state = first.end.state
    wanted = request(9, kind=3, state=state, return_state=True)
    second = engine.submit(wanted).answer(PATIENCE)
    session = alone(model, wanted)
    assert second.text == session.shown
    assert second.end.state.to_bytes() == session.state.to_bytes()
    assert state.n_tokens == 20 + 12  # the request had a copy


def test_penalties_count_the_tokens_that_are_named(model, engine):
    greedy = SamplingParams(temperature=0, presence_penalty=50)
    usual = engine.submit(request(sampling=greedy, max_tokens=1)).answer(PATIENCE)
    first = usual.tokens[0].token
    other = engine.submit(request(sampling=greedy, max_tokens=1, penalized=[first]))
    assert other.answer(PATIENCE).tokens[0].token != first


def test_the_order_of_arrival_and_the_pace_make_no_difference(model):
    wanted = [request(50 + 40 * kind, kind, logprobs=1) for kind in range(6)]
    texts = []
    for order, seconds in ((1, 0.2), (-1, 1e-6)):
        with Engine(model, max_batch=3, step_seconds=seconds, use_cache=False) as engine:
            generations = [engine.submit(each) for each in wanted[::order]]
            answers = [each.answer(PATIENCE) for each in generations]
        texts.append([(a.text, a.tokens) for a in answers[::order]])
    assert texts[0] == texts[1]


# ---- the cache -------------------------------------------------------------------------------


def test_what_was_read_is_not_read_again(model, engine):
    wanted = request(2 * SPACING + 9)
    first = engine.submit(wanted).answer(PATIENCE)
    again = engine.submit(wanted).answer(PATIENCE)
    assert (first.prompt.n_cached, again.prompt.n_cached) == (0, 2 * SPACING + 9)
    assert again.end.usage.cached_tokens == 2 * SPACING + 9
    assert (again.text, again.tokens) == (first.text, first.tokens)


def test_a_reply_and_boundaries_are_known_too(engine):
    wanted = request(90, boundaries=[40])
    answer = engine.submit(wanted).answer(PATIENCE)
    reply = [*wanted.tokens, *(event.token for event in answer.tokens)]
    assert answer.end.stop_token is None
    for tokens, n_cached in (([*reply, 7, 7], len(reply)), ([*reply[:60], 3], 40)):
        known = engine.submit(Request(tokens=tokens, max_tokens=0)).answer(PATIENCE)
        assert known.prompt.n_cached == n_cached


def test_no_cache_is_used_where_none_is_wanted(model, engine):
    for options in ({"use_cache": False}, {}, {"use_cache": False}):
        answer = engine.submit(request(**options)).answer(PATIENCE)
        assert answer.prompt.n_cached == 0
    assert engine.submit(request()).answer(PATIENCE).prompt.n_cached == 20
    cache, engine.cache = engine.cache, None
    assert engine.submit(request()).answer(PATIENCE).prompt.n_cached == 0
    engine.cache = cache
    assert engine.submit(request()).answer(PATIENCE).prompt.n_cached == 20
    with Engine(model, use_cache=False, cache=cache) as other:
        assert other.cache is None
    with Engine(model, cache=cache) as other:
        assert other.submit(request()).answer(PATIENCE).prompt.n_cached == 20


def test_each_initial_state_has_snapshots_of_its_own(model, engine):
    state = model.initial_state()
    model.forward([5, 6, 7], state)
    engine.submit(request()).answer(PATIENCE)
    for n_cached in (0, 20):
        answer = engine.submit(request(state=state)).answer(PATIENCE)
        assert answer.prompt.n_cached == n_cached
        assert answer.text == alone(model, request(state=state)).shown


def test_a_state_that_is_not_exact_is_served_and_not_kept(model, engine):
    state = model.initial_state()
    model.forward([5, 6, 7], state)
    with pytest.warns(ApproximateStateWarning):
        half = rwkvcpp.Model().state_from_bytes(state.to_bytes(dtype="float16"))
    for _ in range(2):
        assert engine.submit(request(state=half)).answer(PATIENCE).prompt.n_cached == 0
    assert engine.cache.stats().entries == 0


# ---- cancelling ------------------------------------------------------------------------------


def test_one_that_writes_is_out_of_the_next_step(model, gate):
    with Engine(model) as engine:
        stays, goes = (engine.submit(request(kind=k, max_tokens=99)) for k in range(2))
        gate.wait()
        while gate.steps[-1] != [1, 1]:
            gate.step()
        goes.cancel()
        gate.step()
        assert gate.steps[-1] == [1]
        answer = goes.answer(PATIENCE)
        assert answer.end.finish_reason == "cancelled"
        assert answer.end.usage.completion_tokens == len(answer.tokens) > 0
        gate.open()
        assert stays.answer(PATIENCE).text == alone(model, request(max_tokens=99)).shown


def test_one_that_reads_is_out_of_the_next_step(model, gate):
    with Engine(model) as engine:
        stays = engine.submit(request(max_tokens=30))
        goes = engine.submit(request(4000, 1))
        gate.wait()
        while len(gate.steps[-1]) < 2:
            gate.step()
        goes.cancel()
        gate.step()
        assert len(gate.steps[-1]) == 1
        answer = goes.answer(PATIENCE)
        assert (answer.prompt, answer.tokens) == (None, ())
        assert answer.end.finish_reason == "cancelled"
        gate.open()
        assert stays.answer(PATIENCE).text == alone(model, request(max_tokens=30)).shown


def test_one_that_waits_never_runs(model, gate):
    with Engine(model, max_batch=1) as engine:
        first = engine.submit(request(max_tokens=5))
        gate.wait()
        second, third = engine.submit(request(kind=1)), engine.submit(request(kind=2))
        second.cancel()
        gate.step()
        assert second.answer(PATIENCE).end.finish_reason == "cancelled"
        gate.open()
        assert first.answer(PATIENCE).end.finish_reason == "length"
        assert third.answer(PATIENCE).text == alone(model, request(kind=2)).shown
    assert engine.status().endings == {"cancelled": 1, "length": 2}


def test_a_generation_that_is_left_or_dropped_is_cancelled(engine):
    with engine.submit(request(max_tokens=10**6, stop_tokens=[])) as generation:
        generation.get(PATIENCE)
    until(lambda: engine.status().endings["cancelled"] == 1)
    generation = engine.submit(request(max_tokens=10**6, stop_tokens=[]))
    generation.get(PATIENCE)
    del generation
    gc.collect()
    until(lambda: engine.status().endings["cancelled"] == 2)
    until(lambda: engine.status().running == 0)


def test_cancelling_what_has_ended_changes_nothing(engine):
    generation = engine.submit(request())
    answer = generation.answer(PATIENCE)
    generation.cancel()
    assert generation.get(PATIENCE) is answer.end
    assert engine.submit(request()).answer(PATIENCE).text == answer.text
    engine.close()
    assert engine.status().endings == {"length": 2}


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_thousand_that_come_and_go_leave_nothing(engine):
    kept = []

    def come_and_go(n: int) -> None:
        for kind in range(n):
            generation = engine.submit(request(10 + kind % 300, kind, max_tokens=1000))
            if kind % 3 == 0:
                generation.get(PATIENCE)
            generation.cancel()
            kept.append(generation)  # which costs no state
            if kind % 50 == 49:
                generation.answer(PATIENCE)
        until(lambda: engine.status().running == engine.status().waiting == 0)

    engine.cache = PrefixCache(budget=2**20)
    come_and_go(200)
    gc.collect()
    n_threads, n_bytes = threading.active_count(), resident_bytes()
    come_and_go(1000)
    gc.collect()
    assert threading.active_count() == n_threads
    assert resident_bytes() < 1.05 * n_bytes
    assert [thing for thing in gc.get_objects() if isinstance(thing, Run)] == []
    assert all(generation.answer(PATIENCE).end for generation in kept)


# ---- waiting ---------------------------------------------------------------------------------


def test_too_many_are_told_when_to_come_back(model, gate):
    with Engine(model, max_batch=1, max_waiting=2) as engine:
        running = engine.submit(request())
        gate.wait()
        waiting = [engine.submit(request(kind=kind)) for kind in (1, 2)]
        with pytest.raises(QueueFullError, match="2 requests are waiting") as refusal:
            engine.submit(request())
        assert refusal.value.retry_after >= 1
        waiting[0].cancel()
        late = engine.submit(request(kind=3))  # at once, though no step was made
        gate.open()
        answers = [each.answer(PATIENCE) for each in (running, waiting[1], late)]
    expected = [alone(model, request(kind=kind)).shown for kind in (0, 2, 3)]
    assert [answer.text for answer in answers] == expected


def test_clients_take_turns(model, gate):
    clients = ["a", "a", "a", "b", "b", "c"]  # the first has a prompt of 2 tokens, the next of 3
    with Engine(model, max_batch=1, use_cache=False) as engine:
        first = engine.submit(request(1, max_tokens=1))
        gate.wait()
        waiting = [
            engine.submit(request(2 + i, max_tokens=1, client=client))
            for i, client in enumerate(clients)
        ]
        gate.open()
        for generation in [first, *waiting]:
            generation.answer(PATIENCE)
    order = [n_tokens - 2 for (n_tokens,) in gate.steps[1:]]
    assert [f"{clients[i]}{i}" for i in order] == ["a0", "b3", "c5", "a1", "b4", "a2"]


def test_newcomers_join_while_others_write_and_take_their_places(model, gate):
    with Engine(model, max_batch=2, use_cache=False) as engine:
        short = engine.submit(request(8, 1, max_tokens=3))
        long = engine.submit(request(8, 2, max_tokens=40))
        late = engine.submit(request(8, 3, max_tokens=3))
        gate.wait()
        gate.open()
        for generation in (short, late, long):
            generation.answer(PATIENCE)
    assert max(map(len, gate.steps)) == 2
    assert [1, 8] in gate.steps  # the late one's prompt beside the long one's token


def test_prompts_that_are_read_share_the_rows(model, gate):
    with Engine(model, use_cache=False) as engine:
        generations = [engine.submit(request(400, kind, max_tokens=1)) for kind in range(3)]
        gate.wait()
        while len(gate.steps[-1]) < 3:
            gate.step()
        for _ in range(3):
            assert len(gate.steps[-1]) == 3
            assert max(gate.steps[-1]) - min(gate.steps[-1]) <= 1
            gate.step()
        gate.open()
        for generation in generations:
            generation.answer(PATIENCE)


def test_where_there_are_not_rows_for_all_they_take_turns(model, gate, monkeypatch):
    with Engine(model, use_cache=False) as engine:
        monkeypatch.setattr(engine._loop.pace, "prompt_rows", lambda _: 1)
        first = engine.submit(request(6, max_tokens=0))
        gate.wait()
        others = [engine.submit(request(6, kind, max_tokens=0)) for kind in (1, 2, 3)]
        gate.open()
        for generation in (first, *others):
            generation.answer(PATIENCE)
    positions = [position for (position,) in gate.positions]
    assert positions == sorted(4 * [0, 1, 2, 3, 4, 5])


def test_get_says_when_nothing_came_in_time(model, gate):
    with Engine(model) as engine:
        generation = engine.submit(request())
        with pytest.raises(TimeoutError, match=r"no event within 0\.01 s"):
            generation.get(0.01)
        with pytest.raises(TimeoutError):
            generation.answer(0.01)
        with pytest.raises(TimeoutError):
            list(generation.events(0.01))
        gate.open()
        assert generation.answer(PATIENCE).text == alone(model, request()).shown


def test_every_thread_that_iterates_sees_the_end(engine):
    generation = engine.submit(request(max_tokens=50))
    seen: list[list] = []
    threads = [
        threading.Thread(target=lambda: seen.append(list(generation.events(PATIENCE))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(events[-1]) for events in seen}) == 1
    tokens = [event for events in seen for event in events if isinstance(event, TokenEvent)]
    assert len(tokens) == seen[0][-1].usage.completion_tokens


# ---- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"tokens": []}, ValueError, "the prompt has no tokens"),
        ({"tokens": [1, 4096]}, IndexError, "token 1 of the prompt is 4096, expected 0 to 4095"),
        ({"tokens": [-1]}, IndexError, "token 0 of the prompt is -1"),
        ({"tokens": [[1, 2]]}, TypeError, "expected one row of integers"),
        ({"tokens": [1.5]}, TypeError, "expected one row of integers"),
        ({"max_tokens": -1}, ValueError, "max_tokens must not be negative, got -1"),
        ({"max_tokens": True}, TypeError, "max_tokens must be an integer, got True"),
        ({"logprobs": 0.5}, TypeError, r"logprobs must be an integer, got 0\.5"),
        ({"prompt_logprobs": -2}, ValueError, "prompt_logprobs must not be negative"),
        ({"stop": [""]}, ValueError, "a stop string must not be empty"),
        ({"stop": [3]}, TypeError, "a stop must be text"),
        ({"stop_tokens": ["x"]}, TypeError, "integer"),
        ({"boundaries": [3]}, ValueError, "a boundary is 3, expected 0 to 2 tokens"),
        ({"penalized": [9999]}, IndexError, "token 0 of those to be penalized is 9999"),
        (
            {"sampling": SamplingParams(logit_bias={5000: 1.0})},
            IndexError,
            "token 0 of logit_bias is 5000",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_with_a_request_is_told_at_once(engine, options, error, sentence):
    with pytest.raises(error, match=sentence):
        engine.submit(Request(**({"tokens": [1, 2]} | options)))


def test_a_state_of_other_weights_is_refused(engine, model_file):
    other = rwkvcpp.Model(model_file(CASES[-1]))
    with pytest.raises(StateError, match=r"the state is one of .*, expected one of rwkv7-stories"):
        engine.submit(request(state=other.initial_state()))


def test_one_that_fails_fails_alone(model, engine):
    banned = SamplingParams(banned_tokens=range(model.n_vocab))
    good = [engine.submit(request(kind=kind)) for kind in (0, 1)]
    bad = engine.submit(request(sampling=banned))
    for _ in range(2):  # every time that somebody looks
        with pytest.raises(ValueError, match="all of the 4096 logits are -inf"):
            bad.answer(PATIENCE)
    for kind, generation in enumerate(good):
        assert generation.answer(PATIENCE).text == alone(model, request(kind=kind)).shown
    engine.close()
    assert engine.status().endings == {"length": 2, "error": 1}


def test_a_pass_that_fails_is_made_again_without_the_one_to_blame(model, monkeypatch):
    forward_batch = model.forward_batch

    def poisoned(segments):
        if any(13 in tokens for tokens, _ in segments):
            raise MemoryError("13")
        return forward_batch(segments)

    monkeypatch.setattr(model, "forward_batch", poisoned)
    banned = replace(WARM, banned_tokens=[13])
    with Engine(model) as engine:
        good = [
            engine.submit(Request(tokens=[1 + k, 2], sampling=banned, max_tokens=9))
            for k in range(3)
        ]
        bad = engine.submit(Request(tokens=[5, 13]))
        with pytest.raises(MemoryError):
            bad.answer(PATIENCE)
        texts = [generation.answer(PATIENCE).text for generation in good]
    wanted = [Request(tokens=[1 + k, 2], sampling=banned, max_tokens=9) for k in range(3)]
    assert texts == [alone(model, each).shown for each in wanted]


def test_scoring_that_fails_fails_alone(model, engine, monkeypatch):
    def refuse(*_, **__):
        raise MemoryError("all logits")

    monkeypatch.setattr(model, "forward", refuse)
    bad, good = engine.submit(request(prompt_logprobs=1)), engine.submit(request())
    with pytest.raises(MemoryError):
        bad.answer(PATIENCE)
    assert good.answer(PATIENCE).end.finish_reason == "length"


def test_wrong_sizes_of_an_engine_are_refused(model):
    for options in ({"max_batch": 0}, {"max_waiting": 0}, {"step_seconds": 0.0}):
        (name,) = options
        with pytest.raises(ValueError, match=f"{name} is 0"):
            Engine(model, **options)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_thread_itself_fails_everyone_is_told(engine, monkeypatch):
    def broken(_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(engine._loop.pace, "prompt_rows", broken)
    with pytest.raises(EngineClosedError) as told:
        engine.submit(request()).answer(PATIENCE)
    assert isinstance(told.value.__cause__, ZeroDivisionError)
    engine._loop.done.wait(PATIENCE)
    with pytest.raises(EngineClosedError):
        engine.submit(request())


# ---- the end ---------------------------------------------------------------------------------


def test_with_grace_everyone_is_served_and_nobody_comes(model):
    engine = Engine(model, max_batch=2)
    generations = [engine.submit(request(kind=kind, max_tokens=30)) for kind in range(5)]
    engine.close(grace=PATIENCE)
    for kind, generation in enumerate(generations):
        expected = alone(model, request(kind=kind, max_tokens=30)).shown
        assert generation.answer(0).text == expected
    with pytest.raises(EngineClosedError, match="the engine is closed"):
        engine.submit(request())
    engine.close()  # again


def test_after_the_grace_those_who_are_left_are_told(model):
    engine = Engine(model, max_batch=1)
    running = engine.submit(request(max_tokens=10**7, stop_tokens=[]))
    waiting = engine.submit(request())
    begun = time.monotonic()
    engine.close(grace=0.2)
    assert 0.2 <= time.monotonic() - begun < PATIENCE
    for generation in (running, waiting):
        with pytest.raises(EngineClosedError, match="closed before the request was done"):
            generation.answer(0)


def test_another_model_takes_over_while_the_first_one_finishes(model, model_file):
    other = rwkvcpp.Model(model_file(CASES[-1]))
    old, new = Engine(model), Engine(other)
    first = old.submit(request(max_tokens=200))
    closing = threading.Thread(target=old.close, args=(PATIENCE,))
    closing.start()
    second = new.submit(request(max_tokens=30)).answer(PATIENCE)
    closing.join()
    assert first.answer(0).text == alone(model, request(max_tokens=200)).shown
    assert second.text == alone(other, request(max_tokens=30)).shown
    new.close()


def test_an_engine_without_work_sleeps(model):
    with Engine(model) as engine:
        engine.submit(request()).answer(PATIENCE)
        until(lambda: engine.status().running == 0)
        n_steps, used = engine.status().steps, time.process_time()
        time.sleep(0.5)
        assert engine.status().steps == n_steps
        assert time.process_time() - used < 0.2


def test_a_forgotten_engine_ends_and_its_model_is_freed():
    model = rwkvcpp.Model()
    engine = Engine(model)
    engine.submit(request()).answer(PATIENCE)
    thread, known = engine._thread, weakref.ref(model)
    del engine, model
    gc.collect()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    del thread
    gc.collect()
    assert known() is None


def test_a_generation_keeps_its_engine(model):
    assert Engine(model).submit(request()).answer(PATIENCE).text == alone(model, request()).shown


PROGRAM = """
import sys, rwkvcpp
from rwkvcpp.engine import Engine, Request
engine = Engine(rwkvcpp.Model())
generation = engine.submit(Request(tokens=[5], max_tokens=10**7, stop_tokens=[]))
generation.get()
print("running", flush=True)
try:
    if "wait" in sys.argv:
        for _ in generation: pass
    if "close" in sys.argv:
        engine.close(grace=60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    engine.close()
"""


def test_a_program_that_forgets_its_engine_ends():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"running\n", b"")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("where", ["wait", "close"])
def test_ctrl_c_reaches_the_one_who_waits(where):
    command = [sys.executable, "-c", PROGRAM, where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"running\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said, errors) == (0, b"interrupted\n", b"")

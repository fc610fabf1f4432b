"""Several generations that answer one request: all of them end, in whatever order they come."""

from __future__ import annotations

import threading

import pytest

import rwkvcpp
from rwkvcpp import SamplingParams
from rwkvcpp.engine import EndEvent, Engine, QueueFullError, Request, TokenEvent
from rwkvcpp.server.choices import Choices
from tests.python.server import PATIENCE


@pytest.fixture(scope="module")
def model() -> rwkvcpp.Model:
    return rwkvcpp.Model()


def request(kind: int = 0, **options) -> Request:
    sampling = SamplingParams(seed=kind, top_p=0.9)
    return Request(tokens=[0, 20 + kind, 30], **{"sampling": sampling, "max_tokens": 6} | options)


def texts(choices: Choices) -> dict[int, str]:
    """What each one wrote, when all have ended."""
    found = dict.fromkeys(range(len(choices)), "")
    for numbered in choices.events():
        if isinstance(numbered.event, TokenEvent | EndEvent):
            found[numbered.choice] += numbered.event.text
    return found


def ends(choices: Choices, silence: float | None = None) -> dict[int, str]:
    """How each one ended."""
    numbered = [each for each in choices.events(silence) if each is not None]
    return {index: event.finish_reason for index, event in numbered if isinstance(event, EndEvent)}


@pytest.mark.parametrize("max_batch", [1, 3, 16])
def test_each_choice_has_the_text_that_it_has_alone(model, max_batch):
    with Engine(model) as engine:
        alone = [engine.submit(request(kind)).answer(timeout=PATIENCE).text for kind in range(7)]
    asked = [[request(0), request(0)], *([request(kind)] for kind in range(1, 7))]
    with Engine(model, max_batch=max_batch) as engine, Choices(engine, asked) as choices:
        assert texts(choices) == dict(enumerate([alone[0], *alone]))


def test_a_request_of_many_prompts_never_fills_the_line(model):
    with Engine(model, max_batch=2, max_waiting=2) as engine:
        with Choices(engine, [[request(kind)] for kind in range(40)]) as choices:
            first = next(choices.events())
            other = engine.submit(request(99, client="another"))  # no QueueFullError
            assert other.answer(timeout=PATIENCE).end.finish_reason in ("length", "stop")
            assert first is not None
            assert len(texts(choices)) == 40
        assert engine.status().waiting == 0


def occupy(engine: Engine, n: int) -> list:
    """So many requests that go on for long, each one running or, the last ones, waiting."""
    generations = []
    for kind in range(n):
        generations.append(engine.submit(request(kind, max_tokens=4000, stop_tokens=[])))
        if kind < engine.max_batch:
            generations[-1].get(timeout=PATIENCE)
    return generations


def test_who_finds_the_line_full_gets_in_later(model):
    with Engine(model, max_batch=2, max_waiting=1) as engine:
        others = occupy(engine, 2)
        with Choices(engine, [[request(kind)] for kind in range(3)]) as choices:
            for other in others:
                other.cancel()
            assert len(ends(choices)) == 3


def test_who_left_and_finds_the_line_full_again_tries_until_it_is_not(model):
    with (
        Engine(model, max_batch=1, max_waiting=1) as engine,
        Choices(engine, [[request(0)], [request(1)]]) as choices,
    ):
        while engine.status().running or engine.status().waiting:
            threading.Event().wait(0.01)
        others = occupy(engine, 2)
        ended = 0
        for each in choices.events(silence=0.02):
            ended += each is not None and isinstance(each.event, EndEvent)
            if each is None:
                assert ended >= 1
                for other in others:
                    other.cancel()
        assert ended == 2


def test_a_full_line_refuses_whoever_has_nobody_inside(model):
    with Engine(model, max_batch=1, max_waiting=1) as engine:
        occupied = occupy(engine, 2)
        with pytest.raises(QueueFullError):
            Choices(engine, [[request(3)]])
        assert [each.cancel() for each in occupied] == [None, None]


def test_what_is_wrong_with_the_last_prompt_is_said_at_once(model):
    with Engine(model, max_batch=1) as engine:
        wrong = request(1, sampling=SamplingParams(logit_bias={model.n_vocab: 1.0}))
        with pytest.raises(IndexError, match=str(model.n_vocab - 1)):
            Choices(engine, [[request(0)], [wrong]])


@pytest.mark.parametrize(("end", "reason"), [("cancel", "cancelled"), ("stop", "stop")])
def test_all_of_them_end_even_those_that_never_began(model, end, reason):
    with Engine(model, max_batch=1) as engine:
        asked = [[request(i, max_tokens=2000)] * 2 for i in range(3)]
        with Choices(engine, asked) as choices:
            next(choices.events())
            getattr(choices, end)()
            assert ends(choices) == dict.fromkeys(range(6), reason)


def test_silence_is_told(model):
    with Engine(model, max_batch=1, max_waiting=1) as engine:
        [running] = occupy(engine, 1)
        with Choices(engine, [[request(2)]]) as choices:
            events = choices.events(silence=0.001)
            assert next(events) is None
            running.cancel()
            assert any(each is not None for each in events)

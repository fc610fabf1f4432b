"""Completions: prompts in every form, echoes and logprobs as evaluations ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

import rwkvcpp
from rwkvcpp.predictions import log_softmax
from rwkvcpp.server import create_app
from rwkvcpp.server.service import Service
from tests.python.answers import COMPLETIONS, chunks, whole
from tests.python.scripted import saying

ONCE = "Once upon a time"


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    app = create_app()
    yield app.test_client()
    app.extensions["rwkvcpp"].close(0)


@pytest.fixture(scope="module")
def model(client: FlaskClient) -> rwkvcpp.Model:
    service: Service = client.application.extensions["rwkvcpp"]
    return service.serving().model


def joined(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The choices that chunks add up to, as a whole answer has them."""
    choices: dict[int, dict[str, Any]] = {}
    for choice in (choice for chunk in found for choice in chunk["choices"]):
        known = choices.setdefault(choice["index"], {**choice, "text": "", "logprobs": None})
        known["text"] += choice["text"]
        known["finish_reason"] = choice["finish_reason"]
        if choice["logprobs"] is not None:
            lists = known["logprobs"] or {key: [] for key in choice["logprobs"]}
            known["logprobs"] = {key: lists[key] + choice["logprobs"][key] for key in lists}
    return [choices[index] for index in sorted(choices)]


def both(client: FlaskClient, **body: Any) -> dict[str, Any]:
    """The answer at once, which a stream adds up to."""
    answer = whole(client, COMPLETIONS, **body)
    assert joined(chunks(client, COMPLETIONS, **body)) == answer["choices"]
    return answer


def test_an_answer_has_the_form_of_openai(client):
    answer = both(client, prompt=ONCE, max_tokens=5, seed=1)
    assert answer["id"].startswith("cmpl-")
    assert (answer["object"], answer["model"]) == ("text_completion", "rwkv7-stories-q8_0")
    (choice,) = answer["choices"]
    assert choice.keys() == {"index", "text", "logprobs", "finish_reason"}
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "length")
    assert answer["usage"]["completion_tokens"] == 5


def test_the_same_text_as_a_session_writes(client, model):
    answer = both(client, prompt=ONCE, max_tokens=20, seed=4, top_p=0.9, frequency_penalty=0.5)
    sampling = rwkvcpp.SamplingParams(top_p=0.9, frequency_penalty=0.5, seed=4)
    session = model.session()
    text = session.generate([0, *model.tokenizer.encode(ONCE)], max_tokens=20, sampling=sampling)
    assert answer["choices"][0]["text"] == "".join(text)


def test_usage_comes_last_if_asked_for(client):
    body = {"prompt": ["a", "b"], "max_tokens": 3, "n": 2}
    found = chunks(client, COMPLETIONS, **body, stream_options={"include_usage": True})
    assert found[-1]["choices"] == []
    answer = whole(client, COMPLETIONS, **body)
    tokens = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [found[-1]["usage"][key] for key in tokens] == [answer["usage"][key] for key in tokens]
    assert answer["usage"]["prompt_tokens"] == 4  # token 0 and one more, of each prompt
    assert answer["usage"]["completion_tokens"] == 12
    assert "usage" not in found[0]


def test_prompts_come_in_four_forms(client, model):
    ids = [0, *model.tokenizer.encode(ONCE)]
    texts = [
        both(client, prompt=prompt, max_tokens=6, seed=1)["choices"][0]["text"]
        for prompt in (ONCE, [ONCE], ids, [ids])
    ]
    assert texts == [texts[0]] * 4


def test_several_prompts_are_answered_as_each_alone(client):
    body = {"max_tokens": 8, "seed": 5, "temperature": 1.3, "top_p": 1}
    prompts = [ONCE, "The fox", ONCE]
    answer = both(client, prompt=prompts, n=2, **body)
    alone = [whole(client, COMPLETIONS, prompt=each, n=2, **body) for each in prompts]
    texts = [choice["text"] for one in alone for choice in one["choices"]]
    assert [choice["text"] for choice in answer["choices"]] == texts
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    assert texts[0] != texts[1]


@pytest.mark.parametrize("prompt", [None, "", [], [""], [[]]])
def test_no_prompt_is_a_new_line(client, model, prompt):
    expected = whole(client, COMPLETIONS, prompt="\n", max_tokens=4, seed=1)["choices"]
    assert whole(client, COMPLETIONS, prompt=prompt, max_tokens=4, seed=1)["choices"] == expected


def test_ids_are_taken_as_they_are(client, model):
    for ids in ([0], [5], [0, 0, 7]):
        answer = both(client, prompt=[ids], max_tokens=0)
        assert answer["usage"]["prompt_tokens"] == len(ids)
        assert answer["choices"][0]["text"] == ""


def test_token_0_may_be_asked_for_and_left_out(client):
    n_tokens = [
        whole(client, COMPLETIONS, prompt=ONCE, max_tokens=0, **body)["usage"]["prompt_tokens"]
        for body in ({}, {"pad_zero": True}, {"pad_zero": False})
    ]
    assert n_tokens[0] == n_tokens[1] == n_tokens[2] + 1


def test_raw_texts_of_world_models_begin_with_nothing():
    app = create_app(template="world")
    try:
        usage = whole(app.test_client(), COMPLETIONS, prompt="a", max_tokens=0)["usage"]
        assert usage["prompt_tokens"] == 1
    finally:
        app.extensions["rwkvcpp"].close(0)


# ---- logprobs --------------------------------------------------------------------------------


def test_a_prompt_is_scored_as_evaluations_ask_for_it(client, model):
    """lm-evaluation-harness's local-completions, to the letter."""
    ids = [0, *model.tokenizer.encode("The fox ran, and the crow did not.")]
    body = {"model": "x", "prompt": [ids], "temperature": 0, "max_tokens": 1, "logprobs": 1,
            "seed": 1234, "echo": True}  # fmt: skip
    choice = both(client, **body)["choices"][0]
    logprobs = choice["logprobs"]
    rows = log_softmax(model.forward(ids, model.initial_state(), all_logits=True))
    expected = [float(rows[i, token]) for i, token in enumerate(ids[1:])]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert logprobs["token_logprobs"][1:-1] == expected
    for i, (name, logprob, top) in enumerate(
        zip(logprobs["tokens"][1:-1], expected, logprobs["top_logprobs"][1:-1], strict=True)
    ):
        assert top[name] == logprob
        is_greedy = int(np.argmax(rows[i])) == ids[i + 1]
        assert (max(top.values()) == logprob) == is_greedy  # the same float
    assert logprobs["token_logprobs"][-1] == max(logprobs["top_logprobs"][-1].values())
    assert choice["text"].startswith("The fox ran, and the crow did not.")


def test_a_prompt_is_scored_and_nothing_drawn(client, model):
    answer = both(client, prompt=ONCE, max_tokens=0, logprobs=0, echo=True)
    logprobs = answer["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == ONCE == answer["choices"][0]["text"]
    assert all(logprob is not None for logprob in logprobs["token_logprobs"])  # after token 0
    assert answer["usage"]["completion_tokens"] == 0
    # Alone, the token that came is in the place of the best ones.
    assert [*map(list, logprobs["top_logprobs"])] == [[token] for token in logprobs["tokens"]]


def test_equal_prompts_are_scored_once_and_told_each_time(client):
    answer = both(client, prompt=ONCE, max_tokens=2, n=3, logprobs=1, echo=True, seed=1)
    told = [choice["logprobs"]["token_logprobs"][:4] for choice in answer["choices"]]
    assert told[0] == told[1] == told[2]


def test_offsets_are_those_of_the_text(client):
    for body in ({"echo": True}, {"echo": False}):
        choice = both(client, prompt="A crow: ", max_tokens=12, seed=2, logprobs=0, **body)
        (choice,) = choice["choices"]
        logprobs, text = choice["logprobs"], choice["text"]
        for name, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
            assert text[offset:].startswith(name)


def test_tokens_that_are_no_text_have_names_of_their_own(client, model):
    parts = [model.tokenizer.encode(bytes([byte]))[0] for byte in "好".encode()]
    answer = both(client, prompt=[[0, *parts, 65]], max_tokens=0, logprobs=20, echo=True)
    logprobs = answer["choices"][0]["logprobs"]
    assert logprobs["tokens"][:4] == [
        "<|endoftext|>", "bytes:\\xe5", "bytes:\\xa5", "bytes:\\xbd"
    ]  # fmt: skip
    assert logprobs["text_offset"] == [0, 0, 0, 0, 1]
    assert all(len(top) in (20, 21) for top in logprobs["top_logprobs"][1:])  # no two alike


def test_offsets_behind_half_a_character_are_those_of_the_text(client, model):
    part = model.tokenizer.encode("好".encode()[:1])[0]
    with saying(model.tokenizer, "ab"):
        choice = both(client, prompt=[[0, part]], max_tokens=9, logprobs=0, echo=True)["choices"][0]
    assert choice["text"] == "\ufffdab"
    assert choice["logprobs"]["text_offset"][:3] == [0, 0, 1]


def test_the_token_that_ends_is_among_the_logprobs(client, model):
    with saying(model.tokenizer, " Yes."):
        choice = both(client, prompt=ONCE, max_tokens=20, logprobs=1)["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["text"] == " Yes."
    assert "".join(choice["logprobs"]["tokens"]) == " Yes.<|endoftext|>"


def test_what_a_stop_cut_off_is_not(client, model):
    with saying(model.tokenizer, " Yes. STOP No"):
        choice = both(client, prompt=ONCE, max_tokens=20, logprobs=1, stop=" STOP")["choices"][0]
    assert choice["text"] == " Yes."
    assert "".join(choice["logprobs"]["tokens"]) == " Yes."
    assert choice["finish_reason"] == "stop"


# ---- ends ------------------------------------------------------------------------------------


def test_the_name_of_the_end_is_a_stop_like_others(client, model):
    with saying(model.tokenizer, " Yes."):
        stops = ["\n\n", "<|endoftext|>"]
        choice = both(client, prompt=ONCE, max_tokens=20, stop=stops)["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (" Yes.", "stop")


def test_an_echo_is_before_the_text(client, model):
    with saying(model.tokenizer, " there was"):
        choice = both(client, prompt=[ONCE, "b"], echo=True)["choices"]
    assert [each["text"] for each in choice] == [f"{ONCE} there was", "b there was"]


# ---- a middle ---------------------------------------------------------------------------------


def test_a_middle_is_filled_in_where_the_model_knows_how():
    app = create_app(template="g1")
    try:
        client = app.test_client()
        tokenizer = app.extensions["rwkvcpp"].serving().model.tokenizer
        with saying(tokenizer, "b✿c"):
            answer = both(client, prompt="a", suffix="c", stop=["x"])
        text = "✿prefix✿✿suffix✿c✿middle✿a"
        assert answer["choices"][0]["text"] == "b"
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["prompt_tokens"] == 1 + len(tokenizer.encode(text))
        ids = both(client, prompt=[tokenizer.encode("a")], suffix="c", max_tokens=0)
        assert ids["usage"]["prompt_tokens"] == answer["usage"]["prompt_tokens"]
        nothing = [both(client, prompt=p, suffix="c", max_tokens=0) for p in ("", [""], [[]], None)]
        n_shorter = answer["usage"]["prompt_tokens"] - 1
        assert [each["usage"]["prompt_tokens"] for each in nothing] == [n_shorter] * 4
        for body in ({"prompt": "a", "echo": True, "logprobs": 1}, {"prompt": [5000]}):
            assert client.post(COMPLETIONS, json={"suffix": "c", **body}).status_code == 400
    finally:
        app.extensions["rwkvcpp"].close(0)


def test_other_models_say_that_they_do_not(client):
    response = client.post(COMPLETIONS, json={"prompt": "a", "suffix": "c"})
    assert response.status_code == 400
    error = response.get_json()["error"]
    assert (error["type"], error["param"]) == ("not_supported_error", "suffix")
    assert whole(client, COMPLETIONS, prompt="a", suffix="", max_tokens=1)["choices"]


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [1.5]}, "prompt"),
        ({"prompt": [[1], 2]}, "prompt"),
        ({"prompt": [["a"]]}, "prompt"),
        ({"prompt": [["a"], "b"]}, "prompt"),
        ({"prompt": [[1], "b"]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": [4096]}, "prompt"),
        ({"prompt": [[0], [2**31 + 5]]}, None),
        ({"prompt": ["a"] * 3000}, None),
        ({"prompt": "a", "n": 1000}, "n"),
        ({"prompt": "a", "logprobs": 100}, "logprobs"),
        ({"prompt": "a", "logprobs": -1}, "logprobs"),
        ({"prompt": "a", "max_tokens": 10**9}, "max_tokens"),
    ],
)
def test_what_is_wrong_is_told_before_a_stream_begins(client, body, param):
    for stream in (False, True):
        response = client.post(COMPLETIONS, json={"stream": stream, **body})
        assert response.status_code == 400, response.text
        error = response.get_json()["error"]
        assert error["type"] == "invalid_request_error"
        if param is not None:
            assert error["param"] == param


def test_the_best_of_many_is_not_chosen(client):
    response = client.post(COMPLETIONS, json={"prompt": "a", "n": 2, "best_of": 3})
    assert response.status_code == 400
    assert response.get_json()["error"]["type"] == "not_supported_error"
    assert whole(client, COMPLETIONS, prompt="a", n=2, best_of=2, max_tokens=1)["choices"]
    assert whole(client, COMPLETIONS, prompt="a", logprobs=False, max_tokens=1)["choices"]

"""The text between a prefix and a suffix, in llama.cpp's words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import rwkvcpp
from rwkvcpp import SamplingParams
from rwkvcpp.engine import Engine, Request
from tests.python.server import PATIENCE, LiveServer, live_server


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with live_server(template="g1") as live:  # G1c and newer have learnt it
        yield live


def written(text: str, **options) -> str:
    """What the model goes on with, greedily."""
    model = rwkvcpp.Model()
    tokens = [0, *model.tokenizer.encode(text)]
    greedy = SamplingParams(temperature=0.0, top_p=0.0)
    with Engine(model) as engine:
        asked = Request(tokens=tokens, sampling=greedy, stop="✿", **options)
        return engine.submit(asked).answer(timeout=PATIENCE).text


def test_the_prefix_comes_last_and_the_middle_follows_it(live):
    reply = live.post(
        "/infill", {"input_prefix": "Once upon", "input_suffix": "The end.", "n_predict": 12}
    )
    assert reply.status == 200, reply.data
    text = "✿prefix✿✿suffix✿The end.✿middle✿Once upon"
    assert reply.json["content"] == written(text, max_tokens=12)
    assert reply.json["stop"] is True
    assert reply.json["stop_type"] == "limit"
    assert reply.json["tokens_predicted"] == 12
    assert reply.json["model"] == "rwkv7-stories-q8_0"


def test_other_files_come_first_and_the_prompt_begins_the_middle(live):
    body = {
        "input_prefix": "The fox",
        "input_extra": [{"filename": "a.txt", "text": "About foxes."}, {"text": ""}],
        "prompt": " said",
        "n_predict": 8,
    }
    text = "About foxes.\n\n✿prefix✿✿suffix✿✿middle✿The fox said"
    assert live.post("/infill", body).json["content"] == written(text, max_tokens=8)


def test_streamed_pieces_joined_are_the_whole_and_no_done_follows(live):
    body = {"input_prefix": "Once", "input_suffix": "end", "n_predict": 10}
    whole = live.post("/infill", body).json["content"]
    events = live.post("/infill", body | {"stream": True}).events
    assert "".join(event["content"] for event in events) == whole
    assert [event["stop"] for event in events][-1] is True
    assert not any(event["stop"] for event in events[:-1])


def test_a_clients_stop_is_a_word(live):
    body = {"input_prefix": "Once upon a", "n_predict": 40, "stop": [" "]}
    reply = live.post("/infill", body).json
    assert " " not in reply["content"]
    assert reply["stop_type"] == "word"


def test_a_token_that_the_model_does_not_have_is_refused(live):
    reply = live.post("/infill", {"input_prefix": "a", "logit_bias": {"70000": 1}})
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"grammar": 'root ::= "a"'}, "grammar"),
        ({"json_schema": {"type": "object"}}, "json_schema"),
    ],
)
def test_what_cannot_be_kept_to_is_refused(live, body, param):
    reply = live.post("/infill", {"input_prefix": "a"} | body)
    assert reply.status == 400
    assert reply.json["error"]["type"] == "not_supported_error"
    assert reply.json["error"]["param"] == param


def test_a_model_that_has_not_learnt_it_says_so():
    with live_server() as live:
        reply = live.post("/infill", {"input_prefix": "a", "input_suffix": "b"})
        assert reply.status == 400
        assert reply.json["error"]["type"] == "not_supported_error"
        assert "rwkv7-stories" in reply.json["error"]["message"]


def test_where_nobody_says_how_many_the_servers_limit_is_the_most():
    with live_server(template="g1", max_tokens_limit=3) as live:
        body = {"input_prefix": "Once upon", "input_suffix": "The end."}
        for asked in (body, body | {"n_predict": -1}):
            assert live.post("/infill", asked).json["tokens_predicted"] == 3
        assert live.post("/infill", body | {"n_predict": 4}).status == 400

"""States that clients keep: out of one answer, into the next request, hostile ones too."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

import rwkvcpp
from rwkvcpp.server import create_app
from rwkvcpp.server.service import Service
from tests.python.answers import CHAT, COMPLETIONS, chunks, whole
from tests.python.scripted import saying
from tests.reference.cases import NARROW, Case

BYTES = replace(NARROW, n_vocab=256)  # a vocabulary that needs no file
HI = [{"role": "user", "content": "Hi"}]

# A state that was float16 once continues approximately, and the model tells so once.
pytestmark = pytest.mark.filterwarnings("ignore::rwkvcpp.ApproximateStateWarning")


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    app = create_app(template="world")
    yield app.test_client()
    app.extensions["rwkvcpp"].close(0)


@pytest.fixture(scope="module")
def model(client: FlaskClient) -> rwkvcpp.Model:
    service: Service = client.application.extensions["rwkvcpp"]
    return service.serving().model


def text_of(answer: dict[str, Any]) -> str:
    return answer["choices"][0]["text"]


EXACT = {"return_state": True, "state_dtype": "float32"}
BODY = {"max_tokens": 8, "seed": 3, "stop_token_ids": []}


# ---- there and back --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["base64", "json"])
def test_a_text_goes_on_from_a_state_as_from_its_words(client, model, form):
    first = whole(client, COMPLETIONS, prompt="Once upon", **BODY, **EXACT | {"return_state": form})
    state = first["state"]
    assert (state["format"], state["pending"]) == (form, "")
    assert state["n_tokens"] == first["usage"]["total_tokens"]
    ids = model.tokenizer.encode("Once upon") + model.tokenizer.encode(text_of(first))
    more = model.tokenizer.encode(" and then")
    expected = whole(client, COMPLETIONS, prompt=ids + more, **BODY)
    going_on = whole(client, COMPLETIONS, prompt=more, state=state, **BODY)
    assert text_of(going_on) == text_of(expected)
    assert going_on["usage"]["prompt_tokens"] == len(more)


def test_the_bytes_are_those_of_a_state_file(client, model, tmp_path):
    state = whole(client, COMPLETIONS, prompt="Once upon", **BODY, **EXACT)["state"]
    file = tmp_path / "story.state"
    file.write_bytes(base64.b64decode(state["data"]))
    loaded = model.load_state(file)
    assert loaded.is_exact
    assert loaded.n_tokens == state["n_tokens"]


def test_json_tells_the_same_numbers(client, model):
    asked = {"prompt": "Once upon", **BODY, "no_cache": True}
    data = whole(client, COMPLETIONS, **asked, **EXACT)["state"]["data"]
    told = whole(client, COMPLETIONS, **asked, **EXACT | {"return_state": "json"})["state"]["data"]
    arrays = model.state_from_bytes(base64.b64decode(data)).to_numpy()
    assert told["arrays"].keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(np.array(told["arrays"][name], np.float32), array.reshape(-1))
    shuffled = dict(sorted(told["arrays"].items(), reverse=True))  # objects have no order
    again = {"format": "json", "data": {**told, "arrays": shuffled}}
    body = {"prompt": " and", **BODY, **EXACT}
    one = whole(client, COMPLETIONS, state=again, **body)["state"]["data"]
    two = whole(client, COMPLETIONS, state={"data": data}, **body)["state"]["data"]
    assert one == two


def test_states_are_half_as_long_unless_asked_otherwise(client, model):
    short = whole(client, COMPLETIONS, prompt="a", return_state=True, **BODY)["state"]
    long = whole(client, COMPLETIONS, prompt="a", **BODY, **EXACT)["state"]
    assert 1.9 < len(long["data"]) / len(short["data"]) < 2.1
    assert not model.state_from_bytes(base64.b64decode(short["data"])).is_exact
    assert whole(client, COMPLETIONS, prompt="a", state=short, **BODY)["choices"]


@pytest.mark.parametrize("no", [False, None, "no", "false", ""])
def test_no_state_is_told_unless_asked_for(client, no):
    answer = whole(client, COMPLETIONS, prompt="a", return_state=no, **BODY)
    assert "state" not in answer
    assert "state" not in answer["choices"][0]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("include_usage", [False, True])
def test_the_last_chunk_has_the_state(client, path, include_usage):
    body = {"prompt": "Once", "messages": HI, **BODY, **EXACT}
    found = chunks(client, path, **body, stream_options={"include_usage": include_usage})
    assert ["state" in chunk for chunk in found] == [False] * (len(found) - 1) + [True]
    assert found[-1]["state"] == whole(client, path, **body)["state"]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_of_several_answers_each_has_its_state(client, path):
    body = {"prompt": "Once", "messages": HI, "temperature": 1.5, "top_p": 1, **BODY, **EXACT}
    answer = whole(client, path, n=2, **body)
    states = [choice["state"]["data"] for choice in answer["choices"]]
    assert "state" not in answer
    assert states[0] != states[1]
    assert states[0] == whole(client, path, **body)["state"]["data"]
    told = [
        choice["state"]["data"]
        for chunk in chunks(client, path, n=2, **body)
        for choice in sorted(chunk["choices"], key=lambda choice: choice["index"])
        if "state" in choice
    ]
    assert sorted(told) == sorted(states)


@pytest.mark.parametrize("version", ["4", "5.1", "5.2", "6", "7"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_version_has_states_to_keep(model_file, version, dtype):
    app = create_app(model=model_file(Case(version, "bin", "F32", BYTES)))
    try:
        client = app.test_client()
        body = {"prompt": "Once", "max_tokens": 6, "temperature": 0, "state_dtype": dtype}
        told = [
            whole(client, COMPLETIONS, return_state=form, **body)["state"]
            for form in ("base64", "json")
        ]
        going_on = [
            text_of(whole(client, COMPLETIONS, state=state, **{**body, "prompt": "x"}))
            for state in told
        ]
        assert going_on[0] == going_on[1]
        assert {state["n_tokens"] for state in told} == {10}
        answer = whole(client, CHAT, messages=HI, state=told[0], max_tokens=4)
        assert answer["usage"]["completion_tokens"] == 4
    finally:
        app.extensions["rwkvcpp"].close(0)


# ---- conversations ---------------------------------------------------------------------------


def test_a_conversation_goes_on_from_its_state(client, model):
    """As if all of it had been sent again."""
    tokenizer = model.tokenizer
    with saying(tokenizer, " Hello.\n\nUser:"):
        first = whole(client, CHAT, messages=HI, **EXACT)
        state = first["state"]
    assert first["choices"][0]["message"]["content"] == "Hello."
    assert state["pending"] == "\n\nUser:"
    begun = [0, *tokenizer.encode("User: Hi\n\nAssistant:"), *tokenizer.encode(" Hello.\n\nUser:")]
    rest = tokenizer.encode(" Why?\n\nAssistant:")
    assert state["n_tokens"] == len(begun)
    expected = whole(client, COMPLETIONS, prompt=begun + rest, temperature=0, max_tokens=9)
    answer = whole(
        client, CHAT, messages=[{"role": "user", "content": "Why?"}], state=state, temperature=0,
        max_tokens=9,
    )  # fmt: skip
    assert answer["usage"]["prompt_tokens"] == len(rest)
    assert text_of(expected).strip().startswith(answer["choices"][0]["message"]["content"])
    assert answer["choices"][0]["message"]["content"]


def test_a_call_is_no_pending_text(client, model):
    tool = {"type": "function", "function": {"name": "now"}}
    call = ' ```json\n{"name": "now"}\n```'
    with saying(model.tokenizer, f"{call}\n\nUser:"):
        answer = whole(client, CHAT, messages=HI, tools=[tool], **EXACT)
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["state"]["pending"] == "\n\nUser:"


def test_a_state_without_pending_is_parted_from_what_follows(client, model):
    state = {**whole(client, CHAT, messages=HI, **BODY, **EXACT)["state"]}
    del state["pending"]
    answer = whole(client, CHAT, messages=HI, state=state, max_tokens=0)
    expected = model.tokenizer.encode("\n\nUser: Hi\n\nAssistant:")
    assert answer["usage"]["prompt_tokens"] == len(expected)


# ---- what is no state ------------------------------------------------------------------------


def refused(client: FlaskClient, state: Any) -> tuple[int, dict[str, Any]]:
    responses = [
        client.post(path, json={"prompt": "a", "messages": HI, "state": state, "stream": True})
        for path in (CHAT, COMPLETIONS)
    ]
    errors = [response.get_json()["error"] for response in responses]
    assert errors[0] == errors[1]
    return responses[0].status_code, errors[0]


def test_a_state_of_other_weights_is_a_conflict(client, model_file):
    other = rwkvcpp.Model(model_file(Case("7", "gguf", "F32", NARROW)))
    data = base64.b64encode(other.initial_state().to_bytes()).decode()
    status, error = refused(client, {"format": "base64", "data": data})
    assert (status, error["code"]) == (409, "state_mismatch")
    assert "belongs to the weights of" in error["message"]


def test_a_tuned_state_that_is_not_there_is_none(client):
    for name in ("nobody", "../../etc/passwd", "/etc/passwd", "x" * 5000, "a\0b"):
        status, error = refused(client, name)
        assert (status, error["param"]) == (400, "state")
    assert whole(client, COMPLETIONS, prompt="a", state="", max_tokens=1)["choices"]


def good(client: FlaskClient, form: str) -> dict[str, Any]:
    return whole(client, COMPLETIONS, prompt="a", max_tokens=1, **EXACT | {"return_state": form})[
        "state"
    ]


@pytest.mark.parametrize(
    "state",
    [
        {"format": "xml", "data": ""},
        {"format": ["base64"], "data": ""},
        {"format": "base64"},
        {"format": "base64", "data": 5},
        {"format": "base64", "data": "é"},
        {"format": "base64", "data": "aaa"},
        {"format": "base64", "data": "aaaa"},
        {"format": "json", "data": "aaaa"},
        {"format": "json", "data": {}},
        {"format": "json", "data": {"header": {}, "arrays": {}}},
        {"format": "json", "data": {"header": {"state": {"dtype": "float64"}}, "arrays": {}}},
        {"format": "json", "data": {"header": {"state": {"dtype": "float16", "arrays": [[]]}},
                                    "arrays": {"x": [[1]]}}},
        {"format": "base64", "data": "", "pending": 5},
        {"unknown": True},
        5,
        ["a"],
    ],
)  # fmt: skip
def test_what_is_no_state_is_refused(client, state):
    status, error = refused(client, state)
    assert status == 400
    assert error["param"].startswith("state")


def test_damage_is_found(client):
    data = bytearray(base64.b64decode(good(client, "base64")["data"]))
    for place in (0, 9, 13, 40, 300, 2000, len(data) - 1):
        broken = data.copy()
        broken[place] ^= 0x55
        status, _ = refused(client, {"data": base64.b64encode(broken).decode()})
        assert status == 400
    for length in (0, 10, 31, 32, 1000, len(data) - 1):
        status, _ = refused(client, {"data": base64.b64encode(data[:length]).decode()})
        assert status == 400


def damaged(name: str, told: dict[str, Any]) -> None:
    header, arrays = told["header"], told["arrays"]
    first = next(iter(arrays))
    changes = {
        "short": lambda: arrays[first].pop(),
        "nested": lambda: arrays.update({first: [arrays[first]]}),
        "words": lambda: arrays.update({first: ["a"] * len(arrays[first])}),
        "missing": lambda: arrays.pop(first),
        "infinite": lambda: arrays[first].__setitem__(0, 1e300),
        "tokens": lambda: header["state"].update(n_tokens=-1),
        "layout": lambda: header["state"]["arrays"].pop(),
        "model": lambda: header.update(model="x"),
        "hash": lambda: header["state"].update(tokens_hash="x"),
    }
    changes[name]()


@pytest.mark.parametrize(
    "name",
    [
        "short",
        "nested",
        "words",
        "missing",
        "infinite",
        "tokens",
        "layout",
        "model",
        "hash",
    ],
)
def test_json_that_is_no_state_is_refused(client, name):
    state = json.loads(json.dumps(good(client, "json")))
    damaged(name, state["data"])
    status, error = refused(client, state)
    assert (status, error["param"]) == (400, "state"), error

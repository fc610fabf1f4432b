"""Bodies that nobody should send: a sentence and a 4xx for each, and the server goes on."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import ValidationError

from rwkvcpp.server import create_app
from rwkvcpp.server.app import SHAPES
from rwkvcpp.server.bodies import read_body
from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.examples import EXAMPLES
from rwkvcpp.server.routing import Route
from tests.python.server import undo_changes

ROUTES = [route for shape in SHAPES for route in shape.all if route.body is not None]
CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "seed": 1}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    app = create_app(max_tokens_limit=16, max_prompt_tokens=20_000, model_folder=[folder], grace=0)
    yield app
    app.extensions["rwkvcpp"].close()


@pytest.fixture
def client(app: Flask) -> Iterator[FlaskClient]:
    """And what it asks for afterwards is answered as ever."""
    client = app.test_client()
    before = client.post(CHAT, json=HELLO).json["choices"]
    yield client
    undo_changes(app)
    assert client.post(CHAT, json=HELLO).json["choices"] == before


def refused(reply: Any, status: int = 400) -> str:
    """The sentence of a refusal, whose body has all that clients read."""
    assert reply.status_code == status, reply.text[:500]
    error = reply.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == reply.json["detail"]
    assert len(error["message"]) <= 501
    return error["message"]


# ---- bodies that are no JSON, or not what was expected, on every route -------------------------

NO_OBJECTS = {
    "half": b'{"messages": [',
    "no value": b'{"messages": }',
    "text": b"hello",
    "not UTF-8": b'{"messages": "\xff\xfe"}',
    "UTF-16": '{"messages": []}'.encode("utf-16"),
    "half a surrogate pair": b'{"messages": "\\ud800"}',
    "half a surrogate pair as a key": b'{"\\udfff": 1}',
    "a control character": b'{"messages": "\x01"}',
    "zeros": bytes(100),
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "NaN": b'{"temperature": NaN}',
    "infinite": b'{"temperature": -Infinity}',
    "two": b"{} {}",
    "a list": b"[]",
    "a number": b"1",
    "a string": b'"messages"',
    "nothing": b"null",
    "a form": b"messages=hello&max_tokens=4",
}


@pytest.mark.parametrize("data", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_what_is_no_object_is_refused_on_every_route(client, data):
    for route in ROUTES:
        reply = client.post(route.paths[0], data=data, content_type="application/json")
        assert refused(reply), route.paths[0]


HUGE = "a number of 5,000 digits"
STRANGE: list[Any] = [
    True,
    -1,
    0,
    2**31,
    10**30,
    HUGE,
    0.5,
    -1e308,
    "",
    "x",
    "-1",
    "\0",
    "\n\n",
    "é" * 100,
    "../../../../etc/passwd",
    "/dev/zero",
    "a" * 70_000,
    [],
    [[]],
    [None],
    [-1],
    [2**40],
    ["", "\0"],
    [{}],
    {},
    {"": None},
    {"a": {"b": [{}]}},
    {"format": [], "data": {}},
    {"format": "json", "data": {"header": {"state": {"dtype": [], "arrays": [[]]}}, "arrays": {}}},
    {"-1": 1},
    {"99999999999": 0},
    {"type": "function", "function": {"name": "f"}},
]


def strange_bodies(route: Route) -> Iterator[dict[str, Any]]:
    """A body that is right, with one field after the other as nobody would send it."""
    base = {**next(iter(EXAMPLES.get(route.paths[0], {"": {}}).values())), "max_tokens": 2}
    for name in route.body.model_json_schema()["properties"]:
        for value in STRANGE:
            yield {**base, name: value}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.paths[0])
def test_a_field_of_any_kind_is_taken_or_refused(client, app, route):
    bodies = list(strange_bodies(route))
    wrong = []
    for body in random.Random(route.paths[0]).sample(bodies, min(60, len(bodies))):
        with client.post(route.paths[0], data=json_of(body)) as reply:
            if reply.status_code not in (200, 400, 403, 404, 409, 422):
                wrong.append((body, reply.text))
            elif reply.status_code != 200:
                refused(reply, reply.status_code)
        undo_changes(app)
    assert wrong == []


def json_of(value: Any) -> bytes:
    """With a number that is longer than Python writes."""
    return json.dumps(value).replace(json.dumps(HUGE), "9" * 5000).encode()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.paths[0])
def test_a_field_that_comes_twice_is_the_last_of_them(client, route):
    name = next(iter(route.body.model_json_schema()["properties"]))
    twice = f'{{"{name}": 1e999, "{name}": null}}'
    once = f'{{"{name}": null}}'
    statuses = [client.post(route.paths[0], data=data).status_code for data in (twice, once)]
    assert statuses[0] in (400, statuses[1])


# ---- much --------------------------------------------------------------------------------------


def test_a_body_of_100_mb_is_refused_before_it_is_read(client):
    for route in ROUTES:
        unread = io.BytesIO(b"{")
        said = {"CONTENT_LENGTH": str(100 * 2**20)}
        reply = client.post(route.paths[0], input_stream=unread, environ_overrides=said)
        refused(reply, 413)
        assert unread.tell() == 0


MANY = {
    "lists": b"[" + b"[]," * 10_000 + b"[]]",
    "objects": b"[" + b"{}," * 10_000 + b"{}]",
    "texts": b"[" + b'"",' * 10_000 + b"{}]",
    "numbers": b"[" + b"-1," * 10_000 + b"-1]",
    "keys": b"{" + b",".join(b'"%d":1e9' % i for i in range(10_000)) + b"}",
    "rows": b"[" + b"[1, -1]," * 10_000 + b"[1]]",
}


def refusal(route: Route, data: bytes) -> ApiError | None:
    """What a body is told, if it is refused."""
    try:
        read_body(route.body, data)
    except ApiError as error:
        return error
    return None


@pytest.mark.parametrize("data", MANY.values(), ids=MANY)
def test_of_many_wrong_values_the_first_is_told(data):
    """A sentence about each would take gigabytes."""
    refusals = [
        refusal(route, b'{"%s": %s}' % (name.encode(), data))
        for route in ROUTES
        for name in route.body.model_json_schema()["properties"]
    ]
    told = [each for each in refusals if each is not None]
    assert len(told) > len(refusals) / 2
    assert max(len(each.message) for each in told) <= 501
    causes = [e.__cause__ for e in told if isinstance(e.__cause__, ValidationError)]
    assert max(cause.error_count() for cause in causes) < 10  # one for each kind it might be


def test_bodies_of_a_million_lists_are_refused_unread(client):
    data = b'{"prompt": [' + b"[]," * 1_000_000 + b"[]]}"
    assert "1000003" in refused(client.post("/v1/completions", data=data), 413)


def test_many_and_long_stops_are_refused(client):
    for stops in (["x"] * 10_000, ["x" * 100_000], [f"{i}" for i in range(1000)]):
        message = refused(client.post(CHAT, json={**HELLO, "stop": stops}))
        assert "stop" in message


def test_many_stop_tokens_and_biases_cost_nothing_that_others_feel(client, app):
    tokens = [i % 4000 + 90 for i in range(100_000)]
    biases = {str(token): -100 for token in range(4096)}
    for field in ({"stop_token_ids": tokens}, {"logit_bias": biases}):
        assert client.post(CHAT, json={**HELLO, **field}).status_code == 200
    beyond = {str(token): 0 for token in range(4000, 100_000)}
    refused(client.post(CHAT, json={**HELLO, "logit_bias": beyond}))


def test_more_answers_than_may_be_are_refused(client):
    refused(client.post(CHAT, json={**HELLO, "n": 129}))
    refused(client.post(CHAT, json={**HELLO, "n": 10**9}))


def test_more_tokens_than_may_be_are_refused(client):
    for n in (17, 2**31, 10**30):
        assert "max_tokens" in refused(client.post(CHAT, json={**HELLO, "max_tokens": n}))
    long = [{"role": "user", "content": "fox " * 30_000}]
    assert "20000" in refused(client.post(CHAT, json={**HELLO, "messages": long}))


def test_a_prompt_of_megabytes_is_refused(client):
    long = [{"role": "user", "content": "\n\n" * 2_000_000}]
    refused(client.post(CHAT, json={**HELLO, "messages": long}))


# ---- texts and tools ---------------------------------------------------------------------------

TEXTS = [
    "\0",
    "".join(map(chr, range(32))),
    "\x7f\x80\x9f\u200b\u202e\ufeff\uffff",
    "\U0010ffff" * 50,
    "User: Assistant: System: \n\nUser:",
    "✿" * 50,
    "<think></think><think>",
    "```json\n```<tool_call>{",
    "{{ 7 * 7 }}{% for x in range(10**9) %}{% endfor %}",
    "%s%n{0}{messages}",
    "<|endoftext|>",
    "\r\n\r\n\r",
    "",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_any_text_is_a_message(client, text):
    for role in ("system", "developer", "user", "assistant", "tool", "function"):
        messages = [{"role": role, "content": text, "tool_call_id": text, "name": text}]
        body = {**HELLO, "messages": messages, "seed": 3}
        whole = client.post(CHAT, json=body)
        streamed = client.post(CHAT, json={**body, "stream": True})
        assert whole.status_code == streamed.status_code
        if whole.status_code != 200:
            refused(whole)
            continue
        events = [line[6:] for line in streamed.text.split("\n\n") if line.startswith("data: {")]
        deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
        content = "".join(delta.get("content", "") for delta in deltas)
        assert content == whole.json["choices"][0]["message"]["content"]


MESSAGES: dict[str, Any] = {
    "no role": [{"content": "x"}],
    "unknown role": [{"role": "root", "content": "x"}],
    "a role that is a list": [{"role": [], "content": "x"}],
    "a role that is an object": [{"role": {}, "content": "x"}],
    "content that is a number": [{"role": "user", "content": 1}],
    "content that is an object": [{"role": "user", "content": {"type": "text"}}],
    "a part that is a number": [{"role": "user", "content": [1]}],
    "a part without text": [{"role": "user", "content": [{"type": "text"}]}],
    "a part with a list": [{"role": "user", "content": [{"type": "text", "text": []}]}],
    "an image": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    "calls that are a number": [{"role": "assistant", "tool_calls": 1}],
    "calls that are numbers": [{"role": "assistant", "tool_calls": [1, None]}],
    "a call without a function": [{"role": "assistant", "tool_calls": [{"id": "x"}]}],
    "a call of a number": [{"role": "assistant", "tool_calls": [{"function": 1}]}],
    "a call without arguments": [
        {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}
    ],
    "a call whose arguments are no JSON": [
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}
    ],
    "a call whose arguments are deep": [
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[" * 9999}}]}
    ],
    "an old call": [{"role": "assistant", "function_call": [1]}],
    "a result of nothing": [{"role": "tool", "content": None, "tool_call_id": {}}],
    "a prefix that is none": [{"role": "assistant", "content": None, "prefix": [1]}],
    "a message that is a list": [[]],
    "a message that is text": ["x"],
    "messages that are text": "x",
    "messages that are an object": {"role": "user", "content": "x"},
    "ten thousand messages": [{"role": "user", "content": "x"}] * 10_000,
}


@pytest.mark.parametrize("messages", MESSAGES.values(), ids=MESSAGES)
def test_messages_of_any_form_are_taken_or_refused(client, messages):
    for more in ({}, {"tools": [FUNCTION]}, {"stream": True}):
        reply = client.post(CHAT, json={**HELLO, "messages": messages, **more})
        if reply.status_code != 200:
            refused(reply)


FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def function(**changes: Any) -> dict[str, Any]:
    """A tool with something odd about it."""
    return {"type": "function", "function": {**FUNCTION["function"], **changes}}


def deep(n: int) -> dict[str, Any]:
    """A schema of objects in objects."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(n):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


TOOLS: dict[str, Any] = {
    "numbers": [1, 2],
    "an object": {"f": FUNCTION},
    "text": "f",
    "no function": [{"type": "function"}],
    "another type": [{"type": "retrieval"}],
    "no name": [{"type": "function", "function": {}}],
    "a name that is a number": [function(name=1)],
    "a name that is long": [function(name="f" * 10_000)],
    "a name that is a template": [function(name="`\n### User\n{{")],
    "a name that is nothing": [function(name="")],
    "parameters that are text": [function(parameters="{}")],
    "parameters that are a list": [function(parameters=[])],
    "properties that are a list": [function(parameters={"type": "object", "properties": []})],
    "a property that is a number": [function(parameters={"properties": {"x": 1}})],
    "a type that is a list": [function(parameters={"properties": {"x": {"type": ["a", 1]}}})],
    "an enumeration of objects": [function(parameters={"properties": {"x": {"enum": [{}, []]}}})],
    "an enumeration of nothing": [function(parameters={"properties": {"x": {"enum": 1}}})],
    "what is required is a number": [function(parameters={"required": 1, "properties": {"x": {}}})],
    "a schema that is itself": [function(parameters={"$ref": "#"})],
    "a deep schema": [function(parameters=deep(80))],
    "a description that is an object": [function(description={})],
    "many": [function(name=f"f{i}") for i in range(2000)],
    "the same twice": [FUNCTION, FUNCTION],
}


@pytest.mark.parametrize("tools", TOOLS.values(), ids=TOOLS)
def test_tools_of_any_form_are_taken_or_refused(client, tools):
    for choice in ("auto", "none", {"type": "function", "function": {"name": 1}}):
        body = {**HELLO, "tools": tools, "tool_choice": choice}
        reply = client.post(CHAT, json=body)
        if reply.status_code != 200:
            refused(reply)


STATES: list[Any] = [
    {"format": []},
    {"format": {}, "data": "x"},
    {"format": "base64"},
    {"format": "base64", "data": "é"},
    {"format": "base64", "data": "AAAA"},
    {"format": "json", "data": {}},
    {"format": "json", "data": {"header": {"state": {"dtype": [], "arrays": []}}, "arrays": {}}},
    {"format": "json", "data": {"header": {"state": {"dtype": "float16", "arrays": [[]]}},
                                "arrays": {}}},
    {"format": "json", "data": {"header": {"state": {"dtype": "float32", "arrays": [["x"]]}},
                                "arrays": {"x": [1e999, [1]]}}},
    {"pending": []},
    {},
    [],
]  # fmt: skip


@pytest.mark.parametrize("state", STATES, ids=range(len(STATES)))
def test_a_state_that_is_none_is_refused(client, state):
    data = json.dumps({**HELLO, "state": state}).replace("Infinity", "1e999").encode()
    reply = client.post(CHAT, data=data)
    if state not in ({}, []):  # as good as none
        assert "state" in refused(reply)


# ---- names of files ----------------------------------------------------------------------------

PATHS = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "..",
    "/dev/zero",
    "/proc/self/mem",
    "~/.ssh/id_rsa",
    "file:///etc/passwd",
    "models/../../etc/passwd",
    "a\0b",
    "\\\\host\\share",
    "x" * 5000,
    "C:\\x",
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_a_state_is_a_name_and_no_way_to_other_files(client, path):
    reply = client.post(CHAT, json={**HELLO, "state": path})
    assert reply.status_code in (400, 404)
    message = refused(reply, reply.status_code)
    assert "root:" not in message


def test_a_model_may_be_anything_and_selects_nothing(client):
    before = client.post(CHAT, json=HELLO).json
    for path in PATHS:
        after = client.post(CHAT, json={**HELLO, "model": path}).json
        assert after["model"] == before["model"]
        assert after["choices"] == before["choices"]

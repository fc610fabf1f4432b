"""Texts to tokens and back, in the words of llama.cpp, vLLM, lm-eval and RWKV Chat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jinja2
import pytest

import rwkvcpp
from rwkvcpp.templates import TEMPLATES, choose_template
from tests.python.server import LiveServer, live_server
from tests.reference.cases import NARROW, Case

TEXT = "The fox said: “Grapes!”"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with live_server(template="g1") as live:
        yield live


@pytest.fixture(scope="module")
def encode():
    return rwkvcpp.Model().tokenizer.encode


def tokens(live: LiveServer, **body) -> list:
    reply = live.post("/tokenize", body)
    assert reply.status == 200, reply.data
    assert reply.json["count"] == len(reply.json["tokens"])
    assert reply.json["max_model_len"] == live.service.settings.max_prompt_tokens
    return reply.json["tokens"]


def test_llama_cpps_shape(live, encode):
    assert tokens(live, content=TEXT) == encode(TEXT)
    assert tokens(live, content=TEXT, add_special=True) == [0, *encode(TEXT)]
    assert tokens(live, content="") == []
    assert tokens(live, content=["The fox", 0, " said"]) == [
        *encode("The fox"),
        0,
        *encode(" said"),
    ]


def test_pieces_are_texts_or_bytes(live, encode):
    pieces = tokens(live, content="é“🦊<|endoftext|>", with_pieces=True)
    data = [
        piece["piece"].encode() if isinstance(piece["piece"], str) else bytes(piece["piece"])
        for piece in pieces
    ]
    assert b"".join(data).decode() == "é“🦊<|endoftext|>"
    assert any(isinstance(piece["piece"], list) for piece in pieces)
    assert pieces[-1] == {"id": 0, "piece": "<|endoftext|>"}


def test_vllms_shapes(live, encode):
    assert tokens(live, prompt=TEXT) == encode(TEXT)
    assert tokens(live, prompt=TEXT, add_special_tokens=True) == [0, *encode(TEXT)]
    text = choose_template("g1").render(HELLO)
    assert tokens(live, messages=HELLO, model="any") == [0, *encode(text)]
    no_reply = choose_template("g1").render(HELLO, add_generation_prompt=False)
    found = tokens(live, messages=HELLO, add_generation_prompt=False)
    assert found == [0, *encode(no_reply)]
    thinking = {"enable_thinking": True}
    assert tokens(live, messages=HELLO, chat_template_kwargs=thinking) == [
        0,
        *encode(choose_template("g1").render(HELLO, mode="think")),
    ]
    reply = live.post("/tokenize", {"prompt": "The fox", "return_token_strs": True}).json
    assert "".join(reply["token_strs"]) == "The fox"


def test_a_conversation_has_the_tokens_that_a_completion_reads(live):
    found = tokens(live, messages=HELLO)
    reply = live.post("/v1/chat/completions", {"messages": HELLO, "max_tokens": 1})
    assert reply.json["usage"]["prompt_tokens"] == len(found)


def test_what_lm_eval_asks(live, encode):
    info = live.get("/tokenizer_info").json
    end = info["eos_token"]
    assert tokens(live, prompt=end, add_special_tokens=False) == [0]
    assert tokens(live, prompt=TEXT, add_special_tokens=False) == encode(TEXT)
    assert live.post("/detokenize", {"tokens": [0]}).json["prompt"] == end
    for text in ("", TEXT, f"one{end}two{end}"):
        ids = tokens(live, prompt=text, add_special_tokens=False)
        assert live.post("/detokenize", {"tokens": ids}).json == {"content": text, "prompt": text}


@pytest.mark.parametrize("name", [*TEMPLATES])
def test_the_chat_template_renders_with_nothing_but_messages(name):
    with live_server(template=name) as live:
        text = live.get("/tokenizer_info").json["chat_template"]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    # Clients put more into messages than roles and contents.
    messages = [message | {"type": "text"} for message in HELLO]
    rendered = environment.from_string(text).render(messages=messages, add_generation_prompt=True)
    assert rendered == choose_template(name).render(HELLO)


def test_a_text_that_is_no_special_token_is_asked_for(live, encode):
    found = tokens(live, content="<|endoftext|>", parse_special=False)
    assert found == encode("<|endoftext|>") != [0]


def test_raw_texts_of_the_bundled_model_begin_with_the_token_that_parts_them(encode):
    with live_server() as live:
        assert tokens(live, prompt=TEXT) == [0, *encode(TEXT)]
        assert tokens(live, prompt=TEXT, add_special_tokens=False) == encode(TEXT)


def test_a_vocabulary_without_an_end_has_none_to_tell_of(model_file):
    model = model_file(Case("7", "gguf", "Q8_0", replace(NARROW, n_vocab=256)))
    with live_server(model=model) as live:
        assert live.get("/tokenizer_info").json["eos_token"] is None
        text = "<|endoftext|>"
        assert tokens(live, content=text, add_special=True) == [*text.encode()]
        assert live.post("/detokenize", {"tokens": [0]}).json["content"] == "\0"


def test_counting(live, encode):
    def count(**body) -> int:
        reply = live.post("/v1/tokens/count", body)
        assert reply.status == 200, reply.data
        return reply.json["tokens"]

    assert count(text=TEXT) == len(encode(TEXT))
    assert count(text="") == 0
    assert count(contents=["a", TEXT]) == len(encode("a")) + len(encode(TEXT))
    assert count(messages=HELLO) == len(tokens(live, messages=HELLO))


def test_llama_cpp_pythons_names(live, encode):
    assert live.post("/extras/tokenize", {"input": TEXT}).json == {"tokens": encode(TEXT)}
    assert live.post("/extras/tokenize/count", {"input": TEXT}).json == {"count": len(encode(TEXT))}
    assert live.post("/extras/detokenize", {"tokens": encode(TEXT)}).json == {"text": TEXT}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/tokenize", {}),
        ("/tokenize", {"content": 3}),
        ("/tokenize", {"content": [10**6]}),
        ("/tokenize", {"messages": []}),
        ("/tokenize", {"messages": [{"role": "nobody", "content": "a"}]}),
        ("/detokenize", {"tokens": [-1]}),
        ("/detokenize", {"tokens": [4096]}),
        ("/detokenize", {"tokens": "abc"}),
        ("/v1/tokens/count", {}),
        ("/extras/tokenize", {}),
    ],
)
def test_what_is_wrong_is_said(live, route, body):
    reply = live.post(route, body)
    assert reply.status == 400, reply.data
    assert reply.json["error"]["message"]


@pytest.mark.parametrize("route", ["/tokenize", "/detokenize", "/v1/tokens/count"])
def test_without_a_model_there_are_no_tokens(route):
    with live_server(no_model=True) as live:
        body = {"content": "a", "text": "a", "tokens": [1]}
        assert live.post(route, body).json["detail"] == "model not loaded"

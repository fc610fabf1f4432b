"""Chat completions: what a reply becomes in an answer, whole and streamed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkvcpp.server import create_app
from rwkvcpp.server.openai.chat_asked import understand
from rwkvcpp.server.openai.chat_body import ChatBody
from rwkvcpp.server.openai.tool_memory import MOST_CALLS, MOST_CHARACTERS, ToolMemory
from rwkvcpp.server.service import Service
from rwkvcpp.stream import TextStream
from rwkvcpp.templates import TEMPLATES
from rwkvcpp.tokenizer import Tokenizer
from tests.python.answers import CHAT, chunks, joined, whole, without_ids
from tests.python.scripted import Script, saying

HI = [{"role": "user", "content": "Hi"}]
NOW = {"type": "function", "function": {"name": "now", "description": "The time."}}
CALL = '```json\n{"name": "now", "arguments": {"zone": "UTC"}}\n```'
THINKING = {"enable_thinking": True}


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    """Of a server whose model has thoughts, as far as its template goes."""
    app = create_app(template="g1")
    yield app.test_client()
    app.extensions["rwkvcpp"].close(0)


@pytest.fixture(scope="module")
def tokenizer(client: FlaskClient) -> Tokenizer:
    service: Service = client.application.extensions["rwkvcpp"]
    return service.serving().model.tokenizer


@pytest.fixture
def reply(client: FlaskClient, tokenizer: Tokenizer):
    """What an answer has for a text that the model writes; streams have the same."""

    def of(text: Script, **body: Any) -> dict[str, Any]:
        body = {"messages": HI, "max_tokens": 200, **body}
        with saying(tokenizer, text):
            answer = whole(client, CHAT, **body)
            found = joined(chunks(client, CHAT, **body), logprobs=body.get("logprobs", False))
        copy = json.loads(json.dumps(answer["choices"]))
        assert without_ids(found) == without_ids(copy)
        return answer

    return of


def message(answer: dict[str, Any]) -> dict[str, Any]:
    return answer["choices"][0]["message"]


# ---- what an answer looks like ---------------------------------------------------------------


def test_an_answer_has_the_form_of_openai(reply):
    answer = reply("> Hello.\n\nUser: x", messages=HI)
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "rwkv7-stories-q8_0"
    assert answer["created"] > 1_700_000_000
    (choice,) = answer["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "Hello."},
        "logprobs": None,
        "finish_reason": "stop",
    }
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_chunks_share_their_head_and_usage_comes_if_asked_for(client, tokenizer):
    with saying(tokenizer, "> Hello there."):
        found = chunks(client, CHAT, messages=HI)
        told = chunks(client, CHAT, messages=HI, stream_options={"include_usage": True})
        answer = whole(client, CHAT, messages=HI)
    heads = [{key: chunk[key] for key in ("id", "object", "created", "model")} for chunk in found]
    assert heads[0]["object"] == "chat.completion.chunk"
    assert all(head == heads[0] for head in heads)
    assert all(len(chunk["choices"]) == 1 and "usage" not in chunk for chunk in found)
    assert told[-1]["choices"] == []
    assert told[-1]["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"]
    assert len(told) == len(found) + 1


def test_the_end_has_a_reason(reply):
    assert reply("> Hello")["choices"][0]["finish_reason"] == "stop"
    assert reply("> Hello\n\nUser: x")["choices"][0]["finish_reason"] == "stop"
    answer = reply("> Hello there, whoever you are", max_tokens=4)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 4
    assert reply("> Hello", max_tokens=0)["choices"][0]["finish_reason"] == "length"


def test_content_is_text_always(reply):
    assert message(reply("")) == {"role": "assistant", "content": ""}
    assert message(reply(">Hm", **THINKING)) == {
        "role": "assistant",
        "content": "",
        "reasoning_content": "Hm",
    }


# ---- thoughts --------------------------------------------------------------------------------


def test_thoughts_are_apart_and_counted(reply):
    answer = reply(">One two three.\n</think>\n\nYes.", **THINKING)
    assert message(answer)["reasoning_content"] == "One two three."
    assert message(answer)["content"] == "Yes."
    details = answer["usage"]["completion_tokens_details"]
    assert 3 <= details["reasoning_tokens"] < answer["usage"]["completion_tokens"]
    assert "completion_tokens_details" in reply("> Yes.")["usage"]


def test_a_leading_bracket_belongs_to_the_tag(reply):
    assert message(reply(">\n Yes > no"))["content"] == "Yes > no"


@pytest.mark.parametrize(
    ("body", "begins"),
    [
        ({}, "<think></think"),
        (THINKING, "<think"),
        ({"enable_thinking": False}, "<think></think"),
        ({"reasoning_effort": "none"}, "<think></think"),
        ({"reasoning_effort": "high"}, "<think"),
        ({"chat_template_kwargs": THINKING}, "<think"),
        ({"chat_template_kwargs": {"rwkv_generation_prompt": "open_think"}}, "<think"),
        ({"chat_template_kwargs": {"rwkv_generation_prompt": "fake_think"}}, "<think></think"),
        (
            {"chat_template_kwargs": {**THINKING, "x": 1}, "enable_thinking": False},
            "<think></think",
        ),
    ],
)
def test_whether_it_thinks_is_asked_for_in_many_ways(client, tokenizer, body, begins):
    answer = whole(client, CHAT, messages=HI, max_tokens=0, **body)
    text = "User: Hi\n\nAssistant: " + begins
    if body.get("reasoning_effort") == "high":
        text = text.replace("Hi", "Hi (think a lot)")
    assert answer["usage"]["prompt_tokens"] == 1 + len(tokenizer.encode(text))


def test_thoughts_may_stay_in_the_text(reply):
    answer = reply(">Hm.</think>\n\nYes.", reasoning_format="none", **THINKING)
    assert message(answer)["content"] == "<think>Hm.</think>\n\nYes."
    assert "reasoning_content" not in message(answer)
    assert message(reply(">\nYes.", reasoning_format="none"))["content"] == "Yes."


def test_whoever_begins_a_thought_gets_it_in_the_text(reply):
    """RWKV-Runner's clients do, and read nothing but content."""
    messages = [*HI, {"role": "assistant", "content": "<think>", "prefix": True}]
    answer = reply("Hm.\n</think>\n\nYes.", messages=messages)
    assert message(answer)["content"] == "Hm.</think>\n\nYes."
    answer = reply("Hm.\n</think>\n\nYes.", messages=messages, reasoning_format="deepseek")
    assert message(answer) == {
        "role": "assistant",
        "content": "Yes.",
        "reasoning_content": "Hm.",
    }


def test_a_message_that_was_begun_goes_on(client, tokenizer, reply):
    messages = [*HI, {"role": "assistant", "content": "Once upon", "prefix": True}]
    answer = reply(" a time", messages=messages)
    assert message(answer)["content"] == " a time"
    n_expected = 1 + len(tokenizer.encode("User: Hi\n\nAssistant: Once upon"))
    assert answer["usage"]["prompt_tokens"] == n_expected
    closed = [*HI, {"role": "assistant", "content": "<think>\n</think>", "prefix": True}]
    assert message(reply("\n\nYes.", messages=closed))["content"] == "Yes."


def test_json_that_was_begun_is_no_call(reply):
    messages = [*HI, {"role": "assistant", "content": "```json", "prefix": True}]
    text = '\n{"name": "now", "arguments": {}}\n```'
    assert message(reply(text, messages=messages))["content"] == text.lstrip()
    call = reply(text, messages=messages, tools=[NOW])
    assert message(call)["tool_calls"][0]["function"]["name"] == "now"


# ---- stops -----------------------------------------------------------------------------------


def test_stops_act_on_the_words_alone(reply):
    text = ">First END then\n</think>\n\nYes. END No."
    answer = reply(text, stop="END", **THINKING)
    assert message(answer)["reasoning_content"] == "First END then"
    assert message(answer)["content"] == "Yes. "
    assert answer["choices"][0]["finish_reason"] == "stop"
    inline = reply(text, stop="END", reasoning_format="none", **THINKING)
    assert message(inline)["content"] == "<think>First "


def test_a_stop_ends_the_work_too(reply):
    short = reply("> One. END" + " and more" * 30, stop=["END"])
    assert short["usage"]["completion_tokens"] < 12


def test_stops_that_are_none_are_let_pass(reply):
    for stop in ("", [], [""], None, ["", None]):
        assert message(reply("> Yes", stop=stop))["content"] == "Yes"


def test_a_stop_is_found_in_what_the_end_brings(reply, tokenizer):
    """The engine holds back what may become the template's stop, and the client's is in it."""
    text = "> Yes\n\nUse"
    answer = reply(text, stop=["Use"], max_tokens=len(tokenizer.encode(text)))
    assert message(answer)["content"] == "Yes\n\n"
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_stop_token_ids_end_the_text(reply, tokenizer):
    (token,) = tokenizer.encode("!")
    answer = reply([*tokenizer.encode("> Yes"), token, *tokenizer.encode(" No")],
                   stop_token_ids=[token])  # fmt: skip
    assert message(answer)["content"] == "Yes"
    assert answer["choices"][0]["finish_reason"] == "stop"


PIECES = st.sampled_from(
    [*"> \n.é好🦊", "Yes", "STOP", "ST", "<think>", "</think>", "</", "\n\nUser:", "\n\nUs", "User",
     "```json\n", '{"name": "now", "arguments": {}}', "\n```", "**Tool Call:**", "```", CALL]
)  # fmt: skip
STOPS = st.lists(st.sampled_from(["STOP", "User", ".", "好", "\n", "```"]), max_size=2, unique=True)


@st.composite
def replies(draw) -> bytes:
    return "".join(draw(st.lists(PIECES, max_size=12))).encode()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces, parted at the places."""
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[begin:end] for begin, end in pairwise(edges)]


@settings(max_examples=60, deadline=None)
@given(
    text=replies(),
    places=st.lists(st.integers(1, 60), max_size=12),
    stops=STOPS,
    thinks=st.booleans(),
    has_tools=st.booleans(),
    inline=st.booleans(),
    n_left=st.integers(0, 30),
)
def test_chunks_add_up_to_the_whole_answer(
    client, tokenizer, text, places, stops, thinks, has_tools, inline, n_left
):
    tokens = [token for piece in cut(text, places) for token in tokenizer.encode(piece)]
    body = {
        "messages": HI,
        "stop": stops,
        "enable_thinking": thinks,
        "tools": [NOW] if has_tools else None,
        "reasoning_format": "none" if inline else "deepseek",
        "max_tokens": max(0, len(tokens) + 5 - n_left),
        "logprobs": True,
    }
    with saying(tokenizer, tokens):
        answer = whole(client, CHAT, **body)["choices"]
        found = joined(chunks(client, CHAT, **body), logprobs=True)
    assert without_ids(found) == without_ids(answer)
    said = message({"choices": answer})
    assert isinstance(said["content"], str)
    if n_left == 0:
        content, reasoning = expected(text.decode(), stops, thinks, has_tools, inline)
        assert (said["content"], said.get("reasoning_content", "")) == (content, reasoning)


def expected(
    text: str, stops: list[str], thinks: bool, has_tools: bool, inline: bool
) -> tuple[str, str]:
    """By the template's own words, from the whole text."""
    template = TEMPLATES["g1"]
    text = until(text, template.stops)
    mode = "think" if thinks else "fake-think"
    found = template.split_reply(text, mode=mode, tools=[NOW] if has_tools else None)
    if not inline:
        return until(found.content, stops), found.reasoning
    both = f"<think>{found.reasoning}" if found.reasoning else ""
    if found.content:
        both += ("</think>\n\n" if found.reasoning else "") + found.content
    return until(both, stops), ""


def until(text: str, stops: Any) -> str:
    stream = TextStream(stops)
    return stream.push(text.encode()) + stream.finish()


# ---- tools -----------------------------------------------------------------------------------


def test_a_call_comes_back_as_one(reply):
    answer = reply(f">\n{CALL}", tools=[NOW])
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == ""
    (call,) = choice["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    assert call["type"] == "function"
    assert call["function"]["name"] == "now"
    assert json.loads(call["function"]["arguments"]) == {"zone": "UTC"}


def test_no_arguments_are_an_empty_object(reply):
    answer = reply('>```json\n{"name": "now"}\n```', tools=[NOW])
    (call,) = message(answer)["tool_calls"]
    assert call["function"]["arguments"] == "{}"


def test_the_model_may_answer_or_call(reply):
    answer = reply("> Not now.", tools=[NOW])
    assert message(answer) == {"role": "assistant", "content": "Not now."}
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_words_before_a_call_are_content(reply):
    answer = reply(f"> Let me see.\n{CALL}\n", tools=[NOW])
    assert message(answer)["content"] == "Let me see."
    assert len(message(answer)["tool_calls"]) == 1


def test_several_calls_unless_one_is_asked_for(reply):
    answer = reply(f">\n{CALL}\n{CALL}", tools=[NOW])
    assert len(message(answer)["tool_calls"]) == 2
    answer = reply(f">\n{CALL}\n{CALL}", tools=[NOW], parallel_tool_calls=False)
    assert len(message(answer)["tool_calls"]) == 1


def test_a_call_that_is_cut_off_says_so(reply, tokenizer):
    n_tokens = len(tokenizer.encode(f">\n{CALL}")) - 6
    answer = reply(f">\n{CALL}", tools=[NOW], max_tokens=n_tokens)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert "tool_calls" not in message(answer)


def test_without_tools_a_fence_is_text(reply):
    assert message(reply(f">\n{CALL}"))["content"] == CALL
    none = reply(f">\n{CALL}", tools=[NOW], tool_choice="none")
    assert message(none)["content"] == CALL


def test_tools_are_told_as_in_training(client, tokenizer):
    def n_prompt(**body: Any) -> int:
        return whole(client, CHAT, messages=HI, max_tokens=0, **body)["usage"]["prompt_tokens"]

    text = TEMPLATES["g1"].render(HI, mode="fake-think", tools=[NOW])
    assert "Tools:\n- now()" in text
    assert n_prompt(tools=[NOW]) == 1 + len(tokenizer.encode(text))
    assert n_prompt(tools=[NOW], tool_choice="none") == n_prompt()
    bot = {"chat_template_kwargs": {"rwkv_prompt_template": "bot"}}
    text = TEMPLATES["functions"].render(HI, tools=[NOW])
    assert n_prompt(tools=[NOW], **bot) == 1 + len(tokenizer.encode(text))


def test_a_template_leaves_tools_to_the_one_that_knows_them(reply):
    bot = {"chat_template_kwargs": {"rwkv_prompt_template": "bot"}}
    assert message(reply(">x</think>\n\nYes.✿No", **bot))["content"] == "Yes."
    answer = reply(">x</think>\n\nYes.\n### User\nNo", tools=[NOW], **bot)
    assert message(answer)["content"] == "Yes."
    result = [*HI, {"role": "tool", "content": "12:00", "tool_call_id": "x"}]
    answer = reply(">x</think>\n\nYes.\n### User\nNo", messages=result, **bot)
    assert message(answer)["content"] == "Yes."


def test_a_result_needs_no_tools_again(client, tokenizer, reply):
    first = reply(f">\n{CALL}", tools=[NOW])
    call = message(first)["tool_calls"][0]
    history = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "12:00", "name": "now"},
    ]
    with_tools = whole(client, CHAT, messages=history, tools=[NOW], max_tokens=0)["usage"]
    without = whole(client, CHAT, messages=history, max_tokens=0)["usage"]
    assert without["prompt_tokens"] == with_tools["prompt_tokens"]
    again = reply(f">\n{CALL}", messages=history)  # it may call again
    assert message(again)["tool_calls"][0]["function"]["name"] == "now"
    history[-1]["tool_call_id"] = "call_of_somebody_else"
    unknown = whole(client, CHAT, messages=history, max_tokens=0)["usage"]
    assert unknown["prompt_tokens"] < without["prompt_tokens"]


def test_the_oldest_calls_are_forgotten():
    memory = ToolMemory()

    def knows(name: str) -> bool:
        return memory.recall([{"tool_call_id": name}]) == [NOW]

    for i in range(MOST_CALLS + 1):
        memory.remember(f"call {i}", [NOW])
    assert [knows(f"call {i}") for i in (0, 1, MOST_CALLS)] == [False, True, True]
    memory.remember("long", [{**NOW, "description": "x" * (MOST_CHARACTERS - 10_000)}])
    assert [knows(f"call {i}") for i in (1, MOST_CALLS)] == [False, True]
    memory.remember("too long", [{**NOW, "description": "x" * MOST_CHARACTERS}])
    assert knows(f"call {MOST_CALLS}")
    assert memory.recall([{"tool_call_id": "too long"}]) == ()
    assert memory.recall([{"role": "user"}, {"tool_call_id": 5}]) == ()


def test_calls_of_old_are_calls(client):
    call = {"name": "now", "arguments": "{}"}
    new = [{"role": "assistant", "content": None, "tool_calls": [{"function": call}]}]
    old = [{"role": "assistant", "content": None, "function_call": call}]
    prompts = [
        whole(client, CHAT, messages=[*HI, *each], max_tokens=0)["usage"]["prompt_tokens"]
        for each in (new, old, [{"role": "assistant", "content": None}])
    ]
    assert prompts[0] == prompts[1] > prompts[2]


# ---- logprobs --------------------------------------------------------------------------------


def test_logprobs_are_those_of_the_words(reply):
    answer = reply(
        ">Hm.</think>\n\nYes, of course. END", stop="END", logprobs=True, top_logprobs=3, **THINKING
    )
    logprobs = answer["choices"][0]["logprobs"]
    entries = logprobs["content"]
    assert logprobs["refusal"] is None
    assert "".join(entry["token"] for entry in entries).strip() == "Yes, of course."
    for entry in entries:
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == 3
        best = [top["logprob"] for top in entry["top_logprobs"]]
        assert best == sorted(best, reverse=True)
        assert entry["logprob"] <= best[0]


def test_a_part_of_a_character_is_told_by_its_bytes(reply, tokenizer):
    (part, *rest) = [tokenizer.encode(bytes([byte]))[0] for byte in "好".encode()]
    tokens = [*tokenizer.encode("> "), part, *rest]
    entries = reply(tokens, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in entries[-3:]] == [
        "bytes:\\xe5", "bytes:\\xa5", "bytes:\\xbd"
    ]  # fmt: skip
    assert b"".join(bytes(entry["bytes"]) for entry in entries).strip().decode() == "好"


# ---- sampling, and several answers -----------------------------------------------------------


def test_choices_of_one_request_have_seeds_in_a_row(client):
    body = {"messages": HI, "max_tokens": 12, "temperature": 1.5, "top_p": 1}
    answer = whole(client, CHAT, n=3, seed=7, **body)
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    alone = [whole(client, CHAT, seed=7 + i, **body) for i in range(3)]
    assert texts == [message(each)["content"] for each in alone]
    assert len({*texts}) == 3
    assert answer["usage"]["prompt_tokens"] == alone[0]["usage"]["prompt_tokens"]
    n_drawn = sum(each["usage"]["completion_tokens"] for each in alone)
    assert answer["usage"]["completion_tokens"] == n_drawn


@pytest.mark.parametrize("seed", [0, -5, 2**63, 10**30])
def test_any_integer_is_a_seed(client, seed):
    body = {"messages": HI, "max_tokens": 6, "temperature": 2, "top_p": 1, "seed": seed}
    assert message(whole(client, CHAT, **body)) == message(whole(client, CHAT, **body))


def test_temperature_zero_is_greedy(client):
    texts = [
        message(whole(client, CHAT, messages=HI, max_tokens=10, **body))["content"]
        for body in ({"temperature": 0, "seed": 1}, {"temperature": 0}, {"top_k": 1, "seed": 9})
    ]
    assert texts[0] == texts[1] == texts[2]


def test_a_bias_may_forbid_and_force(client, tokenizer):
    (token,) = tokenizer.encode("!")
    forced = whole(client, CHAT, messages=HI, max_tokens=4, logit_bias={str(token): 100})
    assert message(forced)["content"] == "!!!!"


def test_defaults_are_the_modes_the_servers_and_the_requests(client):
    service: Service = client.application.extensions["rwkvcpp"]
    body = {"messages": HI, "max_tokens": 30, "seed": 3}
    usual = message(whole(client, CHAT, **body))
    greedy = message(whole(client, CHAT, temperature=0, **body))
    try:
        service.defaults = {"temperature": 0, "max_tokens": 3}
        assert message(whole(client, CHAT, **body)) == greedy
        del body["max_tokens"]
        assert whole(client, CHAT, **body)["usage"]["completion_tokens"] == 3
        service.defaults = {"temperature": 0}
        assert message(whole(client, CHAT, **body, temperature=1.0, max_tokens=30)) == usual
    finally:
        service.defaults = {}


@pytest.mark.parametrize(
    ("template", "body", "n_tokens"),
    [
        ("world", {}, 500),  # as RWKV-Runner has it
        ("g1", {}, 4096),  # a thought needs room
        ("g1", {"max_completion_tokens": 7}, 7),
        ("world", {"tools": [NOW]}, 4096),
    ],
)
def test_how_many_tokens_is_known_where_nobody_says_it(template, body, n_tokens):
    app = create_app(template=template)
    try:
        with app.test_request_context():
            asked = understand(app.extensions["rwkvcpp"], ChatBody(messages=HI, **body))
        assert asked.requests[0].max_tokens == n_tokens
    finally:
        app.extensions["rwkvcpp"].close(0)


def test_penalties_may_count_the_prompt(client, tokenizer):
    """A bias wants the word, and penalties that know the prompt do not."""
    (token,) = tokenizer.encode(" time")
    body = {
        "messages": [{"role": "user", "content": "Once upon a time"}],
        "logit_bias": {str(token): 40},
        "presence_penalty": 80,
        "sampler": "rwkv",
        "temperature": 0,
        "max_tokens": 1,
    }
    assert "time" in message(whole(client, CHAT, **body))["content"]
    assert "time" not in message(whole(client, CHAT, global_penalty=True, **body))["content"]


def test_what_is_known_of_a_prompt_costs_nothing(client):
    body = {"messages": [{"role": "user", "content": "A prompt of its own, for this test"}]}
    first = whole(client, CHAT, max_tokens=2, **body)["usage"]
    second = whole(client, CHAT, max_tokens=2, **body)["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["prompt_tokens_details"]["cached_tokens"] == second["prompt_tokens"]
    third = whole(client, CHAT, max_tokens=2, no_cache=True, **body)["usage"]
    assert third["prompt_tokens_details"]["cached_tokens"] == 0


# ---- messages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "Hi", "type": "text", "name": None, "mode": 5}],
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        [{"role": "user", "content": "\n\nHi \n", "refusal": None, "tool_calls": None}],
    ],
)
def test_messages_come_in_many_forms(client, messages):
    usual = whole(client, CHAT, messages=HI, max_tokens=8, seed=1)
    assert message(whole(client, CHAT, messages=messages, max_tokens=8, seed=1)) == message(usual)


def test_names_and_greetings_are_those_of_the_request(client, tokenizer):
    def n_prompt(**body: Any) -> int:
        return whole(client, CHAT, max_tokens=0, **body)["usage"]["prompt_tokens"]

    text = "Rules: Be kind.\n\nBob: Hi\n\nAlice: <think></think"
    messages = [{"role": "developer", "content": "Be kind."}, *HI]
    names = {"user_name": "Bob", "assistant_name": "Alice", "system_name": "Rules"}
    assert n_prompt(messages=messages, **names) == 1 + len(tokenizer.encode(text))
    greeted = n_prompt(messages=HI, presystem=True)
    assert greeted > n_prompt(messages=HI) + 10


def test_names_end_an_answer(reply):
    answer = reply("> Yes.\n\nBob: and", user_name="Bob", assistant_name="Alice")
    assert message(answer)["content"] == "Yes."


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        {"guided_json": {"type": "object"}},
        {"grammar": "root ::= 'a'"},
        {"json_schema": {"type": "object"}},
        {"bnf_schema": "start ::= 'a'"},
        {"tools": [NOW], "tool_choice": "required"},
        {"tools": [NOW], "tool_choice": {"type": "function", "function": {"name": "now"}}},
        {"functions": [{"name": "now"}]},
        {"function_call": {"name": "now"}},
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "x"}},
        {"min_p": 0.1},
        {"repeat_penalty": 1.2},
    ],
)
def test_what_is_not_there_is_refused(client, body):
    for stream in (False, True):
        response = client.post(CHAT, json={"messages": HI, "stream": stream, **body})
        assert response.status_code == 400
        error = response.get_json()["error"]
        assert error["type"] == "not_supported_error"
        assert error["param"] in body


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "text"}},
        {"tool_choice": "auto"},
        {"functions": []},
        {"modalities": ["text"]},
        {"repeat_penalty": 1.0, "min_p": 0.0, "grammar": ""},
        {"parallel_tool_calls": True, "store": False, "metadata": {}, "user": "x"},
        {"model": "gpt-4o", "service_tier": "auto", "unknown": [1]},
    ],
)
def test_what_asks_for_nothing_is_let_pass(client, body):
    nulls = dict.fromkeys(("stop", "tools", "tool_choice", "max_tokens", "seed", "n", "stream"))
    answer = whole(client, CHAT, **{**nulls, "messages": HI, "max_tokens": 1, **body})
    assert answer["model"] == "rwkv7-stories-q8_0"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"seed": 1.5}, "seed"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, None),
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
        ({"stop": ["x" * 300]}, None),
        ({"stop": ["x"] * 200}, None),
        ({"reasoning_effort": "extreme"}, None),
        ({"reasoning_format": "json"}, "reasoning_format"),
        ({"user_name": ""}, None),
        ({"chat_template_kwargs": {"rwkv_prompt_template": "x"}}, None),
        ({"chat_template_kwargs": {"rwkv_generation_prompt": "x"}}, None),
        ({"sampler": "mirostat"}, "sampler"),
    ],
)
def test_what_is_wrong_is_told_before_a_stream_begins(client, body, param):
    for stream in (False, True):
        response = client.post(CHAT, json={"messages": HI, "stream": stream, **body})
        assert response.status_code == 400, response.text
        error = response.get_json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["message"]
        if param is not None:
            assert error["param"] == param


def test_a_template_without_thoughts_has_none_to_begin():
    app = create_app(template="world")
    try:
        kwargs = {"rwkv_generation_prompt": "open_think"}
        response = app.test_client().post(
            CHAT, json={"messages": HI, "chat_template_kwargs": kwargs}
        )
        assert response.status_code == 400
        assert "world" in response.get_json()["error"]["message"]
        answer = whole(app.test_client(), CHAT, messages=HI, max_tokens=1, enable_thinking=True)
        assert "reasoning_content" not in message(answer)
    finally:
        app.extensions["rwkvcpp"].close(0)


def test_logprobs_are_numbers(client):
    answer = whole(client, CHAT, messages=HI, max_tokens=5, logprobs=True)
    content = answer["choices"][0]["logprobs"]["content"]
    assert all(math.isfinite(entry["logprob"]) for entry in content)
    assert all(entry["top_logprobs"] == [] for entry in content)

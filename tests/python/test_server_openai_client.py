"""The official client of OpenAI against a live server: it works, and tells what went wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
import openai
import pytest

from tests.python.scripted import saying
from tests.python.server import PATIENCE, LiveServer, live_server

HI = [{"role": "user", "content": "Hi"}]
NAME = "rwkv"  # any will do
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
CALL = '>\n```json\n{"name": "now", "arguments": {"zone": "UTC"}}\n```'


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(template="g1") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", timeout=PATIENCE, max_retries=0
    ) as client:
        yield client


@pytest.fixture
def says(server: LiveServer):
    return lambda script: saying(server.service.serving().model.tokenizer, script)


def test_chat(client, says):
    with says("> Hello."):
        answer = client.chat.completions.create(model=NAME, messages=HI)
    assert answer.choices[0].message.content == "Hello."
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert answer.id.startswith("chatcmpl-")
    assert answer.created > 0


def test_chat_without_v1_in_the_address(server, says):
    with openai.OpenAI(base_url=server.url, api_key="none") as client, says("> Hello."):
        answer = client.chat.completions.create(model=NAME, messages=HI)
    assert answer.choices[0].message.content == "Hello."


def test_chat_streamed(client, says):
    with says(">Hm.</think>\n\nHello 🦊."):
        chunks = [
            *client.chat.completions.create(
                model=NAME,
                messages=HI,
                stream=True,
                stream_options={"include_usage": True},
                reasoning_effort="medium",
            )
        ]
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "Hello 🦊."
    thoughts = (getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert "".join(thoughts) == "Hm."
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_the_stream_helper(client, says):
    with says("> Hello there."), client.chat.completions.stream(model=NAME, messages=HI) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert "content.delta" in kinds
    assert answer.choices[0].message.content == "Hello there."
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"


def test_calls_of_tools_and_their_results(client, says):
    with says(CALL):
        answer = client.chat.completions.create(model=NAME, messages=HI, tools=[NOW])
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "now"
    assert json.loads(call.function.arguments) == {"zone": "UTC"}
    messages = [
        *HI,
        answer.choices[0].message,  # as an object, as people do
        {"role": "tool", "tool_call_id": call.id, "content": "12:00"},
    ]
    with says("> It is noon."):
        answer = client.chat.completions.create(model=NAME, messages=messages)
    assert answer.choices[0].message.content == "It is noon."


def test_calls_of_tools_by_the_stream_helper(client, says):
    with (
        says(CALL),
        client.chat.completions.stream(model=NAME, messages=HI, tools=[NOW]) as stream,
    ):
        answer = stream.get_final_completion()
    (call,) = answer.choices[0].message.tool_calls
    assert (call.id[:5], call.function.name) == ("call_", "now")
    assert json.loads(call.function.arguments) == {"zone": "UTC"}


def test_logprobs(client, says):
    with says("> Yes."):
        answer = client.chat.completions.create(
            model=NAME, messages=HI, logprobs=True, top_logprobs=2
        )
    content = answer.choices[0].logprobs.content
    assert "".join(entry.token for entry in content).strip() == "Yes."
    assert all(len(entry.top_logprobs) == 2 for entry in content)


def test_all_that_it_may_send(client):
    answer = client.chat.completions.create(
        model=NAME,
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "Hi", "name": "Ann"},
        ],
        max_completion_tokens=3,
        n=2,
        seed=1,
        stop=["\n\n"],
        temperature=0.5,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        logit_bias={"5": -1},
        parallel_tool_calls=True,
        metadata={"a": "b"},
        user="ann",
        store=False,
        service_tier="auto",
        response_format={"type": "text"},
        extra_body={"top_k": 40, "penalty_decay": 0.99, "sampler": "rapid", "anything": [1]},
    )
    assert len(answer.choices) == 2
    assert answer.usage.completion_tokens <= 6


def test_completions_with_echo_and_logprobs(client):
    answer = client.completions.create(
        model=NAME, prompt=["Once upon", "The fox"], max_tokens=2, echo=True, logprobs=2, seed=1
    )
    for choice, prompt in zip(answer.choices, ("Once upon", "The fox"), strict=True):
        assert choice.text.startswith(prompt)
        assert "".join(choice.logprobs.tokens) == choice.text
        assert choice.logprobs.token_logprobs[0] is None
        assert len(choice.logprobs.text_offset) == len(choice.logprobs.tokens)


def test_completions_streamed(client):
    options = {"model": NAME, "prompt": "Once upon", "max_tokens": 8, "seed": 1}
    whole = client.completions.create(**options)
    chunks = [*client.completions.create(**options, stream=True)]
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"


def test_embeddings(client, server):
    """It asks for base64 unless told otherwise."""
    texts = ["The fox ran.", "好"]
    expected = server.service.serving().model.embed(texts)
    for options in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model=NAME, input=texts, **options)
        found = np.array([entry.embedding for entry in answer.data], np.float32)
        assert np.array_equal(found, expected)
    assert answer.usage.prompt_tokens > 0


def test_models(client):
    listed = client.models.list()
    assert listed.data[0].id == "rwkv7-stories-q8_0"
    assert client.models.retrieve(listed.data[0].id).owned_by == "rwkv"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"


def test_errors_have_their_classes_and_a_sentence(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=NAME, messages=HI, temperature=-1)
    assert "temperature" in caught.value.message
    assert (caught.value.param, caught.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=NAME, messages=HI, response_format={"type": "json_object"}, stream=True
        )
    assert caught.value.type == "not_supported_error"
    with pytest.raises(openai.NotFoundError):
        client.files.list()


def test_what_goes_wrong_in_a_stream_is_raised():
    with (
        live_server() as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        stream = client.completions.create(
            model=NAME, prompt="Once", max_tokens=100_000, stream=True, logit_bias={"0": -100}
        )
        next(stream)
        server.service.serving().engine.close()
        with pytest.raises(openai.APIError, match="closed"):
            list(stream)


def test_keys():
    with live_server(api_key=("secret",)) as server:
        address = f"{server.url}/v1"
        with (
            openai.OpenAI(base_url=address, api_key="wrong") as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()
        with openai.OpenAI(base_url=address, api_key="secret") as client:
            assert client.models.list().data


def test_a_full_queue_says_when_to_come_back():
    with (
        live_server(max_batch=1, max_waiting=1) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        options = {"model": NAME, "prompt": "Once", "max_tokens": 100_000, "stream": True}
        for_ever = {"logit_bias": {"0": -100}}
        running = client.completions.create(**options, **for_ever)
        next(iter(running))  # it has the slot
        waiting = client.completions.create(**options, **for_ever)
        with pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(**options, **for_ever)
        assert int(caught.value.response.headers["Retry-After"]) >= 1
        waiting.close()
        running.close()


def test_a_client_without_patience_leaves(client, server):
    with pytest.raises(openai.APITimeoutError):
        client.completions.create(
            model=NAME,
            prompt="Once",
            max_tokens=100_000,
            logit_bias={"0": -100},
            timeout=0.5,
        )
    engine = server.service.serving().engine
    deadline = time.monotonic() + PATIENCE
    while engine.status().running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.status().running == 0

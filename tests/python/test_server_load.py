"""Under load: a request gets what it gets alone, whoever else is there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.python.server import PATIENCE, LiveServer, live_server

STORY = "Once upon a time there was a fox, and the fox had a friend. " * 8
WARM = {"temperature": 1.2, "top_p": 0.95, "presence_penalty": 0.3, "frequency_penalty": 0.2}
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(template="g1", max_batch=8) as server:
        yield server


def chat(text: str, **body: Any) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": text}]
    return "/v1/chat/completions", {"messages": messages, "max_tokens": 24, **WARM, **body}


def completion(prompt: Any, **body: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {"prompt": prompt, "max_tokens": 24, **WARM, **body}


KINDS = [
    chat("Hi", seed=1),
    chat("Hi", seed=2, enable_thinking=True, logprobs=True, top_logprobs=2),
    chat(STORY, seed=3, stop=["fox", "."]),
    chat(STORY, seed=4, n=3),
    chat("Hi", seed=5, tools=[TOOL]),
    chat("Hi", seed=6, global_penalty=True, sampler="openai"),
    chat("Hi", seed=7, no_cache=True, return_state=True),
    completion("Once", seed=8),
    completion(STORY, seed=9, echo=True, logprobs=1),
    completion([[0, 5, 9], [7]], seed=10, n=2),
    completion("Once", seed=11, penalty_decay=0.9, top_k=5),
    completion(STORY + "And", seed=12, sampler="rapid"),
    ("/v1/embeddings", {"input": [STORY, "Hi"]}),
]


def answer(server: LiveServer, kind: tuple[str, dict[str, Any]]) -> Any:
    """What differs between requests, and nothing that differs between times."""
    path, body = kind
    reply = server.post(path, body)
    assert reply.status == 200, reply.data
    found = reply.json
    return found.get("choices", found.get("data")), found.get("state")


def test_the_same_request_gets_the_same_answer_alone_and_under_load(server):
    alone = [answer(server, kind) for kind in KINDS]
    order = [*range(len(KINDS))] * 3
    random.Random(1).shuffle(order)
    with ThreadPoolExecutor(17) as threads:
        futures = [(i, threads.submit(answer, server, KINDS[i])) for i in order]
        for i, future in futures:
            assert future.result(PATIENCE) == alone[i]


def test_streams_say_the_same_under_load(server):
    streamed = [(path, {**body, "stream": True}) for path, body in KINDS if "input" not in body]

    def text(kind: tuple[str, dict[str, Any]]) -> dict[int, str]:
        texts: dict[int, str] = {}
        *events, done = server.post(*kind).events
        assert done == "[DONE]"
        for choice in (choice for event in events for choice in event["choices"]):
            delta = choice.get("delta", choice)
            more = "".join(delta.get(key, "") for key in ("reasoning_content", "content", "text"))
            texts[choice["index"]] = texts.get(choice["index"], "") + more
        return texts

    alone = [text(kind) for kind in streamed]
    with ThreadPoolExecutor(17) as threads:
        assert [*threads.map(text, streamed * 2, timeout=PATIENCE)] == alone * 2

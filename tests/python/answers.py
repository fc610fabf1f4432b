"""Answers of a server as tests read them: whole, and joined from what a stream had."""

from __future__ import annotations

import json
from typing import Any

from flask.testing import FlaskClient

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def events(data: bytes) -> list[Any]:
    """The events of a stream, without pings; the last is "[DONE]", or an error."""
    lines = [line for line in data.decode().split("\n\n") if line.startswith("data: ")]
    texts = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def whole(client: FlaskClient, path: str, **body: Any) -> dict[str, Any]:
    """The answer at once."""
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json()
    return answer


def chunks(client: FlaskClient, path: str, **body: Any) -> list[dict[str, Any]]:
    """The chunks of an answer."""
    response = client.post(path, json={**body, "stream": True})
    assert response.status_code == 200, response.text
    *found, done = events(response.data)
    assert done == "[DONE]"
    return found


def joined(found: list[dict[str, Any]], *, logprobs: bool = False) -> list[dict[str, Any]]:
    """The choices of a chat that chunks add up to, as a whole answer has them."""
    choices: dict[int, dict[str, Any]] = {}
    for choice in (choice for chunk in found for choice in chunk["choices"]):
        index, delta = choice["index"], choice["delta"]
        if index not in choices:
            assert delta == {"role": "assistant", "content": ""}  # comes first
            message = {"role": "assistant", "content": ""}
            choices[index] = {"index": index, "message": message, "finish_reason": None}
            choices[index]["logprobs"] = {"content": [], "refusal": None} if logprobs else None
        assert choices[index]["finish_reason"] is None  # nothing comes after the end
        _add(choices[index], delta, choice)
    return [choices[index] for index in sorted(choices)]


def _add(whole: dict[str, Any], delta: dict[str, Any], choice: dict[str, Any]) -> None:
    message = whole["message"]
    for key in ("content", "reasoning_content"):
        if key in delta:
            message[key] = message.get(key, "") + delta[key]
    for call in delta.get("tool_calls", ()):
        calls = message.setdefault("tool_calls", [])
        if "id" in call:
            assert call["index"] == len(calls)
            calls.append({"id": call["id"], "type": call["type"], "function": call["function"]})
        else:
            assert call.keys() == {"index", "function"}
            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    if choice["logprobs"] is not None:
        whole["logprobs"]["content"] += choice["logprobs"]["content"]
    whole["finish_reason"] = choice["finish_reason"]


def without_ids(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choices whose calls have no ids: these are drawn."""
    for choice in choices:
        for call in choice["message"].get("tool_calls", ()):
            assert call.pop("id").startswith("call_")
    return choices

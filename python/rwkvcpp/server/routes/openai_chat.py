"""OpenAI's chat completions, which RWKV-Runner's clients ask for, too."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import request as http
from pydantic import Field

from rwkvcpp.engine import EndEvent, Request, TokenEvent, Usage
from rwkvcpp.profiles import profile
from rwkvcpp.server import sse
from rwkvcpp.server.bodies import Body
from rwkvcpp.server.choices import Choices
from rwkvcpp.server.errors import ApiError, refusing
from rwkvcpp.server.fields import SamplingFields, StopFields
from rwkvcpp.server.reading import Reading, until_stop
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service, Serving
from rwkvcpp.templates import ReplyStream

routes = Routes("openai_chat")


class StreamOptions(Body):
    """What a stream tells beside the text."""

    include_usage: bool = False


class ChatBody(SamplingFields, StopFields):
    """A conversation, and how to answer it."""

    messages: list[dict[str, Any]] = Field(default_factory=list)
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    n: int = Field(1, ge=1, le=128)
    enable_thinking: bool | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True)
class Asked:
    """A body understood: what the engine is asked for, and how its replies are read."""

    serving: Serving
    requests: list[Request]
    mode: str
    stops: list[str]

    def reply_stream(self) -> ReplyStream:
        """A reader for one reply."""
        return self.serving.template.reply_stream(mode=self.mode)

    def reading(self) -> Reading:
        """A reader for one reply that knows the client's stops."""
        return Reading(self.reply_stream(), self.stops)


@routes.post("/v1/chat/completions", "/chat/completions", body=ChatBody)
def chat(service: Service, body: ChatBody) -> Answer:
    """Answer a conversation."""
    asked = understand(service, body)
    choices = Choices(asked.serving.engine, [asked.requests])
    head = {
        "id": "chatcmpl-" + secrets.token_hex(12),
        "created": int(time.time()),
        "model": asked.serving.id,
    }
    if body.stream:
        return sse.stream(chunks(asked, choices, head, body.stream_options.include_usage))
    return whole(asked, choices, head)


def understand(service: Service, body: ChatBody) -> Asked:
    """The requests that `body` makes; ApiError for what it cannot ask."""
    serving = service.serving()
    template = serving.template
    if not body.messages:
        raise ApiError(400, "messages not found", code="invalid_value", param="messages")
    with refusing("messages"):
        mode = template.mode_for(
            enable_thinking=body.enable_thinking, reasoning_effort=body.reasoning_effort
        )
        text = template.render(body.messages, mode=mode)
    tokens = serving.model.tokenizer.encode(text)
    if template.begin_of_text:
        tokens = [0, *tokens]
    chosen = profile(template.mode(mode).profile)
    stops = body.stop_strings
    with refusing():
        sampling = body.sampling(chosen, service.defaults)
        requests = [
            Request(
                tokens=tokens,
                sampling=sampling,
                max_tokens=body.limit(chosen, service.defaults),
                stop=template.stops,
                stop_tokens=[*template.stop_tokens, *body.stop_token_ids],
                until=until_stop(template.reply_stream(mode=mode), stops),
                client=http.remote_addr or "",
            )
            for _ in range(body.n)
        ]
    return Asked(serving, requests, mode, stops)


def whole(asked: Asked, choices: Choices, head: Mapping[str, Any]) -> dict[str, Any]:
    """The answer at once."""
    readings = [asked.reading() for _ in asked.requests]
    ends: dict[int, EndEvent] = {}
    with choices:
        for numbered in choices.events():
            assert numbered is not None  # without a silence there is no None
            index, event = numbered
            if isinstance(event, TokenEvent):
                readings[index].push(event.text)
            elif isinstance(event, EndEvent):
                readings[index].push(event.text)
                readings[index].finish()
                ends[index] = event
    answers = [
        {
            "index": index,
            "message": message(reading),
            "logprobs": None,
            "finish_reason": ends[index].finish_reason,
        }
        for index, reading in enumerate(readings)
    ]
    return {
        **head,
        "object": "chat.completion",
        "choices": answers,
        "usage": usage([end.usage for end in ends.values()]),
    }


def message(reading: Reading) -> dict[str, Any]:
    """A reply as OpenAI has it; content is text, always."""
    reply = {"role": "assistant", "content": reading.content}
    return reply | ({"reasoning_content": reading.reasoning} if reading.reasoning else {})


def chunks(
    asked: Asked, choices: Choices, head: Mapping[str, Any], include_usage: bool
) -> Iterator[dict[str, Any] | None]:
    """The answer as it comes."""
    head = {**head, "object": "chat.completion.chunk"}
    readings = [asked.reading() for _ in asked.requests]
    usages: list[Usage] = []

    def chunk(index: int, delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**head, "choices": [choice]}

    with choices:
        for index in range(len(choices)):
            yield chunk(index, {"role": "assistant", "content": ""})
        for numbered in choices.events(silence=sse.SILENCE):
            if numbered is None:
                yield None
                continue
            index, event = numbered
            if not isinstance(event, TokenEvent | EndEvent):
                continue
            deltas = readings[index].push(event.text)
            if isinstance(event, EndEvent):
                deltas += readings[index].finish()
            for kind, text in deltas:
                key = "content" if kind == "content" else "reasoning_content"
                yield chunk(index, {key: text})
            if isinstance(event, EndEvent):
                usages.append(event.usage)
                yield chunk(index, {}, event.finish_reason)
    if include_usage:
        yield {**head, "choices": [], "usage": usage(usages)}


def usage(usages: list[Usage]) -> dict[str, Any]:
    """What an answer has cost; equal prompts count once."""
    n_prompt = usages[0].prompt_tokens if usages else 0
    n_drawn = sum(each.completion_tokens for each in usages)
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_drawn,
        "total_tokens": n_prompt + n_drawn,
        "prompt_tokens_details": {"cached_tokens": usages[0].cached_tokens if usages else 0},
    }

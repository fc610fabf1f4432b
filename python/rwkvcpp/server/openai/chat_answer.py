"""The answer to a chat: at once, or in chunks as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rwkvcpp.engine import EndEvent, TokenEvent
from rwkvcpp.server import sse
from rwkvcpp.server.choices import Choices
from rwkvcpp.server.openai.answer_parts import begun, usage
from rwkvcpp.server.openai.chat_asked import Asked
from rwkvcpp.server.openai.chat_choice import ChatChoice, Piece
from rwkvcpp.server.service import Service


def whole(service: Service, asked: Asked, choices: Choices) -> dict[str, Any]:
    """The answer at once."""
    answer = begun(service, "chatcmpl", "chat.completion", asked.serving, choices)
    replies = [ChatChoice(service, asked) for _ in asked.requests]
    with choices:
        for numbered in choices.events():
            if numbered is not None and isinstance(numbered.event, TokenEvent | EndEvent):
                replies[numbered.choice].push(numbered.event)
    answer["choices"] = [_choice(index, reply, asked) for index, reply in enumerate(replies)]
    return answer | {"usage": _usage(replies)} | _state_of_only(replies)


def chunks(service: Service, asked: Asked, choices: Choices) -> Iterator[dict[str, Any] | None]:
    """The answer as it comes; None after a silence."""
    head = begun(service, "chatcmpl", "chat.completion.chunk", asked.serving, choices)
    return _chunks(head, service, asked, choices)


def _chunks(
    head: Mapping[str, Any], service: Service, asked: Asked, choices: Choices
) -> Iterator[dict[str, Any] | None]:
    replies = [ChatChoice(service, asked) for _ in asked.requests]
    with_usage = asked.body.stream_options.include_usage
    with choices:
        for index in range(len(replies)):
            yield {**head} | _chunk(index, asked, Piece({"role": "assistant", "content": ""}))
        for numbered in choices.events(silence=sse.SILENCE):
            if numbered is None:
                yield None
            elif isinstance(numbered.event, TokenEvent | EndEvent):
                reply = replies[numbered.choice]
                for piece in reply.push(numbered.event):
                    yield {**head} | _chunk(numbered.choice, asked, piece)
                if reply.end is not None:
                    yield {**head} | _last_chunk(numbered.choice, asked, replies)
    if with_usage:
        yield {**head} | {"choices": [], "usage": _usage(replies)} | _state_of_only(replies)


def _choice(index: int, reply: ChatChoice, asked: Asked) -> dict[str, Any]:
    choice = {
        "index": index,
        "message": reply.message,
        "logprobs": _logprobs(reply.logprobs) if asked.body.logprobs else None,
        "finish_reason": reply.finish_reason,
    }
    return choice | _state_of_each(reply, asked)


def _chunk(index: int, asked: Asked, piece: Piece) -> dict[str, Any]:
    has_logprobs = asked.body.logprobs and "content" in piece.delta and "role" not in piece.delta
    choice = {
        "index": index,
        "delta": piece.delta,
        "logprobs": _logprobs(piece.logprobs) if has_logprobs else None,
        "finish_reason": None,
    }
    return {"choices": [choice]}


def _last_chunk(index: int, asked: Asked, replies: Sequence[ChatChoice]) -> dict[str, Any]:
    """Why a choice ended; the state goes with the last chunk of all."""
    reply = replies[index]
    choice: dict[str, Any] = {"index": index, "delta": {}, "logprobs": None}
    choice |= {"finish_reason": reply.finish_reason} | _state_of_each(reply, asked)
    is_last = not asked.body.stream_options.include_usage
    return {"choices": [choice]} | (_state_of_only(replies) if is_last else {})


def _logprobs(content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"content": content, "refusal": None}


def _state_of_only(replies: Sequence[ChatChoice]) -> dict[str, Any]:
    """The state that the answer leaves, where there is one answer."""
    state = replies[0].state if len(replies) == 1 else None
    return {} if state is None else {"state": state}


def _state_of_each(reply: ChatChoice, asked: Asked) -> dict[str, Any]:
    """Of several answers, each has the state that it leaves."""
    state = reply.state if len(asked.requests) > 1 else None
    return {} if state is None else {"state": state}


def _usage(replies: Sequence[ChatChoice]) -> dict[str, Any]:
    usages = [reply.end.usage for reply in replies if reply.end is not None]
    return usage(usages, len(replies), sum(reply.n_reasoning for reply in replies))

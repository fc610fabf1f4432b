"""Answering: at once or as a stream, in events of one token or more, with speeds or without."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, TypeAlias

from rwkvcpp.server import sse
from rwkvcpp.server.choices import Choices
from rwkvcpp.server.fields import AnswerFields
from rwkvcpp.server.merging import merged
from rwkvcpp.server.routing import Answer

Chunks: TypeAlias = "Iterator[Mapping[str, Any] | None]"


def answer(
    body: AnswerFields,
    choices: Choices,
    *,
    whole: Callable[[], dict[str, Any]],
    chunks: Callable[[], Chunks],
) -> Answer:
    """The answer of `choices` in the form that `body` asks for, made of the one that fits."""
    if not body.stream:
        return whole() | _metrics(body, choices)
    pieces = chunks()
    if body.metrics:
        pieces = _measured(body, choices, pieces)
    if body.chunk_size > 1:
        pieces = merged(pieces, body.chunk_size)
    return sse.stream(pieces)


def _metrics(body: AnswerFields, choices: Choices) -> dict[str, Any]:
    return {"metrics": choices.speeds.metrics} if body.metrics else {}


def _measured(
    body: AnswerFields, choices: Choices, chunks: Chunks
) -> Generator[Mapping[str, Any] | None, None, None]:
    """The last chunk of each choice tells the speeds up to there."""
    try:
        for chunk in chunks:
            ends = chunk is not None and any(each["finish_reason"] for each in chunk["choices"])
            yield {**chunk, **_metrics(body, choices)} if chunk is not None and ends else chunk
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()

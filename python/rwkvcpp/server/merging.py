"""Merging: several tokens in one event of a stream, for clients that ask for fewer events."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any, TypeAlias

Chunk: TypeAlias = Mapping[str, Any]

TEXTS = frozenset({"content", "reasoning_content", "text"})
BESIDE = frozenset({"index", "logprobs", "finish_reason", "delta"})  # nothing of it is a text


def merged(chunks: Iterator[Chunk | None], size: int) -> Generator[Chunk | None, None, None]:
    """`chunks` with up to `size` texts of a choice in one; what is no text comes as it came."""
    held: dict[int, list[Chunk]] = {}
    try:
        for chunk in chunks:
            if chunk is None:
                yield None
                continue
            index, kind = _kind(chunk)
            for other in [index] if kind else [*held]:
                if other in held and (_kind(held[other][0])[1] != kind):
                    yield _joined(held.pop(other))
            if not kind:
                yield chunk
                continue
            held.setdefault(index, []).append(chunk)
            if len(held[index]) >= size:
                yield _joined(held.pop(index))
    except Exception:
        yield from map(_joined, held.values())
        raise
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    yield from map(_joined, held.values())


def _kind(chunk: Chunk) -> tuple[int, str]:
    """Whose choice it belongs to, and which text it has; "" for all that may not be merged."""
    choices = chunk["choices"]
    if len(choices) != 1 or choices[0]["finish_reason"] is not None:
        return -1, ""
    [choice] = choices
    keys = {*choice.get("delta", ()), *choice} - BESIDE
    is_text = len(keys) == 1 and keys <= TEXTS and not _has_old_logprobs(choice)
    return choice["index"], keys.pop() if is_text else ""


def _has_old_logprobs(choice: Mapping[str, Any]) -> bool:
    """Those of completions are four lists, of which one counts characters."""
    return choice.get("logprobs") is not None and "content" not in choice["logprobs"]


def _joined(chunks: list[Chunk]) -> Chunk:
    choices = [chunk["choices"][0] for chunk in chunks]
    first, kind = choices[0], _kind(chunks[0])[1]
    text = "".join((choice.get("delta") or choice)[kind] for choice in choices)
    new = {**first, "delta": {kind: text}} if "delta" in first else {**first, kind: text}
    if first.get("logprobs") is not None:
        content = [each for choice in choices for each in choice["logprobs"]["content"]]
        new["logprobs"] = {**first["logprobs"], "content": content}
    return {**chunks[0], "choices": [new]}

"""Server-sent events: a stream of JSON objects, one write each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Response

from rwkvcpp.server.errors import as_api_error, log_failure

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
SILENCE = 1.0  # seconds before a ping

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event(data: Mapping[str, Any]) -> bytes:
    """One event."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + text.encode("utf-8", "replace") + b"\n\n"


def stream(chunks: Iterator[Mapping[str, Any] | None], *, done: bytes = DONE) -> Response:
    """`chunks` as events, None as a ping; an error becomes the last event, else `done` is."""
    return Response(_written(chunks, done), mimetype="text/event-stream", headers=HEADERS)


def _written(chunks: Iterator[Mapping[str, Any] | None], done: bytes) -> Iterator[bytes]:
    try:
        for chunk in chunks:
            yield PING if chunk is None else event(chunk)
    except Exception as error:
        answer = as_api_error(error)
        log_failure(error, answer)
        yield event(answer.body)
    else:
        if done:
            yield done
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()

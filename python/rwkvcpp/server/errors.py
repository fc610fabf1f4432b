"""What clients are told when something is wrong: one body for all, and one list of causes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rwkvcpp import ModelFormatError, RwkvError, StateError, UnsupportedError
from rwkvcpp.engine import EngineClosedError, QueueFullError

logger = logging.getLogger(__name__)

# HTTP status -> the type that OpenAI's clients and llama.cpp's users know.
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
}

# Exception -> status and code; the first that fits. What is not here is our fault, a 500.
CAUSES: tuple[tuple[type[Exception], int, str], ...] = (
    (QueueFullError, 429, "queue_full"),
    (EngineClosedError, 503, "shutting_down"),
    (StateError, 409, "state_mismatch"),
    (UnsupportedError, 400, "not_supported"),
    (ModelFormatError, 422, "model_format"),
    (FileNotFoundError, 404, "file_not_found"),
    (RwkvError, 400, "refused"),
    (MemoryError, 503, "out_of_memory"),
)


LONGEST = 500  # characters of a sentence: what it quotes may be megabytes


class ApiError(Exception):
    """An answer that is no success: a sentence for people, a code for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message if len(message) <= LONGEST else message[:LONGEST] + "…"
        self.type = type or TYPES.get(status, "invalid_request_error")
        self.code = code
        self.param = param
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's form, and beside it what Runner's clients read."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error, "detail": self.message}

    @property
    def headers(self) -> dict[str, str]:
        """When to come back, and whether to."""
        if self.retry_after is not None:
            return {"Retry-After": str(max(1, round(self.retry_after)))}
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        # OpenAI's clients repeat 409 and 5xx unless told that it is in vain.
        return {"x-should-retry": "false"} if self.status in (409, 500, 503) else {}


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of `error`."""
    if isinstance(error, ApiError):
        return error
    for kind, status, code in CAUSES:
        if isinstance(error, kind):
            retry_after = error.retry_after if isinstance(error, QueueFullError) else None
            type_ = "not_supported_error" if kind is UnsupportedError else None
            message = str(error)
            return ApiError(status, message, type=type_, code=code, retry_after=retry_after)
    return ApiError(500, "the server failed; its log says why", code="internal_error")


def body_too_large(limit: int) -> ApiError:
    """For bodies that nobody wants to keep."""
    message = f"the body is too long, expected at most {limit} bytes"
    return ApiError(413, message, code="body_too_large")


def log_failure(error: Exception, answer: ApiError) -> None:
    """Write to the log what clients are not told of."""
    if answer.status == 500 or isinstance(error, MemoryError):
        logger.error("a request failed", exc_info=error)


def not_supported(message: str, param: str | None = None) -> ApiError:
    """For what is asked for and not there: it is never ignored in silence."""
    return ApiError(400, message, type="not_supported_error", code="not_supported", param=param)


@contextmanager
def refusing(param: str | None = None) -> Iterator[None]:
    """What the library does not take of a request is the client's mistake."""
    try:
        yield
    except (ValueError, TypeError, IndexError) as error:
        raise ApiError(400, str(error), code="invalid_value", param=param) from error

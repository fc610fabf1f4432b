"""Connections: what clients can do to them without asking for anything worth an answer.

waitress reads all requests in one thread, so that slow ones hold up nobody, and closes connections
on which nothing moves. What it leaves to us:

- A request that comes byte by byte moves all the time. Headers have some seconds, bodies a pace.
- A client that reads no answers is kept as long as a request of its runs. Here it is not.
- What it refuses itself gets our error body. Beside an answer to a body that nobody reads, closing
  at once would tell the client of a broken connection; so the body goes past, for some seconds.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask
from waitress.utilities import BadRequest, Error

from rwkvcpp.server.errors import ApiError, body_too_large, not_supported

HEADER_SECONDS = 30.0  # for a request to come, without its body
BODY_PACE = 16 * 1024  # bytes a second, at least
STALL_SECONDS = 60.0  # without taking a byte of an answer
LINGER_SECONDS = 5.0  # that a refused body goes past


class Parser(HTTPRequestParser):
    """A request while it comes."""

    def __init__(self, adjustments: Adjustments) -> None:
        super().__init__(adjustments)
        self.begun = time.time()

    def received(self, data: bytes) -> int:
        """How much of `data` was of this request."""
        try:
            n_bytes: int = super().received(data)
        except ValueError as error:  # a length of thousands of digits
            self.error, self.completed, n_bytes = BadRequest(str(error)), True, len(data)
        if self.error is not None:
            self.expect_continue = False  # else the body would be asked for
        return n_bytes

    def is_too_slow(self, now: float) -> bool:
        """Whether it should have been here by now."""
        return now - self.begun > HEADER_SECONDS + self.body_bytes_received / BODY_PACE


class Refusal(ErrorTask):
    """The answer to what is no request that an application could see."""

    def execute(self) -> None:
        """Write it."""
        error: Error = self.request.error  # type: ignore[attr-defined]
        answer = as_answer(error, self.channel.adj.max_request_body_size - 1)
        reason = error.reason if answer.status == error.code else BadRequest.reason
        self.status = f"{answer.status} {reason}"
        self.response_headers = [("Content-Type", "application/json")]
        self.set_close_on_finish()
        body = json.dumps(answer.body).encode() + b"\n"
        self.content_length = len(body)
        self.write(body)


def as_answer(error: Error, max_body_bytes: int) -> ApiError:
    """What a client is told of what waitress refuses."""
    if error.code == 413:
        return body_too_large(max_body_bytes)
    if error.code == 501:  # what it sent is no fault of ours
        return not_supported(error.body)
    code = "headers_too_large" if error.code == 431 else "bad_http"
    return ApiError(error.code, f"{error.reason}: {error.body}", code=code)


class Channel(HTTPChannel):
    """One connection."""

    parser_class = Parser
    error_task_class = Refusal

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._is_refused = False  # what still comes goes past
        self._lingers_until: float | None = None
        super().__init__(*arguments, **options)

    @property
    def is_busy(self) -> bool:
        """Whether an answer is on its way."""
        return bool(self.requests or self.total_outbufs_len)

    def received(self, data: bytes) -> bool:
        """Take what came."""
        if self._is_refused:
            return False
        taken: bool = super().received(data)
        self._is_refused = any(request.error is not None for request in list(self.requests))
        return taken

    def handle_write(self) -> None:
        """Send what there is, and close when that was wanted."""
        is_told = self.close_when_flushed and not self.total_outbufs_len
        if self._is_refused and is_told and self._lingers_until is None:
            self.close_when_flushed = False
            self._linger()
        else:
            super().handle_write()

    def look(self, now: float) -> None:
        """Close it if its client is no good; every second or so, by the thread that reads."""
        coming = None if self.requests else self.request
        is_slow = isinstance(coming, Parser) and coming.is_too_slow(now)
        is_past = self._lingers_until is not None and now > self._lingers_until
        if is_slow or is_past or self._is_stalled(now):
            self.will_close = True
            self.handle_close()

    def _linger(self) -> None:
        self._lingers_until = time.time() + LINGER_SECONDS
        assert self.socket is not None
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # the client was faster
            self.handle_close()

    def _is_stalled(self, now: float) -> bool:
        # Who has the lock is sending just now, and what it sends is no evidence yet.
        if not self.outbuf_lock.acquire(False):
            return False
        try:
            return bool(self.total_outbufs_len) and self.last_activity < now - STALL_SECONDS
        finally:
            self.outbuf_lock.release()


class Listener(TcpWSGIServer):
    """A socket that takes connections."""

    channel_class = Channel

    def maintenance(self, now: float) -> None:
        """Look after the connections; every second or so."""
        super().maintenance(now)  # type: ignore[arg-type]
        channels: Mapping[int, Channel] = self.active_channels  # type: ignore[assignment]
        for channel in list(channels.values()):
            channel.look(now)

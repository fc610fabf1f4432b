"""The server itself: waitress, threads for all who may wait, and an end that is graceful."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from rwkvcpp.server.allocator import return_large_blocks
from rwkvcpp.server.connections import Channel, Listener
from rwkvcpp.server.listening import listen
from rwkvcpp.server.service import Service

SPARE_THREADS = 16  # for what is answered at once: lists, counts, refusals
CONNECTIONS = 1000
OTHER_FILES = 128  # that a process has open beside connections
IDLE_SECONDS = 60  # that a connection is kept for another request
LAST_WORDS = 2  # seconds that answers have to leave when nothing runs any more
UNREAD_BYTES = 256 * 1024  # of an answer, before whoever writes it waits for the client

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP


def serve(app: Flask, sockets: Sequence[socket.socket] | None = None) -> int:
    """Answer until SIGTERM, Ctrl-C or /exit, and then to those who run, for some seconds more.

    Returns the exit code that a shell gives the signal, and 0 for /exit. A second signal does what
    it does elsewhere: ends at once.
    sockets: that listen already; None: on the address of the settings.
    """
    server = Server(app, sockets)
    service: Service = app.extensions["rwkvcpp"]
    service.on_serving = return_large_blocks
    if service.is_serving:
        return_large_blocks(service.serving())
    with _ended_by_signals(server.end) as codes:
        server.run()
    return codes[0] if codes else 0


class Server:
    """Answers on sockets for an app of ours. `run` in one thread, `end` from any."""

    def __init__(self, app: Flask, sockets: Sequence[socket.socket] | None = None) -> None:
        """Listens already, and answers from `run()` on."""
        service: Service = app.extensions["rwkvcpp"]
        self._service = service
        settings = service.settings
        self._sockets = list(sockets or listen(settings.host, settings.port))
        adjustments = Adjustments(
            sockets=self._sockets,
            threads=settings.max_batch + settings.max_waiting + SPARE_THREADS,
            connection_limit=_most_connections(),
            channel_request_lookahead=1,  # tells that a client is gone while it is answered
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=1,
            max_request_body_size=settings.max_body_bytes + 1,  # waitress refuses that size, too
            outbuf_high_watermark=UNREAD_BYTES,
            log_socket_errors=False,  # clients break connections; nobody can do anything about it
            ident="rwkvcpp",
        )
        self.port: int = self._sockets[0].getsockname()[1]
        self._map: dict[int, Any] = {}
        self._workers = ThreadedTaskDispatcher()
        self._workers.set_thread_count(adjustments.threads)
        self._listeners = [
            Listener(
                app,
                self._map,
                _sock=sock,
                dispatcher=self._workers,
                adj=adjustments,
                bind_socket=False,
                sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
            )
            for sock in self._sockets
        ]
        self._grace = settings.grace
        self._is_asked_to_end = self._is_closed = self._is_over = False
        self._deadline = float("inf")
        service.on_exit = self.end

    def run(self) -> None:
        """Answer until `end`."""
        try:
            while not self._is_asked_to_end:
                self._turn()
            closing = self._refuse_from_now_on()
            while self._has_work():
                self._turn()
            closing.join()
            self._workers.shutdown(timeout=LAST_WORDS)  # they use what is closed now
        finally:
            self._is_over = True
            wasyncore.close_all(self._map)

    def end(self, grace: float | None = None) -> None:
        """Have `run` return when nobody runs any more, after `grace` seconds at the latest.

        grace: None is that of the settings. It may be called by a signal's handler.
        """
        if grace is not None:
            self._grace = grace
        self._is_asked_to_end = True
        self._wake()

    def _turn(self) -> None:
        """Wait for something to happen on a connection, and see to it."""
        wasyncore.loop(timeout=1.0, use_poll=True, map=self._map, count=1)

    def _refuse_from_now_on(self) -> threading.Thread:
        """Returns what waits for those who run."""
        self._service.is_ending = True
        for listener in self._listeners:
            wasyncore.dispatcher.close(listener)  # its trigger is needed to the end
        closing = threading.Thread(target=self._close, name="rwkvcpp-end", daemon=True)
        closing.start()
        return closing

    def _close(self) -> None:
        try:
            self._service.close(self._grace)
        finally:
            self._is_closed = True
            self._wake()

    def _wake(self) -> None:
        """Have `run` look around, if it still runs: after that, its wire may be another's."""
        if not self._is_over:
            self._listeners[0].pull_trigger()

    def _has_work(self) -> bool:
        """Whether somebody runs, or what he got is still on its way."""
        if not self._is_closed:
            return True
        self._deadline = min(self._deadline, time.monotonic() + LAST_WORDS)
        channels = [each for each in self._map.values() if isinstance(each, Channel)]
        return any(each.is_busy for each in channels) and time.monotonic() < self._deadline


@contextmanager
def _ended_by_signals(end: Callable[[], None]) -> Iterator[list[int]]:
    """The first signal calls `end`, and its exit code is put into the list; the second one does
    what it would have done without us."""
    codes: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield codes
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: it for number, it in before.items() if it is not signal.SIG_IGN}  # nohup

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def told(number: int, _: FrameType | None) -> None:
        restore()
        codes.append(128 + number)
        end()

    for number in before:
        signal.signal(number, told)
    try:
        yield codes
    finally:
        restore()


def _most_connections() -> int:
    """As many as the system lets a process have files, without those that others need."""
    try:
        import resource
    except ImportError:  # Windows counts otherwise
        return CONNECTIONS
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return CONNECTIONS
    return max(1, min(CONNECTIONS, limit - OTHER_FILES))

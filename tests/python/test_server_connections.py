"""Clients that hang up, dawdle, do not listen, or speak no HTTP: they cost nobody else anything."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rwkvcpp.engine import EngineStatus, Request
from rwkvcpp.server import connections, create_app, wsgi
from rwkvcpp.server.connections import Channel
from rwkvcpp.server.disconnects import Disconnects
from rwkvcpp.server.listening import listen
from rwkvcpp.server.wsgi import Server
from tests.python.server import PATIENCE, LiveServer, live_server

ENDLESS = {"logit_bias": {"0": -100}, "max_tokens": 100_000, "seed": 1}
STORY = {"prompt": "Once upon a time", **ENDLESS}


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


def status(live: LiveServer) -> EngineStatus:
    return live.service.serving().engine.status()


def request_bytes(path: str, body: Any = None, **headers: str) -> bytes:
    """A request as it goes over the wire."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"Content-Length: {len(data)}"] if data else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


def connected(live: LiveServer, sent: bytes = b"") -> socket.socket:
    """A connection over which this has gone."""
    sock = socket.create_connection(("127.0.0.1", live.port), timeout=PATIENCE)
    sock.sendall(sent)
    return sock


def received(sock: socket.socket) -> bytes:
    """Everything up to the end; what a reset leaves is that, too."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def answer(data: bytes) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.fixture(scope="module")
def one() -> Iterator[LiveServer]:
    """A server that runs one request at a time."""
    with live_server(max_batch=1, max_waiting=4) as live:
        yield live


# Hanging up


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_while_it_writes_frees_the_slot(one, stream):
    before = status(one).endings["cancelled"]
    sock = connected(one, request_bytes("/v1/completions", STORY | {"stream": stream}))
    drawn = one.service.metrics._completion_tokens._value.get()
    until(lambda: one.service.metrics._completion_tokens._value.get() > drawn, "a token")
    sock.close()
    until(lambda: status(one).running == 0, "a free slot")
    assert status(one).endings["cancelled"] == before + 1


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_while_its_prompt_is_read_frees_the_slot(one, stream):
    before = status(one).endings["cancelled"]
    prompt = [30 + i % 50 for i in range(400_000)]
    body = {"prompt": prompt, "max_tokens": 100_000, "stream": stream, "no_cache": True}
    drawn = one.service.metrics._completion_tokens._value.get()
    sock = connected(one, request_bytes("/v1/completions", body))
    until(lambda: status(one).running == 1, "a request that runs")
    sock.close()
    until(lambda: status(one).running == 0, "a free slot")
    assert status(one).endings["cancelled"] == before + 1
    assert one.service.metrics._completion_tokens._value.get() == drawn


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_in_the_queue_leaves_it(one, stream):
    long = Request(tokens=[0, 30, 40], max_tokens=100_000)
    with one.service.serving().engine.submit(long):
        sock = connected(one, request_bytes("/v1/completions", STORY | {"stream": stream}))
        until(lambda: status(one).waiting == 1, "a request that waits")
        sock.close()
        until(lambda: status(one).waiting == 0, "an empty queue")
        assert status(one).running == 1
    until(lambda: status(one).running == 0, "the end of the other one")


def test_a_connection_that_is_reset_frees_the_slot(one):
    sock = connected(one, request_bytes("/v1/completions", STORY | {"stream": True}))
    until(lambda: status(one).running == 1, "a request that runs")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    until(lambda: status(one).running == 0, "a free slot")


def test_half_a_connection_is_none(one):
    """Nothing tells it from one that was closed, and whose slot is wanted by others."""
    with connected(one, request_bytes("/v1/completions", STORY)) as sock:
        until(lambda: status(one).running == 1, "a request that runs")
        sock.shutdown(socket.SHUT_WR)
        assert received(sock) == b""
    until(lambda: status(one).running == 0, "a free slot")
    assert one.get("/health").status == 200


def test_a_pipelining_client_that_hangs_up_frees_the_slot(one):
    request = request_bytes("/v1/completions", STORY | {"stream": True})
    sock = connected(one, request * 5)
    until(lambda: status(one).running == 1, "a request that runs")
    sock.close()
    until(lambda: not any(channel.requests for channel in channels(one.server)), "nobody")
    until(lambda: status(one).running == 0, "a free slot")


def test_one_that_cannot_be_ended_does_not_keep_others_from_being_looked_after(caplog):
    disconnects = Disconnects()
    called = threading.Event()
    environ = {"waitress.client_disconnected": lambda: True}
    disconnects.watch(environ, lambda: 1 / 0)
    disconnects.watch(environ, called.set)
    assert called.wait(PATIENCE)
    assert "ZeroDivisionError" in caplog.text


def test_a_thousand_that_connect_and_drop_leave_nothing():
    with live_server(max_batch=4, max_waiting=16) as live:

        def drop(i: int) -> None:
            kinds = (
                b"",
                b"POST /v1/completions HTTP/1.1\r\nHost: lo",
                request_bytes("/v1/completions", STORY)[:-20],
                request_bytes("/v1/completions", STORY),
                request_bytes("/v1/completions", STORY | {"stream": True}),
            )
            connected(live, kinds[i % len(kinds)]).close()

        def rest() -> None:
            until(lambda: status(live).running == status(live).waiting == 0, "nobody")
            until(lambda: not channels(live.server), "no connection")
            gc.collect()

        for i in range(300):  # what is made once is made now
            drop(i)
        rest()
        threads, files, memory = threading.active_count(), open_files(), resident_bytes()
        for i in range(1000):
            drop(i)
        rest()
        until(lambda: threading.active_count() <= threads, "no more threads than before")
        assert open_files() <= files
        assert resident_bytes() <= 1.05 * memory
        assert live.get("/health").status == 200


def channels(server: Server) -> list[Channel]:
    return [each for each in list(server._map.values()) if isinstance(each, Channel)]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# Dawdling


@pytest.mark.parametrize(
    "beginning",
    [b"GET /hea", b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{",
     b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{"],
    ids=["headers", "body", "chunks"],
)  # fmt: skip
def test_slow_requests_hold_up_nobody_and_are_dropped(monkeypatch, beginning):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1.0)
    with (
        live_server(no_model=True, max_batch=1, max_waiting=1) as live,
        contextlib.ExitStack() as stack,
    ):
        slow = [stack.enter_context(connected(live, beginning)) for _ in range(60)]
        assert live.get("/health").status == 200  # there are 18 workers
        assert [received(sock) for sock in slow] == [b""] * len(slow)


def test_a_request_that_comes_byte_by_byte_is_dropped_though_it_moves(monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1.0)

    def drips(sock: socket.socket) -> bool:
        try:
            sock.sendall(b"a")
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    with live_server(no_model=True) as live, connected(live) as sock:
        until(lambda: not drips(sock), "the end of it")


def test_who_is_slow_at_a_fair_pace_is_served(monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1.0)
    monkeypatch.setattr(connections, "BODY_PACE", 10.0)
    body = json.dumps({"text": "x" * 100}).encode()
    with live_server(no_model=True) as live:
        head = f"POST /update-config HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        with connected(live, head.encode() + b"\r\n\r\n") as sock:
            sock.sendall(body[:-1])  # which buys ten seconds
            begun = time.time()
            until(lambda: time.time() > begun + 2.5, "later")  # than headers may take
            sock.sendall(body[-1:])
            assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_connections_on_which_nothing_is_asked_are_closed(monkeypatch):
    monkeypatch.setattr(wsgi, "IDLE_SECONDS", 1)
    with live_server(no_model=True) as live, connected(live) as sock:
        assert received(sock) == b""


# Not listening


@contextmanager
def narrow_server(**settings: Any) -> Iterator[LiveServer]:
    """A server whose system buffers next to nothing of answers."""
    app = create_app(**{"port": 0, "threads": 1, **settings})
    sockets = listen("127.0.0.1", 0)
    sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = Server(app, sockets)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield LiveServer(app, server, thread)
    finally:
        server.end(grace=0)
        thread.join(PATIENCE)


def test_who_reads_nothing_of_a_stream_is_dropped_and_fills_no_memory(monkeypatch):
    monkeypatch.setattr(connections, "STALL_SECONDS", 1.0)
    monkeypatch.setattr(wsgi, "UNREAD_BYTES", 10_000)
    with narrow_server() as live:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", live.port))
        with sock:
            sock.sendall(request_bytes("/v1/completions", STORY | {"stream": True}))
            until(lambda: channels(live.server), "a connection")
            (channel,) = channels(live.server)
            until(lambda: channel.total_outbufs_len > 10_000, "a client that is behind")
            unread: list[int] = []

            def is_dropped() -> bool:
                unread.append(channel.total_outbufs_len)
                return not channel.connected

            until(is_dropped, "a client that is dropped")
            assert max(unread) < 20_000
            until(lambda: status(live).running == 0, "a free slot")
            assert status(live).endings["cancelled"] == 1


# Bodies that nobody wants


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_hundred_megabytes_are_refused_and_not_kept(monkeypatch, is_chunked):
    """The client that sends all of it before it reads gets its 413 all the same."""
    monkeypatch.setattr(connections, "LINGER_SECONDS", PATIENCE)
    piece = b" " * 2**20
    with live_server(no_model=True, max_body_bytes=100_000) as live:
        before = resident_bytes()
        most = 0
        connection = live.connect()
        connection.putrequest("POST", "/v1/chat/completions")
        name, value = (
            ("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", 100 * 2**20)
        )
        connection.putheader(name, str(value))
        connection.endheaders()
        for _ in range(100):
            connection.send(b"100000\r\n" + piece + b"\r\n" if is_chunked else piece)
            most = max(most, resident_bytes())
        reply = connection.getresponse()
        assert reply.status == 413
        error = json.loads(reply.read())["error"]
        assert error["code"] == "body_too_large"
        assert error["message"] == "the body is too long, expected at most 100000 bytes"
        assert most - before < 20 * 2**20
        connection.close()


def test_who_asks_before_it_sends_is_told_not_to(one):
    head = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 104857600\r\nExpect: 100-continue\r\n\r\n")  # fmt: skip
    with connected(one, head) as sock:
        sent = received(sock)
    assert b"100 Continue" not in sent
    assert answer(sent)[0] == 413


def test_who_asks_before_it_sends_little_is_told_to(one):
    body = b'{"content": "Hi"}'
    head = (f"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n")  # fmt: skip
    with connected(one, head.encode()) as sock:
        assert sock.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(body)
        assert received(sock).startswith(b"HTTP/1.1 ")


# HTTP, and what is none


def test_more_connections_than_the_system_allows_wait_for_their_turn(monkeypatch):
    monkeypatch.setattr(wsgi, "CONNECTIONS", 8)
    with live_server(no_model=True) as live, contextlib.ExitStack() as stack:
        socks = [
            stack.enter_context(connected(live, request_bytes("/health", Connection="close")))
            for _ in range(30)
        ]
        assert [b'{"status":"ok"}' in received(sock) for sock in socks] == [True] * 30


@pytest.mark.parametrize(("limit", "expected"), [(1024, 896), (65536, 1000), (-1, 1000), (50, 1)])
def test_a_process_keeps_files_for_itself(monkeypatch, limit, expected):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert wsgi._most_connections() == expected


def test_a_connection_serves_many_requests(one):
    connection = one.connect()
    for _ in range(3):
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"ok"}\n'
    connection.close()


def test_requests_in_a_row_are_answered_in_their_order(one):
    paths = ["/health", "/", "/health", "/no-such-path", "/"]
    requests = [request_bytes(path) for path in paths[:-1]]
    with connected(one, b"".join(requests) + request_bytes(paths[-1], Connection="close")) as sock:
        sent = received(sock)
    statuses = [int(part.split()[0]) for part in sent.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 200, 404, 200]
    assert [part in sent for part in (b"ok", b"World", b"there is no")] == [True] * 3


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: localhost\n\n\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon here\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 300_000, 431),
        (b"GET http://[::1/ HTTP/1.1\r\n\r\n", 400),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_no_http_is_refused_in_our_form(one, sent, expected):
    with connected(one, sent) as sock:
        found, body = answer(received(sock))
    assert found == expected
    assert set(body) == {"error", "detail"}
    assert body["error"]["type"] in ("invalid_request_error", "not_supported_error")
    assert one.get("/health").status == 200


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
                                  b"\r\n" * 1000, b"\0" * 100_000])  # fmt: skip
def test_what_is_nothing_at_all_harms_nobody(one, sent):
    with connected(one, sent) as sock:
        sock.shutdown(socket.SHUT_WR)
        received(sock)
    assert one.get("/health").status == 200


def test_who_goes_on_sending_after_a_refusal_is_not_understood(one):
    """What comes behind a refused head could be anything, and is no second request."""
    sneaked = b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n" + request_bytes("/v1/models") * 3
    with connected(one, sneaked) as sock:
        sent = received(sock)
    assert sent.count(b"HTTP/1.1") == 1
    assert b'route="/v1/models"' not in one.get("/metrics").data


# The end


def listens(live: LiveServer) -> bool:
    """Whether it takes connections."""
    try:
        connected(live).close()
    except ConnectionError:
        return False
    return True


def streaming(live: LiveServer, body: Any) -> http.client.HTTPResponse:
    """A stream of which the beginning has come."""
    connection = live.connect()
    data = json.dumps(body | {"stream": True})
    connection.request("POST", "/v1/completions", data, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.readline().startswith(b"data: ")
    return response


def test_at_the_end_those_who_run_are_served_and_others_refused():
    with live_server() as live:
        kept = live.connect()
        kept.request("GET", "/health")
        assert kept.getresponse().read() == b'{"status":"ok"}\n'
        response = streaming(live, STORY | {"max_tokens": 3000})
        live.server.end(grace=PATIENCE)
        until(lambda: not listens(live), "a server that ends")
        kept.request("GET", "/health")
        refused = kept.getresponse()
        assert refused.status == 503
        assert json.loads(refused.read())["error"]["code"] == "shutting_down"
        kept.close()
        assert response.read().endswith(b"data: [DONE]\n\n")
        live.thread.join(PATIENCE)
        assert not live.thread.is_alive()


def test_when_the_grace_is_over_streams_end_with_an_error_and_others_get_503():
    with live_server() as live:
        response = streaming(live, STORY)
        with connected(live, request_bytes("/v1/completions", STORY)) as whole:
            until(lambda: status(live).running == 2, "two who run")
            live.server.end(grace=0.2)
            last = response.read().strip().split(b"\n\n")[-1]
            error = json.loads(last.removeprefix(b"data: "))["error"]
            assert (error["type"], error["code"]) == ("unavailable_error", "shutting_down")
            found, body = answer(received(whole))
        assert found == 503
        assert body["error"]["code"] == "shutting_down"
        live.thread.join(PATIENCE)
        assert not live.thread.is_alive()

"""A server in this process, for tests: a real one on a socket, and its service beside it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask

from rwkvcpp.server import Settings, create_app
from rwkvcpp.server.service import Service
from rwkvcpp.server.wsgi import Server

PATIENCE = 60  # seconds until a test fails that would wait for ever


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.data)

    @property
    def events(self) -> list[Any]:
        """The events of a stream, without pings; the last is "[DONE]", or an error."""
        lines = [line for line in self.data.decode().split("\n\n") if line.startswith("data: ")]
        texts = [line.removeprefix("data: ") for line in lines]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


@dataclass(frozen=True)
class LiveServer:
    """The application, and the server that it is asked through."""

    app: Flask
    server: Server
    thread: threading.Thread  # that runs it

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    @property
    def url(self) -> str:
        """Its address, without a slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def service(self) -> Service:
        """What its routes share."""
        service: Service = self.app.extensions["rwkvcpp"]
        return service

    def connect(self) -> http.client.HTTPConnection:
        """A connection of one's own."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def get(self, path: str, **headers: str) -> Reply:
        """What GET gives."""
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        """What POST gives; a body that is no bytes goes as JSON."""
        return self.ask("POST", path, body, headers=headers)

    def ask(self, method: str, path: str, body: Any = None, *, headers: Any = None) -> Reply:
        """One request, with a connection of its own."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if data is not None else {}
        connection = self.connect()
        try:
            connection.request(method, path, data, sent | (headers or {}))
            response = connection.getresponse()
            return Reply(response.status, dict(response.headers), response.read())
        finally:
            connection.close()


@contextmanager
def live_server(**settings: Any) -> Iterator[LiveServer]:
    """A server with these settings on a free port; at the end nothing of it is left."""
    app = create_app(Settings(**{"port": 0, **settings}))
    server = Server(app)
    thread = threading.Thread(target=server.run, name="live-server")
    thread.start()
    try:
        yield LiveServer(app, server, thread)
    finally:
        server.end(grace=0)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def undo_changes(app: Flask) -> None:
    """What /update-config and /switch-model may have done to a server of the bundled model."""
    service: Service = app.extensions["rwkvcpp"]
    service.defaults, service.deploy = {}, False
    if not service.is_serving:
        service.load(None)

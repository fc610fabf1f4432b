"""The server itself: waitress, threads for all who may wait, and an end that is graceful."""

from __future__ import annotations

import logging

from flask import Flask
from waitress.server import BaseWSGIServer, create_server

from rwkvcpp.server.service import Service

logger = logging.getLogger(__name__)

SPARE_THREADS = 16  # for what is answered at once: lists, counts, refusals
CONNECTIONS = 1024


def make_server(app: Flask) -> BaseWSGIServer:
    """Listens already, and answers from `run()` on."""
    service: Service = app.extensions["rwkvcpp"]
    settings = service.settings
    return create_server(
        app,
        host=settings.host,
        port=settings.port,
        threads=settings.max_batch + settings.max_waiting + SPARE_THREADS,
        connection_limit=CONNECTIONS,
        channel_request_lookahead=1,  # tells that a client is gone while it is answered
        max_request_body_size=settings.max_body_bytes,
        ident="rwkvcpp",
    )


def serve(app: Flask) -> None:
    """Listen until SIGTERM or Ctrl-C; then those who run get their grace."""
    service: Service = app.extensions["rwkvcpp"]
    server = make_server(app)
    try:
        server.run()
    finally:
        service.close()
        server.close()

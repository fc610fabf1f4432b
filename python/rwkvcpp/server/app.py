"""The Flask application: the shapes that it speaks, and what is done to every request."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from rwkvcpp.server.errors import ApiError, as_api_error
from rwkvcpp.server.routes import openai_chat
from rwkvcpp.server.routing import Routes
from rwkvcpp.server.service import Service
from rwkvcpp.server.settings import Settings

logger = logging.getLogger(__name__)

# One module per shape; a new one is a line here.
SHAPES: tuple[Routes, ...] = (openai_chat.routes,)


def create_app(settings: Settings | None = None, **changes: Any) -> Flask:
    """A WSGI application that serves what `settings` say, or Settings(**changes).

    Its model is loaded here. `app.extensions["rwkvcpp"]` is the service: close it at the end.
    """
    service = Service(Settings(**changes) if settings is None else settings)
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.config["MAX_CONTENT_LENGTH"] = service.settings.max_body_bytes
    app.extensions["rwkvcpp"] = service
    for shape in SHAPES:
        app.register_blueprint(shape.blueprint(service))
    app.register_error_handler(Exception, _refuse)
    return app


def _refuse(error: Exception) -> Response:
    """The same body whatever went wrong, and wherever."""
    if isinstance(error, HTTPException):
        answer = ApiError(error.code or 500, error.description or error.name)
    else:
        answer = as_api_error(error)
    if answer.status >= 500:
        logger.error("a request failed", exc_info=error)
    response = jsonify(answer.body)
    response.status_code = answer.status
    response.headers.update(answer.headers)
    return response

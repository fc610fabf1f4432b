"""The Flask application: the shapes that it speaks, and what is done to every request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from rwkvcpp.engine import QueueFullError
from rwkvcpp.server.access import Access
from rwkvcpp.server.errors import ApiError, as_api_error, body_too_large, log_failure
from rwkvcpp.server.guards import install_guards
from rwkvcpp.server.routes import (
    embeddings,
    infill,
    lightning,
    models,
    openai_chat,
    openai_completions,
    pages,
    runner,
    status,
    tokens,
)
from rwkvcpp.server.routing import Routes
from rwkvcpp.server.service import Service
from rwkvcpp.server.settings import Settings

# One module per shape; a new one is a line here.
SHAPES: tuple[Routes, ...] = (
    openai_chat.routes,
    openai_completions.routes,
    embeddings.routes,
    models.routes,
    status.routes,
    infill.routes,
    pages.routes,
    runner.routes,
    tokens.routes,
    lightning.routes,
)


def create_app(
    settings: Settings | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> Flask:
    """A WSGI application that serves what `settings` say, or Settings(**changes).

    Its model is loaded here. `app.extensions["rwkvcpp"]` is the service: close it at the end.

    progress: called with (bytes done, bytes in all) while it loads.
    """
    service = Service(Settings(**changes) if settings is None else settings, progress=progress)
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.config["MAX_CONTENT_LENGTH"] = service.settings.max_body_bytes
    app.extensions["rwkvcpp"] = service
    app.extensions["rwkvcpp-shapes"] = SHAPES  # for the page about them
    for shape in SHAPES:
        app.register_blueprint(shape.blueprint(service))
    install_guards(app, service)
    app.register_error_handler(Exception, _refuse)
    app.wsgi_app = Access(app.wsgi_app, service)  # type: ignore[method-assign]
    return app


def _refuse(error: Exception) -> Response:
    """The same body whatever went wrong, and wherever."""
    answer = _as_answer(error)
    if isinstance(error, QueueFullError):
        service: Service = current_app.extensions["rwkvcpp"]
        service.metrics.refused()
    log_failure(error, answer)
    response = jsonify(answer.body) if answer.status != 304 else Response()
    response.status_code = answer.status
    response.headers.update(answer.headers)
    if isinstance(error, MethodNotAllowed):
        response.allow.update(error.valid_methods or ())
    return response


def _as_answer(error: Exception) -> ApiError:
    if isinstance(error, RequestEntityTooLarge):
        limit = current_app.config["MAX_CONTENT_LENGTH"]
        return body_too_large(limit)
    if not isinstance(error, HTTPException):
        return as_api_error(error)
    if isinstance(error, NotFound):
        return ApiError(404, f"there is no {request.path}", code="not_found")
    if isinstance(error, MethodNotAllowed):
        message = f"{request.path} is not for {request.method}"
        return ApiError(405, message, code="method_not_allowed")
    return ApiError(error.code or 500, error.description or error.name)

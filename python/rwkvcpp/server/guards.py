"""Guards: what a request must pass before its route sees it. The first that refuses, answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException

from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.keys import check_key
from rwkvcpp.server.origins import Origins
from rwkvcpp.server.record import current_record

if TYPE_CHECKING:
    from rwkvcpp.server.routing import Route
    from rwkvcpp.server.service import Service

logger = logging.getLogger(__name__)


def install_guards(app: Flask, service: Service) -> None:
    """Guard all routes of `app`."""
    origins = Origins.of(service.settings)

    def refuse_while_ending(route: Route | None) -> None:
        if service.is_ending:
            raise ApiError(503, "the server is shutting down", code="shutting_down")

    def ask_for_key(route: Route | None) -> None:
        if service.settings.api_key and not (route is not None and route.is_public):
            check_key(request, service.settings.api_key)

    def refuse_foreign_pages(route: Route | None) -> None:
        origins.check(request)
        if route is not None and route.is_for_named:
            origins.check_machine(request)

    def keep_machine_untouched(route: Route | None) -> None:
        if service.deploy and route is not None and route.touches_machine:
            raise ApiError(403, f"{request.path} is off: deploy mode is on", code="deploy_mode")

    def log_body(route: Route | None) -> None:
        if service.settings.log_requests:
            logger.info("%s %s", request.path, ascii(request.get_data().decode("utf-8", "replace")))

    guards: tuple[Callable[[Route | None], None], ...] = (
        refuse_while_ending,
        ask_for_key,
        refuse_foreign_pages,
        keep_machine_untouched,
        log_body,
    )

    def guard() -> None:
        record = current_record()
        if record is not None and request.url_rule is not None:
            record.route = request.url_rule.rule
        if request.method == "OPTIONS":  # browsers ask it without a key, and nothing happens
            return
        route = _route_of(app, request.endpoint)
        for each in guards:
            each(route)

    def permit(response: Response) -> Response:
        route = _asked_about(app, request)
        origins.permit(request, response, is_for_named=route is not None and route.is_for_named)
        return response

    app.before_request(guard)
    app.after_request(permit)


def _asked_about(app: Flask, request: Request) -> Route | None:
    """The route of a request; for OPTIONS that of the one that the browser wants to send."""
    if request.method != "OPTIONS":
        return _route_of(app, request.endpoint)
    method = request.headers.get("Access-Control-Request-Method", "POST")
    try:
        endpoint, _ = app.create_url_adapter(request).match(method=method)  # type: ignore[union-attr]
    except HTTPException:
        return None
    return _route_of(app, endpoint)


def _route_of(app: Flask, endpoint: str | None) -> Route | None:
    route: Route | None = getattr(app.view_functions.get(endpoint or ""), "route", None)
    return route

"""Routes: what a shape of the interface has, as a table that the app, its page and tests read.

    routes = Routes("models")

    @routes.get("/v1/models", "/models")
    def models(service: Service) -> Answer: ...

    @routes.post("/tokenize", body=TokenizeBody)
    def tokenize(service: Service, body: TokenizeBody) -> Answer: ...

The first line of a handler's docstring says what it does; the page shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from flask import Blueprint, Response, jsonify, request

from rwkvcpp.server.bodies import Body, read_body

if TYPE_CHECKING:
    from rwkvcpp.server.service import Service

Answer: TypeAlias = "Response | Mapping[str, Any] | str"
Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True)
class Route:
    """One thing that can be asked for, under all its names."""

    method: str
    paths: tuple[str, ...]
    handler: Callable[..., Answer]
    body: type[Body] | None = None
    touches_machine: bool = False  # 403 in deploy mode, and for pages that --cors does not name
    changes_service: bool = False  # changes what others get: 403 for the same pages
    is_public: bool = False  # needs no key

    @property
    def is_for_named(self) -> bool:
        """Whether pages must have been named one by one to ask for it."""
        return self.touches_machine or self.changes_service

    @property
    def summary(self) -> str:
        """What it is for."""
        return (self.handler.__doc__ or "").partition("\n")[0]


@dataclass
class Routes:
    """The routes of one shape."""

    name: str
    all: list[Route] = field(default_factory=list)

    def get(self, *paths: str, **facts: Any) -> Callable[[Handler], Handler]:
        """A route that is asked by GET."""
        return self._added("GET", paths, facts)

    def post(self, *paths: str, **facts: Any) -> Callable[[Handler], Handler]:
        """A route that is asked by POST, with a `body` or without."""
        return self._added("POST", paths, facts)

    def _added(
        self, method: str, paths: tuple[str, ...], facts: dict[str, Any]
    ) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.all.append(Route(method, paths, handler, **facts))
            return handler

        return add

    def blueprint(self, service: Service) -> Blueprint:
        """The routes as Flask has them, answering for `service`."""
        blueprint = Blueprint(self.name, __name__)
        for route in self.all:
            for path in route.paths:
                blueprint.add_url_rule(
                    path,
                    endpoint=f"{route.handler.__name__} {path}".replace(".", "_"),
                    view_func=_view(route, service),
                    methods=[route.method],
                )
        return blueprint


def _view(route: Route, service: Service) -> Callable[..., Response]:
    def view(**parts: Any) -> Response:
        if route.body is not None:
            parts["body"] = read_body(route.body, request.get_data(cache=False))
        answer = route.handler(service, **parts)
        return answer if isinstance(answer, Response) else jsonify(answer)

    view.route = route  # type: ignore[attr-defined]  # guards read it
    return view

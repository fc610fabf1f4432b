"""How the server is: alive, counted, and told to end; and what old clients ask for at the start."""

from __future__ import annotations

from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST

from rwkvcpp.server.errors import ApiError, not_supported
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service, Status

routes = Routes("status")

# Clients of old show what is left of a credit; there is no end of this one.
GRANT = {
    "object": "credit_grant",
    "id": "rwkvcpp",
    "grant_amount": 10000,
    "used_amount": 0,
    "effective_at": 1672531200,
    "expires_at": 33229440000,
}
CREDIT = {
    "object": "credit_summary",
    "total_granted": 10000,
    "total_used": 0,
    "total_available": 10000,
    "grants": {"object": "list", "data": [GRANT]},
}


@routes.get("/")
def hello(service: Service) -> Answer:
    """Say that there is a server."""
    return {"Hello": "World!"}


@routes.get("/health", "/v1/health", is_public=True)
def health(service: Service) -> Answer:
    """Whether requests are answered: 503 while the first model is being loaded, and at the end."""
    if service.status == Status.LOADING and not service.is_serving:
        raise ApiError(503, "the model is being loaded", code="loading")
    return {"status": "ok"}


@routes.get("/metrics")
def metrics(service: Service) -> Answer:
    """The server's numbers, as Prometheus reads them."""
    return Response(service.metrics.text(), content_type=CONTENT_TYPE_LATEST)


@routes.post("/exit", touches_machine=True)
def leave(service: Service) -> Answer:
    """End the server, after running requests got their grace."""
    if service.on_exit is None:
        raise not_supported("/exit ends what `rwkvcpp serve` began, and this is another server")
    service.on_exit()
    return {"status": "ok"}


@routes.get("/dashboard/billing/credit_grants")
def credit_grants(service: Service) -> Answer:
    """A constant credit, which old clients ask for."""
    return CREDIT

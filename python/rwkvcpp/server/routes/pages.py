"""Pages about the server: its OpenAPI schema, and one to read and try it that needs no network."""

from __future__ import annotations

from importlib.resources import files

from flask import Response, current_app, redirect
from werkzeug.exceptions import NotFound

from rwkvcpp.server.openapi import openapi
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service

routes = Routes("pages")

ASSETS = {  # of Swagger UI, and what they are
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}

# A browser that heeds it asks no other host, whatever the assets say.
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>rwkvcpp</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon-32x32.png">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

START = """\
SwaggerUIBundle({url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null});
"""


@routes.get("/openapi.json", is_public=True)
def schema(service: Service) -> Answer:
    """This page: every route, what it takes and what it answers."""
    shapes = current_app.extensions["rwkvcpp-shapes"]
    return openapi(shapes, wants_key=bool(service.settings.api_key))


@routes.get("/docs", is_public=True)
def docs(service: Service) -> Answer:
    """A page for browsers, to read all this and to try it."""
    return _from_here(Response(PAGE, mimetype="text/html"))


@routes.get("/docs/<name>", is_public=True)
def asset(service: Service, name: str) -> Answer:
    """What that page is made of."""
    if name == "start.js":
        return _from_here(Response(START, mimetype="text/javascript"))
    if name not in ASSETS:
        raise NotFound(f"{name} is no part of the page")
    data = files("flask_swagger_ui").joinpath("dist", name).read_bytes()
    return _from_here(Response(data, mimetype=ASSETS[name]))


@routes.get("/redoc", is_public=True)
def redoc(service: Service) -> Answer:
    """Where RWKV-Runner has a second page."""
    return redirect("docs")  # type: ignore[return-value]  # of werkzeug, and as good


def _from_here(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    return response

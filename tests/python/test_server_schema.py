"""The OpenAPI page tells the truth, and nothing that fits it, or nearly does, breaks the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from rwkvcpp.server import create_app
from rwkvcpp.server.answers import ANSWERS
from rwkvcpp.server.app import SHAPES
from rwkvcpp.server.examples import EXAMPLES
from tests.python.server import undo_changes

ROUTES = [route for shape in SHAPES for route in shape.all]
FIRST_PATHS = [route.paths[0] for route in ROUTES]
UNTRIED = ("/exit",)  # it ends the server
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def template(path: str) -> str:
    """A path of Flask as OpenAPI writes it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    app = create_app(max_tokens_limit=8, model_folder=[folder], grace=0)
    yield app
    app.extensions["rwkvcpp"].close()


@pytest.fixture(scope="module")
def page(app: Flask) -> dict[str, Any]:
    return app.test_client().get("/openapi.json").json


# ---- the page ---------------------------------------------------------------------------------


def test_every_route_stands_on_the_page(app, page):
    there = {
        (template(rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    shown = {(path, method) for path, item in page["paths"].items() for method in item}
    assert shown == there


def test_the_schemas_are_schemas_and_every_reference_leads_somewhere(page):
    for name, schema in page["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid(schema), name
    for reference in set(re.findall(r'"#(/[^"]+)"', json.dumps(page))):
        found: Any = page
        for part in reference[1:].split("/"):
            found = found[part]


def test_a_field_is_shown_under_all_its_names(page):
    fields = page["components"]["schemas"]["ChatBody"]["properties"]
    assert fields["max_completion_tokens"]["description"] == "Another name of max_tokens."
    assert fields["alpha_presence"]["anyOf"] == fields["presence_penalty"]["anyOf"]
    assert {"type": "null"} in fields["stream"]["anyOf"]


def test_operations_have_names_of_their_own(page):
    names = [each["operationId"] for item in page["paths"].values() for each in item.values()]
    assert len(set(names)) == len(names)
    assert all(each["summary"] for item in page["paths"].values() for each in item.values())


def test_what_is_told_of_routes_is_told_of_routes_that_exist():
    assert set(ANSWERS) | set(EXAMPLES) <= set(FIRST_PATHS)
    bodies = {route.paths[0] for route in ROUTES if route.body is not None}
    assert set(EXAMPLES) <= bodies


def test_every_route_is_told_of_in_the_documents():
    folder = Path(__file__).parents[2] / "docs"
    text = "".join(page.read_text() for page in folder.glob("http*.md"))
    paths = {template(path) for route in ROUTES for path in route.paths} - {"/docs/{name}"}
    assert sorted(path for path in paths if path not in text) == []


def test_two_bodies_do_not_share_a_name():
    bodies = {route.body for route in ROUTES if route.body is not None}
    assert len({body.__name__ for body in bodies}) == len(bodies)


def test_keys_are_asked_for_where_they_are_needed():
    app = create_app(no_model=True, api_key=["a key"])
    page = app.test_client().get("/openapi.json").json
    assert page["security"] == [{"bearer": []}, {"header": []}]
    assert page["paths"]["/openapi.json"]["get"]["security"] == []
    assert "security" not in page["paths"]["/v1/chat/completions"]["post"]


@pytest.mark.parametrize(
    ("path", "body"),
    [(path, body) for path, bodies in EXAMPLES.items() for body in bodies.values()],
    ids=[f"{path}: {name}" for path, bodies in EXAMPLES.items() for name in bodies],
)
def test_examples_are_answered_as_the_page_says(app, path, body):
    short = {name: min(n, 8) for name, n in body.items() if name.startswith("max_")}
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    case = schema[path]["POST"].Case(body={**body, **short}, media_type="application/json")
    reply = case.call()
    undo_changes(app)
    assert reply.status_code == 200, reply.text
    case.validate_response(reply, checks=CHECKS)


# ---- the page for browsers --------------------------------------------------------------------


def test_docs_ask_no_other_host(app):
    client = app.test_client()
    reply = client.get("/docs")
    assert reply.status_code == 200
    assert reply.mimetype == "text/html"
    assert "//" not in reply.text
    wanted = re.findall(r'(?:src|href)="([^"]+)"', reply.text)
    assert len(wanted) == 4
    for path in wanted:
        with client.get(f"/{path}") as part:
            assert part.status_code == 200
            assert len(part.data) > 50
    assert "'openapi.json'" in client.get("/docs/start.js").text.replace('"', "'")
    # Whatever the assets would like to load.
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'self';")


def test_docs_give_nothing_else_away(app):
    client = app.test_client()
    for name in ("x.js", "..%2F__init__.py", "%2e%2e/flask_swagger_ui.py", "LICENSE"):
        assert client.get(f"/docs/{name}").status_code == 404
    assert client.get("/redoc").headers["Location"] == "docs"


# ---- fuzzing ----------------------------------------------------------------------------------


def operations(app: Flask) -> list[Any]:
    """What can be asked for in many ways, each under its first name."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    return [
        schema[template(route.paths[0])][route.method]
        for route in ROUTES
        if route.paths[0] not in UNTRIED and (route.body is not None or "<" in route.paths[0])
    ]


def test_what_can_be_asked_for_in_one_way_is_answered_as_the_page_says(app):
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    plain = [route for route in ROUTES if route.body is None and "<" not in route.paths[0]]
    for route in plain:
        for path in route.paths:
            if path not in UNTRIED:
                case = schema[path][route.method].Case()
                case.validate_response(case.call(), checks=CHECKS)


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
def test_nothing_that_fits_the_page_or_nearly_does_breaks_the_server(app, mode):
    known = operations(app)

    @settings(
        max_examples=100,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def ask(data: st.DataObject) -> None:
        operation = data.draw(st.sampled_from(known))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        reply = case.call()
        undo_changes(app)
        case.validate_response(reply, checks=CHECKS)

    ask()

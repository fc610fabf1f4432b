"""The OpenAPI page: what can be asked for, made from the table of routes.

Bodies are what pydantic checks, with every name that a field goes by; answers are those of
`answers.py`. What null means everywhere (nothing) and that unknown fields pass is said once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import AliasChoices, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from rwkvcpp import __version__
from rwkvcpp.server.answers import ANSWERS, Answered, Failure
from rwkvcpp.server.bodies import Body
from rwkvcpp.server.examples import EXAMPLES
from rwkvcpp.server.routing import Route, Routes

REFERENCE = "#/components/schemas/{model}"  # as pydantic wants it
REFUSAL = "#/components/responses/{}"

ABOUT = """\
A model of the RWKV family for OpenAI's clients, RWKV-Runner's and others. Unknown fields pass, null
is as good as nothing, and a number may come as text. `model` never selects and never fails. Errors
are `{"error": {message, type, param, code}, "detail": message}` on every route."""

# Status of a refusal -> what it means. Which routes give which: _refusals.
REFUSALS = {
    400: "What the body asks for is wrong, or not supported (`type` is `not_supported_error`).",
    401: "A key is wanted, and this one is none.",
    403: "Not from here: deploy mode, a foreign Host, or an Origin that --cors does not name.",
    404: "There is no such thing.",
    409: "A state is of another model.",
    413: "The body is too long.",
    422: "A file is there and cannot be loaded.",
    429: "Too many wait; `Retry-After` says when to come back.",
    503: "Not now: the server loads, ends, or has no memory left.",
}


def openapi(shapes: Iterable[Routes], *, wants_key: bool = False) -> dict[str, Any]:
    """The page of `shapes`, as OpenAPI 3.1 has it.

    wants_key: whether routes that are not public ask for a key.
    """
    shapes = tuple(shapes)
    paths: dict[str, dict[str, Any]] = {}
    for shape in shapes:
        for route in shape.all:
            for path in route.paths:
                operation = _operation(shape.name, route, path)
                paths.setdefault(_template(path), {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "rwkvcpp", "version": __version__, "description": ABOUT},
        "paths": paths,
        "tags": [{"name": shape.name} for shape in shapes],
        "security": [{"bearer": []}, {"header": []}] if wants_key else [],
        "components": {
            "schemas": _schemas(route for shape in shapes for route in shape.all),
            "responses": _responses(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


def _operation(tag: str, route: Route, path: str) -> dict[str, Any]:
    first = route.paths[0]
    remarks = {
        f"The same as `{first}`.": path != first,
        "It touches the machine: deploy mode refuses it.": route.touches_machine,
    }
    operation: dict[str, Any] = {
        "tags": [tag],
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()} {path}").strip("_"),
        "summary": route.summary,
        "description": " ".join(remark for remark, holds in remarks.items() if holds),
        "parameters": [
            {"name": part, "in": "path", "required": True, "schema": {"type": "string"}}
            for part in _parts(path)
        ],
        "responses": {**_success(ANSWERS.get(first, Answered())), **_refusals(route)},
    }
    if route.body is not None:
        content = {"schema": _reference(route.body.__name__), "examples": _examples(path)}
        operation["requestBody"] = {"content": {"application/json": content}}
    if route.is_public:
        operation["security"] = []
    return operation


def _examples(path: str) -> dict[str, Any]:
    return {name: {"value": value} for name, value in EXAMPLES.get(path, {}).items()}


def _parts(path: str) -> list[str]:
    """What a path leaves open."""
    return re.findall(r"<(?:\w+:)?(\w+)>", path)


def _template(path: str) -> str:
    """Flask's <path:name> as OpenAPI writes it: {name}."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)


def _reference(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=name)}


def _success(answered: Answered) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if answered.json is not None:
        content["application/json"] = {"schema": _schema_of(answered.json)}
    if answered.events is not None:
        content["text/event-stream"] = {"schema": _event(answered.events)}
    for media_type in answered.others:
        content[media_type] = {"schema": {"type": "string"}}
    answers = {str(answered.status): {"description": answered.meaning, "content": content}}
    for status, meaning in answered.without_body.items():
        answers[str(status)] = {"description": meaning}
    return answers


def _event(kind: Any) -> dict[str, Any]:
    """An event of a stream: in OpenAPI 3.1 tools take the schema for each one's."""
    chunk = {"anyOf": [_schema_of(kind), _reference(Failure.__name__)]}
    data = {"contentMediaType": "application/json", "contentSchema": chunk}
    return {
        "type": "object",
        "properties": {"data": {"type": "string", "anyOf": [{"const": "[DONE]"}, data]}},
        "required": ["data"],
    }


def _schema_of(kind: Any) -> dict[str, Any]:
    return _reference(kind.__name__) if isinstance(kind, type) else dict(kind)


def _refusals(route: Route) -> dict[str, Any]:
    given = {403} if route.is_public else {401, 403}
    if _parts(route.paths[0]):
        given |= {404}
    if route.method == "POST":
        given |= set(REFUSALS)
    return {str(status): {"$ref": REFUSAL.format(status)} for status in REFUSALS if status in given}


def _responses() -> dict[str, Any]:
    content = {"application/json": {"schema": _reference(Failure.__name__)}}
    return {
        str(status): {"description": meaning, "content": content}
        for status, meaning in REFUSALS.items()
    }


def _schemas(routes: Iterable[Route]) -> dict[str, Any]:
    bodies = {route.body for route in routes if route.body is not None}
    answers = {kind for answered in ANSWERS.values() for kind in answered.kinds}
    _, definitions = models_json_schema(
        [(body, "validation") for body in sorted(bodies, key=lambda body: body.__name__)],
        ref_template=REFERENCE,
        schema_generator=_WithAllNames,
    )
    schemas: dict[str, Any] = definitions.get("$defs", {})
    for kind in sorted(answers | {Failure}, key=lambda kind: kind.__name__):
        schema = TypeAdapter(kind).json_schema(ref_template=REFERENCE, mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[kind.__name__] = schema
    return dict(sorted(schemas.items()))


class _WithAllNames(GenerateJsonSchema):
    """Fields under all their names, where pydantic shows the first; null where it is allowed."""

    def model_schema(self, schema: Any) -> Any:
        made = super().model_schema(schema)
        properties: dict[str, Any] = made.get("properties", {})
        for field in schema["cls"].model_fields.values():
            first, *others = _names(field.validation_alias)
            for name in others:
                properties[name] = {**properties[first], "description": f"Another name of {first}."}
        required = made.get("required", ())
        for name, value in properties.items():
            if name not in required and issubclass(schema["cls"], Body):
                properties[name] = _or_null(value)
        return made


def _names(alias: Any) -> list[str]:
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [alias] if isinstance(alias, str) else [""]


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    kinds = schema.get("anyOf")
    if kinds is None:
        kept = {key: schema[key] for key in ("default", "description", "title") if key in schema}
        return {"anyOf": [{k: v for k, v in schema.items() if k not in kept}, _NULL], **kept}
    return dict(schema) if _NULL in kinds else {**schema, "anyOf": [*kinds, _NULL]}


_NULL = {"type": "null"}

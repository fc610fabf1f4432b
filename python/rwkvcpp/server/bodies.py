"""Bodies of requests: JSON that is checked before anything reads it.

Clients send much that nobody asked for, so unknown keys pass, null is as good as nothing, and a
number may come as text. What checking costs stays in proportion to the body: one wrong value of a
list is enough, and is not shown whole.
"""

from __future__ import annotations

from reprlib import Repr
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, from_json

from rwkvcpp.server.errors import ApiError

MOST_CONTAINERS = 1_000_000  # lists and objects in one body: each takes a hundred times its text

SHORT = Repr()
SHORT.maxlist = SHORT.maxdict = 20
SHORT.maxstring = SHORT.maxlong = SHORT.maxother = 100


def _fail_fast(schema: Any) -> None:
    """Lists and objects are left at the first wrong value: a sentence about each takes memory."""
    if isinstance(schema, dict):
        if schema.get("type") in ("list", "dict"):
            schema["fail_fast"] = True
        for part in schema.values():
            _fail_fast(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            _fail_fast(part)


class Body(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _fail_fast(schema)
        return schema


AnyBody = TypeVar("AnyBody", bound=Body)


def read_body(kind: type[AnyBody], data: bytes) -> AnyBody:
    """The body in `data`; ApiError says which field is wrong, what was found and expected."""
    n_containers = data.count(b"[") + data.count(b"{")
    if n_containers > MOST_CONTAINERS:
        message = f"the body has {n_containers} brackets, expected at most {MOST_CONTAINERS}"
        raise ApiError(413, message, code="too_many_values")
    try:
        value = from_json(data or b"{}", allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is no JSON: {error}", code="invalid_json") from error
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        message = (
            f"{where} is {shown(first['input'])}: {first['msg'].removeprefix('Value error, ')}"
        )
        raise ApiError(400, message, code="invalid_value", param=where) from error


def shown(value: Any) -> str:
    """A value, short enough for a message."""
    text = SHORT.repr(value)
    return text if len(text) <= 60 else text[:60] + "…"

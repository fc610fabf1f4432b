"""Bodies of requests: JSON that is checked before anything reads it.

Clients send much that nobody asked for, so unknown keys pass, null is as good as nothing, and a
number may come as text.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import from_json

from rwkvcpp.server.errors import ApiError


class Body(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


AnyBody = TypeVar("AnyBody", bound=Body)


def read_body(kind: type[AnyBody], data: bytes) -> AnyBody:
    """The body in `data`; ApiError says which field is wrong, what was found and expected."""
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
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"

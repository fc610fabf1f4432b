"""Refusals: fields that ask for what is not there. They are told so, never ignored in silence.

Most have values that ask for nothing, which clients send all the time: those pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from rwkvcpp.server.bodies import Body, shown
from rwkvcpp.server.errors import not_supported

IsNothing = Callable[[Any], bool]


def empty(value: Any) -> bool:
    """Nothing at all."""
    return value is None or value is False or value in ("", [], {})


def empty_or(*values: Any) -> IsNothing:
    """Nothing, or one of `values`, which are as good."""
    return lambda value: empty(value) or value in values


def plain_text(value: Any) -> bool:
    """A `response_format` that every text has."""
    kind = value.get("type") if isinstance(value, Mapping) else value
    return empty(value) or kind in (None, "", "text")


# A field -> whether its value asks for nothing.
GRAMMARS: Mapping[str, IsNothing] = {
    "response_format": plain_text,
    "structured_outputs": empty,
    "json_schema": empty,
    "grammar": empty,
    "bnf_schema": empty,
    "guided_json": empty,
    "guided_regex": empty,
    "guided_choice": empty,
    "guided_grammar": empty,
}

SAMPLERS: Mapping[str, IsNothing] = {
    "min_p": empty_or(0),
    "typical_p": empty_or(0, 1),
    "repeat_penalty": empty_or(0, 1),
    "repetition_penalty": empty_or(0, 1),
    "mirostat": empty_or(0),
    "dry_multiplier": empty_or(0),
    "xtc_probability": empty_or(0),
    "dynatemp_range": empty_or(0),
    "logits_processors": empty,
    "ignore_eos": empty,
    "lora": empty,
}


class Refusing(Body):
    """A body that refuses what `refused` lists."""

    refused: ClassVar[Mapping[str, IsNothing]] = {**GRAMMARS, **SAMPLERS}

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        for field, is_nothing in cls.refused.items() if isinstance(data, dict) else ():
            if field in data and not is_nothing(data[field]):
                raise not_supported(
                    f"{field} is {shown(data[field])}: that is not supported", field
                )
        return data

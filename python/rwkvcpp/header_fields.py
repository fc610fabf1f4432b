"""Fields of a JSON object that anybody may have written: each is checked when it is taken."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from rwkvcpp.errors import StateError

LONGEST_TEXT = 1024


class Fields:
    """The fields of one object; errors name the file and the field, what it is and should be."""

    def __init__(self, where: str, values: Mapping[str, Any], path: str = "") -> None:
        self.where = where  # the file, for messages
        self._values, self._path = values, path

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def raw(self, name: str) -> Any:
        """The value, of whatever kind."""
        if name not in self._values:
            raise StateError(f"{self.where}: has no field {self._path}{name}")
        return self._values[name]

    def object(self, name: str) -> Fields:
        """Fields inside."""
        value = self.raw(name)
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(self.where, value, f"{self._path}{name}.")

    def objects(self, name: str) -> list[Fields]:
        """A list of objects."""
        value = self.raw(name)
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise self.wrong(name, "a list of objects")
        return [
            Fields(self.where, entry, f"{self._path}{name}[{i}].") for i, entry in enumerate(value)
        ]

    def array(self, name: str) -> tuple[Any, ...]:
        """A list, of anything."""
        value = self.raw(name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        return tuple(value)

    def names(self) -> list[str]:
        """Of all fields, in order."""
        return list(self._values)

    def integer(self, name: str, low: int = 0, high: int = 2**64 - 1) -> int:
        """A whole number from `low` to `high`."""
        value = self.raw(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(name, f"an integer from {low} to {high}")
        return value

    def text(self, name: str) -> str:
        """Printable text, so that it may appear in a message."""
        value = self.raw(name)
        if not isinstance(value, str) or not value.isprintable() or len(value) > LONGEST_TEXT:
            raise self.wrong(name, f"printable text of at most {LONGEST_TEXT} characters")
        return value

    def one_of(self, name: str, *choices: Any) -> Any:
        """One of `choices`, of the same type, too."""
        value = self.raw(name)
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise self.wrong(name, " or ".join(json.dumps(choice) for choice in choices))
        return value

    def hexadecimal(self, name: str, n_digits: int) -> str:
        """So many lower-case digits."""
        value = self.raw(name)
        digits = set("0123456789abcdef")
        if not isinstance(value, str) or len(value) != n_digits or not digits.issuperset(value):
            raise self.wrong(name, f"{n_digits} hexadecimal digits")
        return value

    def wrong(self, name: str, expected: str) -> StateError:
        """The error that `name` is not what it should be."""
        return StateError(
            f"{self.where}: {self._path}{name} is {shown(self.raw(name))}, expected {expected}"
        )


def shown(value: Any) -> str:
    """A value in a message: short, and printable whatever it is."""
    text = ascii(value) if not isinstance(value, int) else _shown_integer(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown_integer(value: int) -> str:
    too_long = abs(value) >= 2**256  # Python refuses to spell integers of thousands of digits
    return f"an integer of about {int(math.log10(abs(value)))} digits" if too_long else repr(value)


def parse_object(where: str, what: str, data: bytes | memoryview) -> dict[str, Any]:
    """A JSON object in UTF-8, in which no name comes twice and every number is finite."""
    try:
        value = json.loads(
            str(data, "utf-8"),
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "objects in objects without end"
        raise StateError(f"{where}: {what} is no JSON: {shown_text(reason)}") from None
    if not isinstance(value, dict):
        raise StateError(f"{where}: {what} is {shown(value)}, expected an object")
    return value


def shown_text(text: str) -> str:
    """Text of unknown origin in a message."""
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return printable if len(printable) <= 120 else f"{printable[:117]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("an object has a field twice")
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value

"""Kinds of settings: what one is written like, on a command line, in a variable and in TOML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

YES = ("1", "true", "yes", "on")
NO = ("0", "false", "no", "off", "")


@dataclass(frozen=True)
class Kind:
    """How a value of this kind is read; `parse` and `check` raise a ValueError of a few words."""

    expected: str
    metavar: str
    parse: Callable[[str], Any]
    types: tuple[type, ...]  # that TOML has for it
    is_path: bool = False  # which a file means as seen from its own folder

    def check(self, value: Any) -> Any:
        """The value of TOML, if it is of this kind."""
        is_number = not isinstance(value, bool) or bool in self.types  # True is an int to Python
        if not isinstance(value, self.types) or not is_number:
            raise ValueError(f"is {value!r}, expected {self.expected}")
        return self.parse(value) if isinstance(value, str) else value


def _flag(text: str) -> bool:
    if text.lower() not in YES + NO:
        raise ValueError(f"is {text!r}, expected one of {', '.join(YES + NO[:-1])}")
    return text.lower() in YES


def _number(make: Callable[[str], Any], expected: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return make(text)
        except ValueError:
            raise ValueError(f"is {text!r}, expected {expected}") from None

    return parse


def file_and_alpha(text: str) -> tuple[Path, float | None]:
    """FILE:ALPHA, or FILE for adapters that need no alpha."""
    file, colon, alpha = text.rpartition(":")
    try:
        return (Path(file), float(alpha)) if colon and file else (Path(text), None)
    except ValueError:
        return Path(text), None


TEXT = Kind("a text", "TEXT", str, (str,))
PATH = Kind("a path", "FILE", Path, (str,), is_path=True)
FLAG = Kind("true or false", "", _flag, (bool,))
INTEGER = Kind("a whole number", "N", _number(int, "a whole number"), (int,))
SECONDS = Kind("seconds", "SECONDS", _number(float, "seconds"), (int, float))
ADAPTER = Kind("FILE:ALPHA", "FILE:ALPHA", file_and_alpha, (str,), is_path=True)

"""What a chat tells its face: a terminal, a pipe, a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Speaking:
    """The model begins to answer under this name; "" for a text that goes on."""

    name: str


@dataclass(frozen=True)
class Said:
    """More of what the model says."""

    text: str


@dataclass(frozen=True)
class Thought:
    """More of what the model thinks before it says anything."""

    text: str


@dataclass(frozen=True)
class Silent:
    """The answer is over."""


@dataclass(frozen=True)
class Reading:
    """Of what the model has to read before it answers, `done` of `total` tokens are read."""

    done: int
    total: int


@dataclass(frozen=True)
class Note:
    """A sentence of the program's own."""

    text: str


@dataclass(frozen=True)
class Problem:
    """A sentence about what was not done, and why."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of a name and what there is to say about it."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Leave:
    """Somebody wants to go."""


Event: TypeAlias = Speaking | Said | Thought | Silent | Reading | Note | Problem | Table | Leave

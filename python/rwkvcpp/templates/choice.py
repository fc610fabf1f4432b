"""Which template a model wants: what was asked for, what its file says, what its name says."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from rwkvcpp.templates.formats import TEMPLATES, WORLD
from rwkvcpp.templates.template import Template

Metadata: TypeAlias = "Callable[[str], Any] | Mapping[str, Any]"


def choose_template(
    asked: str | None = None,
    *,
    metadata: Metadata | None = None,
    path: str | os.PathLike[str] | None = None,
    general_name: str | None = None,
) -> Template:
    """The template that is `asked` for by name, else the one that belongs to the model.

    metadata: a GGUF file's, `Model.metadata`.
    path: the model file; its name tells generations apart.
    general_name: the model's own name for itself; None reads it in `metadata`.
    """
    if asked is not None:
        return named_template(asked)
    read = metadata.get if isinstance(metadata, Mapping) else metadata or (lambda _: None)
    general_name = read("general.name") if general_name is None else general_name
    names = (Path(path).stem if path is not None else "", str(general_name or ""))
    return next(filter(None, map(of_name, names)), WORLD)


def named_template(name: str) -> Template:
    """The built-in template called `name`."""
    if name not in TEMPLATES:
        raise ValueError(f"there is no template {name!r}, only {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def _generation(found: re.Match[str]) -> str:
    """Of G1: letters tell generations apart, and before G1c the date does."""
    letter = found[1]
    dates = re.findall(r"(?<![0-9])(20[0-9]{6})(?![0-9])", found.string)
    if letter >= "c":
        return "g1"
    is_later = max(dates) >= "20250922" if dates else letter == "b"
    return "g1b" if is_later else "g1a"


# What a model's name says; the first that fits.
NAMES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"rwkv7-stories", lambda _: "stories"),
    (r"raven|pile", lambda _: "raven"),
    (r"(?<![a-z0-9])g1([a-z]?)(?![a-z0-9])", _generation),
    (r"world", lambda _: "world"),
)


def of_name(name: str) -> Template | None:
    """The template of a model that is called `name`, if that says anything."""
    name = name.lower()
    for pattern, which in NAMES:
        found = re.search(pattern, name)
        if found:
            return TEMPLATES[which(found)]
    return None

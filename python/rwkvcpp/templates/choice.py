"""Which template a model wants: what was asked for, what its file says, what its name says."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from rwkvcpp.errors import ModelFormatError
from rwkvcpp.templates.foreign import jinja_template
from rwkvcpp.templates.formats import G1, G1A, G1B, TEMPLATES, WORLD
from rwkvcpp.templates.recognition import of_twin, recognised
from rwkvcpp.templates.sandbox import MAX_TEXT
from rwkvcpp.templates.template import Template
from rwkvcpp.templates.turns import Turns
from rwkvcpp.templates.twin import twin

Metadata: TypeAlias = "Callable[[str], Any] | Mapping[str, Any]"


def choose_template(
    asked: str | None = None,
    *,
    metadata: Metadata | None = None,
    path: str | os.PathLike[str] | None = None,
    general_name: str | None = None,
) -> Template:
    """The template that is `asked` for, else the one that belongs to the model.

    asked: the name of one that is built in, or a file of Jinja text.
    metadata: a GGUF file's, `Model.metadata`.
    path: the model file; its name tells generations apart.
    general_name: the model's own name for itself; None reads it in `metadata`.

    Jinja text is matched with what is known, and not rendered here.
    """
    read = metadata.get if isinstance(metadata, Mapping) else metadata or (lambda _: None)
    general_name = read("general.name") if general_name is None else general_name
    names = (Path(path).stem if path is not None else "", str(general_name or ""))
    if asked is not None and asked not in TEMPLATES and Path(asked).is_file():
        text = _text_in(Path(asked))
        return _of_jinja(text, names) or jinja_template(text, where=asked)
    if asked is not None:
        return named_template(asked)
    found = read("tokenizer.chat_template")
    text = found if isinstance(found, str) else ""
    ours = _of_jinja(text, names) or _of_names(names)
    if ours is None and text.strip():
        return jinja_template(text, where=str(path or "the model"))
    return ours or WORLD


def _text_in(file: Path) -> str:
    size = file.stat().st_size
    if size > 4 * MAX_TEXT:  # bytes of a character
        raise ModelFormatError(f"{file}: has {size} bytes, too many for a chat template")
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{file}: a chat template is UTF-8 text: {error}") from error


def jinja_for_others(path: str | os.PathLike[str], general_name: str = "") -> str:
    """The Jinja text that other programs find in the file of a World or G1 model.

    Thoughts are closed with their `>` in it: those programs show what comes after the prompt.
    """
    named = _of_names((Path(path).stem, general_name))
    return twin(named if named in USER_AND_ASSISTANT else WORLD, closed=True)


def named_template(name: str) -> Turns:
    """The built-in template called `name`."""
    if name not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise ValueError(f"there is no template {name!r}, and no file: built in are {known}")
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


def of_name(name: str) -> Turns | None:
    """The template of a model that is called `name`, if that says anything."""
    name = name.lower()
    for pattern, which in NAMES:
        found = re.search(pattern, name)
        if found:
            return TEMPLATES[which(found)]
    return None


def _of_names(names: Iterable[str]) -> Turns | None:
    return next(filter(None, map(of_name, names)), None)


def _of_jinja(text: str, names: Iterable[str]) -> Template | None:
    """Ours that says what the Jinja `text` says; World's generations look alike in it."""
    ours = TEMPLATES.get(of_twin(text) or recognised(text) or "")
    named = _of_names(names)
    are_alike = ours in USER_AND_ASSISTANT and named in USER_AND_ASSISTANT
    return named if are_alike and of_twin(text) is None else ours


USER_AND_ASSISTANT = (WORLD, G1, G1B, G1A)

"""Prompt files: who talks to whom, and what has been said before you come in.

    user = "Bob"
    bot = "Alice"
    interface = ":"
    prompt = "The following is a conversation between {user} and {bot}. ..."

They are data: TOML, JSON, or ChatRWKV's Python files, which are read and never run. A text may be a
list of its lines, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rwkvcpp.chat.python_assignments import read_assignments

FOLDER = Path(__file__).parent / "prompts"
MAX_BYTES = 2**20  # of a prompt file: a prompt is read by the model token by token
KEYS = ("user", "bot", "interface", "prompt", "init_prompt", "about")


@dataclass(frozen=True, kw_only=True)
class PromptFile:
    """What a prompt file says; the names of World models where it gives none."""

    name: str
    user: str = "User"
    bot: str = "Assistant"
    interface: str = ":"  # what parts a name from what is said
    prompt: str = ""  # the text before the first turn, lines stripped; "" for none
    about: str = ""  # for lists


def read_prompt(path: Path) -> PromptFile:
    """The prompt in a file; ValueError names the file and what is wrong with it."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(READERS)
        raise ValueError(f"{path}: a prompt file ends in one of {kinds}, not in {path.suffix!r}")
    try:
        values = reader(_text(path))
    except ValueError as error:  # the libraries' are ValueErrors, too
        raise ValueError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deeply for a prompt file") from error
    return _checked(path, values)


def find_prompt(name: str) -> PromptFile:
    """A prompt that comes with the package, by its name, or the one in the file `name`."""
    path = Path(name).expanduser()
    packaged = FOLDER / f"{name}.json"
    return read_prompt(packaged if name in packaged_prompts() and not path.is_file() else path)


def packaged_prompts() -> list[str]:
    """The names of the prompts that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES} bytes, too large for a prompt file")
    if b"\0" in data:
        raise ValueError("is no text file: there are zero bytes in it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is no UTF-8 text: byte {error.start} is {data[error.start]:#x}"
        ) from error


def _read_toml(text: str) -> Any:
    try:
        import tomllib
    except ImportError:
        raise ValueError("TOML needs Python 3.11 or newer; JSON says the same") from None
    return tomllib.loads(text)


READERS: dict[str, Callable[[str], Any]] = {
    ".toml": _read_toml,
    ".json": json.loads,
    ".py": read_assignments,
}


def _checked(path: Path, values: Any) -> PromptFile:
    if not isinstance(values, dict):
        raise ValueError(f'{path}: expected names with values, such as user = "Bob"')
    python = path.suffix.lower() == ".py"  # a Python file may have names of its own
    values = {key: _joined(value) for key, value in values.items()}
    for key, value in values.items():
        if key not in KEYS and not python:
            raise ValueError(f"{path}: there is no {key!r} in a prompt, only {', '.join(KEYS)}")
        if key in KEYS and not isinstance(value, str):
            raise ValueError(f"{path}: {key} is {value!r}, expected text")
    found = {key: values[key] for key in KEYS if key in values}
    if not found:
        raise ValueError(f"{path}: there is no user, bot or prompt in it")
    prompt = found.pop("init_prompt", "") if "prompt" not in found else found.pop("prompt")
    found.pop("init_prompt", None)
    given = PromptFile(name=path.stem, **found)
    return PromptFile(name=path.stem, **found, prompt=_filled(prompt, given))


def _joined(value: Any) -> Any:
    """A text for the list of its lines."""
    is_lines = isinstance(value, list) and all(isinstance(line, str) for line in value)
    return "\n".join(value) if is_lines else value


def _filled(text: str, given: PromptFile) -> str:
    """The prompt with its names put in and its lines stripped, as the models were trained."""
    for field in ("user", "bot", "interface"):
        text = text.replace("{" + field + "}", getattr(given, field))
    lines = (line.strip() for line in text.strip().splitlines())  # U+3000 is white space, too
    return "\n".join(lines)

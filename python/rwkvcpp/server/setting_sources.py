"""Where settings come from: options of the command line, before variables, before a TOML file.

# server.toml: keys are the options, with _ or -
model = "models/rwkv7-g1-1.5b-q8_0.gguf"    # as seen from the file's folder
api_key = ["first", "second"]

RWKVCPP_PORT=9000 RWKVCPP_API_KEY=first,second rwkvcpp serve --config server.toml
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rwkvcpp.server.settings import SETTINGS, About, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "RWKVCPP_"
CONFIG = PREFIX + "CONFIG"  # names the file, as --config does


def read_settings(
    given: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None
) -> Settings:
    """The settings that these three make; ValueError names the source and the key that is wrong.

    given: by name, as they are, what the command line has.
    """
    if file is None and environ.get(CONFIG):
        file = Path(environ[CONFIG])
    of_file = {} if file is None else read_file(file)
    return Settings(**{**of_file, **read_environment(environ), **given})


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Those that variables say; commas part lists."""
    found: dict[str, Any] = {}
    for name, about in SETTINGS.items():
        variable = PREFIX + name.upper()
        if variable in environ:
            text = environ[variable]
            words = text.split(",") if about.is_list else [text]
            values = [_named(variable, about.kind.parse, word.strip()) for word in words if word]
            found[name] = values if about.is_list else _named(variable, about.kind.parse, text)
    return found


def read_file(path: Path) -> dict[str, Any]:
    """Those that a TOML file says."""
    with path.open("rb") as file:
        try:
            table = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: no TOML: {error}") from error
    found = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in SETTINGS:
            raise ValueError(f"{path}: unknown key {key!r}{_nearest(name)}")
        found[name] = _of_file(path, key, SETTINGS[name], value)
    return found


def _of_file(path: Path, key: str, about: About, value: Any) -> Any:
    values = value if about.is_list and isinstance(value, list) else [value]
    checked = [_named(f"{path}: {key}", about.kind.check, each) for each in values]
    if about.kind.is_path:
        checked = [_from(path.parent, each) for each in checked]
    return checked if about.is_list else checked[0]


def _from(folder: Path, value: Any) -> Any:
    """A path, or the adapter's, as seen from `folder`."""
    return (folder / value[0], value[1]) if isinstance(value, tuple) else folder / value


def _named(source: str, read: Any, value: Any) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{source} {error}") from None


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, SETTINGS, n=3, cutoff=0.5)
    known = ", ".join(near or sorted(SETTINGS))
    return f"; the nearest known ones are {known}" if near else f", expected one of {known}"

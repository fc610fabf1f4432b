"""Files that requests name: inside of folders that the settings give, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from rwkvcpp.server.errors import ApiError


def file_in(
    folders: Iterable[str | Path], name: str, *, param: str, suffixes: Sequence[str] = ("",)
) -> Path | None:
    """What is called `name`, or that and one of the `suffixes`, in the first folder that has it.

    None if there is no such file or folder, ApiError for a name that leads out. Links are followed,
    and must not lead out either.
    """
    _check_name(name, param)
    for folder in folders:
        root = Path(os.path.realpath(folder))
        for suffix in suffixes:
            path = Path(os.path.realpath(root / (name + suffix)))
            if path.is_relative_to(root) and is_there(path):
                return path
    return None


def is_there(path: Path) -> bool:
    """Whether it is a file or a folder, and no device or pipe, which might never end."""
    try:
        return path.is_file() or path.is_dir()
    except OSError:  # such as a name that is too long for any file
        return False


def _check_name(name: str, param: str) -> None:
    """By the manners of any system: what it means elsewhere should mean nothing here."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    leads_out = any(path.anchor or ".." in path.parts for path in paths)
    if leads_out or "\0" in name:
        raise ApiError(
            400,
            f"{param} is {name[:60]!r}, expected the name of a file in a folder of this server",
            code="invalid_value",
            param=param,
        )

"""Where conversations are saved: one file each, by name, in a folder of the user's."""

from __future__ import annotations

import os
import re
from pathlib import Path

SUFFIX = ".rwkvsession"
# One name, nothing that a shell or a file system would take for more than a name.
_NAME = re.compile(r"\w(?:[\w .-]{0,98}[\w-])?")


class Shelf:
    """The saved conversations of a folder, which is made when the first is saved."""

    def __init__(self, folder: Path | None = None) -> None:
        """The folder named, or the user's own."""
        self.folder = users_folder() / "sessions" if folder is None else folder

    def names(self) -> list[str]:
        """The names of what is saved, what was saved last first."""
        files = self.folder.glob("*" + SUFFIX) if self.folder.is_dir() else ()
        newest_first = sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)
        return [file.name.removesuffix(SUFFIX) for file in newest_first]

    def place(self, name: str) -> Path:
        """The file of a conversation, in a folder that is there."""
        path = self._path(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        return path

    def find(self, name: str) -> Path:
        """The file of a saved conversation; ValueError where there is none."""
        path = self._path(name)
        if not path.is_file():
            names = ", ".join(self.names()) or "nothing"
            raise ValueError(f"there is no conversation {name!r} in {self.folder}, only {names}")
        return path

    def _path(self, name: str) -> Path:
        return self.folder / (checked_name(name) + SUFFIX)


def checked_name(name: str) -> str:
    """`name`, if it is one; ValueError says what a name is."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is no name for a conversation: letters and digits, with spaces, dots, "
            "- and _ between them, 100 at most"
        )
    return name


def users_folder() -> Path:
    """The user's folder for the data of this program, by the XDG rules."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "share") / "rwkvcpp"  # noqa: PTH117 -- "" is no Path

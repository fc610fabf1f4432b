"""Tuned states that requests name: those of the settings, and files in the settings' folders."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rwkvcpp import RwkvError, State, StateError
from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.folders import file_in
from rwkvcpp.tuned_state import load_tuned

if TYPE_CHECKING:
    from rwkvcpp import Model

SUFFIXES = ("", ".pth", ".st", ".safetensors", ".state")
KEPT = 16  # files of the folders, those used last

Version: TypeAlias = "tuple[str, int, int]"  # of a file: its path, time and size


class TunedStates:
    """The tuned states of one model, by name; threads share them."""

    def __init__(
        self, model: Model, files: Sequence[str | Path], folders: Sequence[str | Path]
    ) -> None:
        """Those in `files` are loaded now, those in `folders` when they are asked for.

        What is wrong with one of the files is among the `misfits`.
        """
        self._model = model
        self._folders = folders
        self._named: dict[str, State] = {}
        self._lock = threading.Lock()
        self._kept: OrderedDict[Version, State] = OrderedDict()
        self.misfits: list[Exception] = []
        for file in map(Path, files):
            try:
                state = load_tuned(file, model)
            except (RwkvError, OSError) as error:
                self.misfits.append(error)
            else:
                self._named |= dict.fromkeys((file.stem, file.name, str(file)), state)

    def named(self, name: str) -> State | None:
        """The state called `name`; None for a folder or "", which are none. Clone it to change it.

        ApiError for what is no tuned state of this model.
        """
        if name in self._named:
            return self._named[name]
        if not name.rstrip("/\\"):
            return None
        path = file_in(self._folders, name, param="state", suffixes=SUFFIXES)
        if name[-1] in "/\\" or (path is not None and path.is_dir()):
            return None
        if path is None:
            raise _wrong(f"state file not found: {name[:60]!r}; {self._known()}")
        try:
            return self._of_file(path)
        except StateError as error:
            raise _wrong(f"state shape mismatch: {_told(error, path, name)}") from error
        except (RwkvError, OSError) as error:
            raise _wrong(f"state file failed to load: {_told(error, path, name)}") from error

    def _of_file(self, path: Path) -> State:
        facts = path.stat()
        version = (str(path), facts.st_mtime_ns, facts.st_size)
        with self._lock:
            state = self._kept.pop(version, None) or load_tuned(path, self._model)
            self._kept[version] = state
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return state

    def _known(self) -> str:
        names = sorted({Path(name).stem for name in self._named})
        return f"loaded are {', '.join(names)}" if names else "none is loaded"


def _told(error: Exception, path: Path, name: str) -> str:
    """Clients need not know where the folders are."""
    return str(error).replace(str(path), name)


def _wrong(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_value", param="state")

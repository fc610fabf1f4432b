"""Snapshots in a folder: they survive a restart, and processes may share them.

The name of a file says whose it is, how many tokens led to it, and their hash:

    <32 digits of the key's digest>-<tokens>-<16 digits of their hash>.prefix

So the folder itself is the index: a search lists it, and hashes the tokens up to the lengths that
are there. A hash only finds a file; the tokens in it decide. What was used longest ago, by the
file's time, goes first. A file that cannot be used costs time and no more: it is logged and
removed. Files with other names are not touched.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rwkvcpp import _core
from rwkvcpp.errors import StateError
from rwkvcpp.prefix_key import PrefixKey
from rwkvcpp.snapshot_file import pieces, read_snapshot
from rwkvcpp.snapshots import Snapshot
from rwkvcpp.state_container import write
from rwkvcpp.token_tree import Row
from rwkvcpp.whole_file import PathArgument

NAME = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,9})-([0-9a-f]{16})\.prefix")
LEFT_BEHIND = re.compile(NAME.pattern + r"\.[0-9]+-[0-9a-f]{8}\.part")
HOUR = 3600  # seconds; a file takes milliseconds to write

logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # programs that want to know say so


class SnapshotFolder:
    """Files of snapshots, `budget` bytes of them at most. It never raises for a file."""

    def __init__(self, path: PathArgument, budget: int) -> None:
        """Make the folder, for its user alone, if there is none."""
        self.budget = budget
        self._path = Path(path)
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room()  # whoever filled it may have had a larger budget

    def longest(self, key: PrefixKey, row: Row, beyond: int) -> Snapshot | None:
        """The snapshot after the longest prefix of `row` that has one, longer than `beyond`."""
        for n_tokens, path in self._candidates(key, row, beyond):
            try:
                snapshot = read_snapshot(path, key, row[:n_tokens])
            except FileNotFoundError:  # another process needed the room
                continue
            except (StateError, OSError) as error:
                logger.warning("A file of the prefix cache is removed: %s", error)
                _remove(path)
                continue
            _use(path)
            return snapshot
        return None

    def put(self, key: PrefixKey, row: Row, snapshot: Snapshot) -> None:
        """Write a snapshot, unless it is there already, and make room for it."""
        path = self._path_of(key, row)
        if _use(path) or snapshot.nbytes + row.nbytes > self.budget:
            return
        try:
            write(path, pieces(key, row, snapshot))
        except (StateError, OSError) as error:
            logger.warning("A snapshot of the prefix cache is not written: %s", error)
            return
        _use(path)  # the time that files get is too coarse to order them
        self._make_room()

    def touch(self, key: PrefixKey, row: Row) -> None:
        """A snapshot of exactly these tokens, if there is one, was used."""
        _use(self._path_of(key, row))

    def clear(self) -> None:
        """Remove all snapshots, of all models."""
        for path, _ in self._files(NAME):
            _remove(path)

    def usage(self) -> tuple[int, int]:
        """Files, and their bytes."""
        sizes = [status.st_size for _, status in self._files(NAME)]
        return len(sizes), sum(sizes)

    def _path_of(self, key: PrefixKey, row: Row) -> Path:
        found = _core.hash_tokens(row.tolist(), key.start[1])
        return self._path / f"{_owner(key)}-{len(row)}-{found:016x}.prefix"

    def _candidates(self, key: PrefixKey, row: Row, beyond: int) -> list[tuple[int, Path]]:
        """(tokens, path) of files that may hold a prefix, the longest first."""
        matches = map(NAME.fullmatch, self._names())
        own = {match.group() for match in matches if match and match[1] == _owner(key)}
        lengths = {int(name.split("-")[1]) for name in own}
        found = []
        value, done = key.start[1], 0
        for n_tokens in sorted(n for n in lengths if beyond < n <= len(row)):
            value = _core.hash_tokens(row[done:n_tokens].tolist(), value)
            done = n_tokens
            name = f"{_owner(key)}-{n_tokens}-{value:016x}.prefix"
            if name in own:
                found.append((n_tokens, self._path / name))
        return found[::-1]

    def _make_room(self) -> None:
        files = sorted(self._files(NAME), key=lambda file: file[1].st_mtime_ns)
        excess = sum(status.st_size for _, status in files) - self.budget
        for path, status in files:
            if excess <= 0:
                break
            _remove(path)
            excess -= status.st_size
        for path, status in self._files(LEFT_BEHIND):  # of processes that were killed
            if time.time() - status.st_mtime > HOUR:
                _remove(path)

    def _names(self) -> list[str]:
        try:
            return [path.name for path in self._path.iterdir()]
        except OSError as error:
            logger.warning("The folder of the prefix cache cannot be read: %s", error)
            return []

    def _files(self, names: re.Pattern[str]) -> Iterator[tuple[Path, os.stat_result]]:
        for name in filter(names.fullmatch, self._names()):
            path = self._path / name
            with suppress(OSError):  # it may have gone
                status = path.stat()
                yield path, status


def _owner(key: PrefixKey) -> str:
    return key.digest.hex()[:32]


def _use(path: Path) -> bool:
    """Whether there is such a file, whose time is now that of its last use."""
    now = time.time_ns()
    try:
        os.utime(path, ns=(now, now))
    except OSError:
        return False
    return True


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("A file of the prefix cache cannot be removed: %s", error)

"""A file that is there in whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PathArgument = str | os.PathLike[str]


@contextmanager
def whole_file(path: PathArgument, *, durable: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to; the file becomes `path` when the block ends well.

    An error or Ctrl-C leaves nothing behind, and what was at `path` before as it was; a killed
    process leaves its `.part` behind. durable: the file is on the disk then, not only in memory.
    """
    final = Path(path).resolve()
    _check_place(final)
    # Others may be writing the same file: each has its own, and the last one wins.
    temporary = final.with_name(f"{final.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync(final.parent)


def _sync(path: Path) -> None:
    """Wait until the disk has a file's bytes, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_place(path: Path) -> None:
    """Known before hours of work, and with the name that the user gave."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, expected the name of a file", str(path))
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "is a device, expected the name of a file", str(path))

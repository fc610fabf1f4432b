"""The entries of a zip archive that holds its files as they are, as PyTorch writes it.

The standard library reads the central directory, ZIP64 included. What it does not promise is
checked here: nothing is compressed, names are unique, every entry's own header agrees with the
directory, and no two entries share bytes.
"""

from __future__ import annotations

import itertools
import struct
import zipfile
from typing import NamedTuple

from rwkvcpp.checkpoints.data_file import DataFile
from rwkvcpp.errors import ModelFormatError, UnsupportedError

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
ENCRYPTED = 0x1


class Entry(NamedTuple):
    """Where a file's bytes lie in the archive."""

    offset: int
    n_bytes: int


def stored_entries(file: DataFile) -> dict[str, Entry]:
    """Every file of the archive, by name."""
    entries: dict[str, Entry] = {}
    ends: list[tuple[int, int, str]] = []  # begin, end, name: from local header to last byte
    for info in _central_directory(file):
        if info.filename in entries:
            raise ModelFormatError(f"{file.path}: has the entry {info.filename!r} twice")
        entry = _entry(file, info)
        entries[info.filename] = entry
        ends.append((info.header_offset, entry.offset + entry.n_bytes, info.filename))
    ends.sort()
    for (_, end, name), (begin, _, following) in itertools.pairwise(ends):
        if begin < end:
            raise ModelFormatError(
                f"{file.path}: entry {following!r} begins at byte {begin}, "
                f"inside {name!r}, which ends at {end}"
            )
    return entries


def _central_directory(file: DataFile) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file.path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, EOFError) as error:
        raise ModelFormatError(
            f"{file.path}: is a damaged zip archive, perhaps cut short: {error}"
        ) from error


def _entry(file: DataFile, info: zipfile.ZipInfo) -> Entry:
    where = f"{file.path}: entry {info.filename!r}"
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise UnsupportedError(
            f"{where} is compressed ({info.compress_size} bytes become {info.file_size}), "
            "expected it as it is, as torch.save writes it"
        )
    if info.flag_bits & ENCRYPTED:
        raise UnsupportedError(f"{where} is encrypted")
    if info.header_offset < 0 or info.header_offset + LOCAL_HEADER.size > file.size:
        raise ModelFormatError(
            f"{where} begins at byte {info.header_offset} of {file.size}: the file may be cut short"
        )
    header = LOCAL_HEADER.unpack(file.read(info.header_offset, LOCAL_HEADER.size))
    magic, method, n_name, n_extra = header[0], header[3], header[9], header[10]
    name_at = info.header_offset + LOCAL_HEADER.size
    offset = name_at + n_name + n_extra
    if magic != b"PK\x03\x04" or method != zipfile.ZIP_STORED:
        raise ModelFormatError(f"{where} has no header at byte {info.header_offset}")
    if offset + info.file_size > file.size:
        raise ModelFormatError(
            f"{where} ends at byte {offset + info.file_size} of {file.size}: "
            "the file may be cut short"
        )
    if file.read(name_at, n_name) not in (info.filename.encode(), info.orig_filename.encode()):
        raise ModelFormatError(f"{where} has another name in its own header")
    return Entry(offset, info.file_size)

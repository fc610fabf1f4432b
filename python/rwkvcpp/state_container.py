"""The container of state files: a header in JSON, sections of bytes, and a checksum over each part.

    0   8  "rwkvst\\r\\n"
    8   4  version of the container, 1
   12   4  bytes of JSON, spaces at its end included
   16   8  bytes of data
   24   4  CRC-32 of the 24 bytes before, and of the JSON
   28   4  CRC-32 of the data
   32      JSON; then the data, at a multiple of 64

Numbers are little-endian. The JSON says which sections the data has, in order, and how long they
are; each begins at a multiple of 64. CRC-32 finds damage and costs 2 ms for the state of a 1.5B
model; it is no seal, and whoever reads a file trusts nothing in it.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from rwkvcpp import _core
from rwkvcpp.errors import StateError
from rwkvcpp.header_fields import Fields, parse_object
from rwkvcpp.whole_file import PathArgument, whole_file

MAGIC = b"rwkvst\r\n"
VERSION = 1
NEEDS = "0.1.0"  # the rwkvcpp that first read this version
PREFIX = struct.Struct("<8sIIQII")
N_SEALED = 24  # bytes of the prefix that the first checksum covers
ALIGNMENT = 64

LARGEST_JSON = 2**20
LARGEST_DATA = 2**30  # the state of a 13B model takes 66 MB

Buffer: TypeAlias = "bytes | memoryview"


@dataclass(frozen=True)
class Container:
    """What a file holds; the sums are right, and nothing else is known of it."""

    where: str  # for messages
    header: Fields
    sections: Mapping[str, memoryview]

    def section(self, name: str, n_bytes: int | None = None) -> memoryview:
        """The bytes of a section, `n_bytes` of them."""
        if name not in self.sections:
            raise StateError(f"{self.where}: has no section {name}")
        found = self.sections[name]
        if n_bytes is not None and len(found) != n_bytes:
            raise StateError(
                f"{self.where}: section {name} has {len(found)} bytes, expected {n_bytes}"
            )
        return found


# ---- writing -------------------------------------------------------------------------------------


def pack(header: Mapping[str, Any], sections: Mapping[str, Buffer]) -> list[Buffer]:
    """The file as pieces, one behind the other. `header` goes into the JSON as it is."""
    parts = list(_padded(sections.values()))
    n_data = sum(map(len, parts))
    if n_data > LARGEST_DATA:
        raise ValueError(f"there are {n_data} bytes to save, expected {LARGEST_DATA} at most")
    text = _json(header, {name: len(data) for name, data in sections.items()})
    sealed = PREFIX.pack(MAGIC, VERSION, len(text), n_data, 0, 0)[:N_SEALED]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    sums = struct.pack("<II", zlib.crc32(text, zlib.crc32(sealed)), checksum)
    return [sealed, sums, text, *parts]


def _json(header: Mapping[str, Any], sections: Mapping[str, int]) -> bytes:
    whole = {
        "needs": NEEDS,
        "writer": _core.__version__,
        **header,
        "sections": [{"name": name, "bytes": n} for name, n in sections.items()],
    }
    text = json.dumps(whole, ensure_ascii=True, allow_nan=False).encode()
    text += b" " * (-(PREFIX.size + len(text)) % ALIGNMENT)
    if len(text) > LARGEST_JSON:
        raise ValueError(f"the header takes {len(text)} bytes, expected {LARGEST_JSON} at most")
    return text


def _padded(sections: Iterable[Buffer]) -> Iterator[Buffer]:
    for data in sections:
        yield data
        if padding := -len(data) % ALIGNMENT:
            yield bytes(padding)


def write(path: PathArgument, pieces: Sequence[Buffer], *, durable: bool = False) -> None:
    """The file at `path`, in whole or, with an OSError, not at all: what was there stays then."""
    with whole_file(path, durable=durable) as temporary, temporary.open("wb", buffering=0) as file:
        for piece in pieces:
            _write_all(file, piece)


def _write_all(file: io.FileIO, piece: Buffer) -> None:
    rest = memoryview(piece)
    while len(rest) > 0:
        rest = rest[file.write(rest) :]


# ---- reading -------------------------------------------------------------------------------------


def is_state_file(path: PathArgument) -> bool:
    """Whether the file at `path` begins like one."""
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_file(path: PathArgument) -> Container:
    """The file at `path`, its checksums compared."""
    where = os.fspath(path)
    with _opened(path) as (file, n_bytes):
        return _read(str(where), file, n_bytes)


def read_bytes(data: bytes | bytearray | memoryview, where: str) -> Container:
    """The same from memory, under a name for messages."""
    return _read(where, io.BytesIO(data), len(data))


@contextmanager
def _opened(path: PathArgument) -> Iterator[tuple[BinaryIO, int]]:
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # before a pipe keeps us waiting
        raise StateError(f"{path}: is a device or a pipe, expected a file")
    with path.open("rb", buffering=0) as file:
        yield file, os.fstat(file.fileno()).st_size


def _read(where: str, file: BinaryIO, n_bytes: int) -> Container:
    header, n_data, checksum = _read_header(where, file, n_bytes)
    lengths = _sections(header, n_data)
    data = _exactly(where, file, n_data)
    if zlib.crc32(data) != checksum:
        raise StateError(f"{where}: is damaged, the checksum of its data is wrong")
    sections = {}
    begin = 0
    for name, n in lengths.items():
        sections[name] = data[begin : begin + n]
        begin += n + -n % ALIGNMENT
    return Container(where, header, sections)


def _read_header(where: str, file: BinaryIO, n_bytes: int) -> tuple[Fields, int, int]:
    """The header; bytes of data, which are there; and their checksum."""
    prefix = bytes(_exactly(where, file, min(PREFIX.size, n_bytes)))
    if not prefix.startswith(MAGIC):
        begins = repr(prefix[: len(MAGIC)])[1:] if prefix else "nothing: it is empty"
        raise StateError(f"{where}: begins with {begins}, expected a state file of rwkvcpp")
    if len(prefix) < PREFIX.size:
        raise StateError(f"{where}: ends after {n_bytes} bytes, expected {PREFIX.size} or more")
    _, version, n_json, n_data, header_sum, data_sum = PREFIX.unpack(prefix)
    if n_json > LARGEST_JSON:
        raise StateError(
            f"{where}: has a header of {n_json} bytes, expected {LARGEST_JSON} at most"
        )
    if PREFIX.size + n_json > n_bytes:
        raise StateError(
            f"{where}: ends after {n_bytes} bytes, expected {PREFIX.size + n_json} or more"
        )
    text = _exactly(where, file, n_json)
    if zlib.crc32(text, zlib.crc32(prefix[:N_SEALED])) != header_sum:
        raise StateError(f"{where}: is damaged, the checksum of its header is wrong")
    header = Fields(where, parse_object(where, "the header", text))
    if version != VERSION:
        raise StateError(
            f"{where}: is a state file of version {version}, expected {VERSION}: "
            f"rwkvcpp {header.text('needs')} or newer reads it"
        )
    if n_data > LARGEST_DATA:
        raise StateError(f"{where}: has {n_data} bytes of data, expected {LARGEST_DATA} at most")
    if PREFIX.size + n_json + n_data != n_bytes:
        raise StateError(f"{where}: has {n_bytes} bytes, expected {PREFIX.size + n_json + n_data}")
    return header, n_data, data_sum


def _sections(header: Fields, n_data: int) -> dict[str, int]:
    """Bytes of each section, by name; all of them lie in the data."""
    lengths: dict[str, int] = {}
    for section in header.objects("sections"):
        name = section.text("name")
        if name in lengths:
            raise section.wrong("name", "a name that no other section has")
        lengths[name] = section.integer("bytes", 0, LARGEST_DATA)
    n_needed = sum(n + -n % ALIGNMENT for n in lengths.values())
    if n_needed != n_data:
        raise header.wrong("sections", f"sections of {n_data} bytes and not of {n_needed}")
    return lengths


def _exactly(where: str, file: BinaryIO, n: int) -> memoryview:
    """The next `n` bytes, which the file was seen to have."""
    data = memoryview(np.empty(n, np.uint8))  # type: ignore[arg-type]
    done = 0
    while done < n:
        n_read = file.readinto(data[done:])  # type: ignore[attr-defined]
        if not n_read:
            raise StateError(f"{where}: became shorter while it was read")
        done += n_read
    return data

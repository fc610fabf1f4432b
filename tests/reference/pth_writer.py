"""PyTorch checkpoints without torch, instruction by instruction, right ones and wrong ones.

What torch itself writes is in tests/data; this is for the files that it would not write.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from rwkvcpp.checkpoints.tensor import encode
from tests.reference.layouts import Tensor

STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

PROTO = b"\x80\x02"
STOP = b"."


@dataclass(frozen=True)
class View:
    """A tensor of the pickle: `key` names a storage of `n_elements`."""

    key: str
    storage: str  # "HalfStorage"
    n_elements: int
    shape: Sequence[int]
    strides: Sequence[int] | None = None
    offset: int = 0


# ---- instructions ----------------------------------------------------------------------------


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    if 0 <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def name(module: str, attribute: str) -> bytes:
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + tuple_of(*arguments) + b"R"


def dictionary(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def persistent(key: str, storage: str, n_elements: int, *, view: bytes = b"") -> bytes:
    parts = [text("storage"), name("torch", storage), text(key), text("cpu"), integer(n_elements)]
    return tuple_of(*parts, view) + b"Q"


def tensor(view: View, *, legacy: bool = False) -> bytes:
    strides = view.strides
    if strides is None:
        strides = [prod(view.shape[i + 1 :]) for i in range(len(view.shape))]
    return call(
        name("torch._utils", "_rebuild_tensor_v2"),
        persistent(view.key, view.storage, view.n_elements, view=b"N" if legacy else b""),
        integer(view.offset),
        tuple_of(*map(integer, view.shape)),
        tuple_of(*map(integer, strides)),
        b"\x89",
        call(name("collections", "OrderedDict")),
    )


def pickle(*instructions: bytes) -> bytes:
    return PROTO + b"".join(instructions) + STOP


# ---- files -----------------------------------------------------------------------------------


def write_zip(
    path: Path, entries: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    return path


def write_sparse_zip64(path: Path, entries: Mapping[str, bytes], *, hole: int) -> Path:
    """An archive whose last entry has `hole` zeros before its bytes, which take no room on disk.

    Sizes and offsets are all in ZIP64's fields, as torch writes them beyond 4 GiB.
    """
    central = b""
    last = list(entries)[-1]
    with path.open("wb") as file:
        for entry, data in entries.items():
            offset, n_bytes = file.tell(), len(data) + (hole if entry == last else 0)
            key, full = entry.encode(), 0xFFFFFFFF
            own = struct.pack("<2H2Q", 1, 16, n_bytes, n_bytes)
            sizes = (0, full, full, len(key))
            file.write(struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 33, *sizes, len(own)))
            file.write(key + own)
            file.seek(n_bytes - len(data), 1)
            file.write(data)
            extra = struct.pack("<2H3Q", 1, 24, n_bytes, n_bytes, offset)
            record = (b"PK\1\2", 45, 45, 0, 0, 0, 33, *sizes, len(extra), 0, 0, 0, 0, full)
            central += struct.pack("<4s6H3I5H2I", *record) + key + extra
        begin, n = file.tell(), len(entries)
        file.write(central)
        end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, n, n, len(central), begin)
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, begin + len(central), 1)
        file.write(end + locator)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, n, n, len(central), 0xFFFFFFFF, 0))
    return path


def write_pickled(
    path: Path, data_pickle: bytes, storages: Mapping[str, bytes], *, byteorder: str = "little"
) -> Path:
    """A checkpoint in the zip layout around any pickle."""
    entries = {"archive/data.pkl": data_pickle, "archive/byteorder": byteorder.encode()}
    entries |= {f"archive/data/{key}": data for key, data in storages.items()}
    return write_zip(path, entries)


def write_views(path: Path, views: Mapping[str, View], storages: Mapping[str, bytes]) -> Path:
    items = {key: tensor(view) for key, view in views.items()}
    return write_pickled(path, pickle(dictionary(items)), storages)


def _views(
    tensors: Mapping[str, Tensor], type_name: str
) -> tuple[dict[str, View], dict[str, bytes]]:
    views, storages = {}, {}
    for i, (key, array) in enumerate(tensors.items()):
        views[key] = View(str(i), STORAGES[type_name], array.size, array.shape)
        storages[str(i)] = encode(type_name, np.asarray(array, np.float32)).tobytes()
    return views, storages


def write_pth(path: Path, tensors: Mapping[str, Tensor], type_name: str) -> Path:
    """Every tensor in a storage of its own, as torch.save writes a checkpoint."""
    return write_views(path, *_views(tensors, type_name))


def write_legacy_pth(path: Path, tensors: Mapping[str, Tensor], type_name: str) -> Path:
    views, storages = _views(tensors, type_name)
    return path_with(path, legacy_bytes(views, storages, item_bytes=ITEM_BYTES[type_name]))


def legacy_bytes(
    views: Mapping[str, View], storages: Mapping[str, bytes], *, item_bytes: int
) -> bytes:
    writer = dictionary({"protocol_version": integer(1001), "little_endian": b"\x88"})
    items = {key: tensor(view, legacy=True) for key, view in views.items()}
    keys = b"](" + b"".join(map(text, storages)) + b"e"
    parts = [integer(LEGACY_MAGIC), integer(1001), writer, dictionary(items), keys]
    data = [
        struct.pack("<q", len(storage) // item_bytes) + storage for storage in storages.values()
    ]
    return b"".join(map(pickle, parts)) + b"".join(data)


def path_with(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path

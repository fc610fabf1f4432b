"""PyTorch checkpoints from before torch 1.6, and of `_use_new_zipfile_serialization=False`.

Five pickles one behind the other: a magic number, a protocol version, the writer's byte order, the
dictionary of tensors, the list of storages. Then, in the order of that list, each storage: the
number of its elements as int64, and the elements.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from rwkvcpp.checkpoints import pickle_machine
from rwkvcpp.checkpoints.container import Container
from rwkvcpp.checkpoints.data_file import DataFile
from rwkvcpp.checkpoints.pickle_machine import ITEM_BYTES, Storage
from rwkvcpp.checkpoints.pth import LARGEST_PICKLE, storage_of, tensors_of
from rwkvcpp.checkpoints.zip_file import Entry
from rwkvcpp.errors import ModelFormatError, UnsupportedError

MAGIC = 0x1950A86A20F9469CFC6C
MAGIC_BYTES = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"
PROTOCOL = 1001


def read_legacy_pth(file: DataFile) -> Container:
    """A checkpoint in the layout of five pickles."""
    storages: dict[str, Storage] = {}

    def find_storage(persistent_id: Any) -> Storage:
        storage = storage_of(persistent_id, str(file.path))
        if len(persistent_id) == 6 and persistent_id[5] is not None:
            raise UnsupportedError(
                f"{file.path}: storage {storage.key!r} is a view of another, "
                "as torch wrote it before 0.4: save the checkpoint again"
            )
        known = storages.setdefault(storage.key, storage)
        if known != storage:
            raise ModelFormatError(
                f"{file.path}: storage {storage.key!r} has {known.n_elements} of {known.dtype} "
                f"in one place and {storage.n_elements} of {storage.dtype} in another"
            )
        return storage

    stream = io.BytesIO(file.head(LARGEST_PICKLE))
    parts = ("the magic number", "the protocol", "the writer", "the tensors", "the storages")
    magic, protocol, writer, found, keys = (
        pickle_machine.load(stream, f"{file.path}: {part}", find_storage=find_storage)
        for part in parts
    )
    if magic != MAGIC or protocol != PROTOCOL:
        raise ModelFormatError(f"{file.path}: is not of protocol {PROTOCOL}")
    if not isinstance(writer, dict) or writer.get("little_endian") is not True:
        raise UnsupportedError(f"{file.path}: was written on a big-endian machine")
    entries = _entries(file, keys, storages, stream.tell())
    return Container(file.path, "PyTorch (legacy)", tensors_of(file, found, entries))


def _entries(
    file: DataFile, keys: Any, storages: dict[str, Storage], position: int
) -> dict[str, Entry]:
    """Where each storage lies, from `position` on."""
    if not isinstance(keys, list) or len(keys) != len(storages):
        raise ModelFormatError(f"{file.path}: does not list its {len(storages)} storages")
    entries: dict[str, Entry] = {}
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or key in entries:
            raise ModelFormatError(f"{file.path}: lists a storage twice, or one of no tensor")
        n_bytes = storage.n_elements * ITEM_BYTES.get(storage.dtype, 1)
        if position + 8 + n_bytes > file.size:
            raise ModelFormatError(
                f"{file.path}: storage {key!r} ends at byte {position + 8 + n_bytes} "
                f"of {file.size}: the file may be cut short"
            )
        (n_elements,) = struct.unpack("<q", file.read(position, 8))
        if n_elements != storage.n_elements:
            raise ModelFormatError(
                f"{file.path}: storage {key!r} has {n_elements} elements, "
                f"expected {storage.n_elements}"
            )
        entries[key] = Entry(position + 8, n_bytes)
        position += 8 + n_bytes
    return entries

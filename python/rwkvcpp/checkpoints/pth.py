"""PyTorch checkpoints (.pth, pytorch_model.bin): a pickle that describes tensors, and raw storages.

Since torch 1.6 a zip archive with one entry for the pickle and one for each storage; before, five
pickles one behind the other (legacy_pth.py).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rwkvcpp.checkpoints import pickle_machine
from rwkvcpp.checkpoints.container import Container
from rwkvcpp.checkpoints.data_file import (
    DataFile,
    StoredTensor,
    StridedTensor,
    checked_name,
    is_contiguous,
)
from rwkvcpp.checkpoints.pickle_machine import ITEM_BYTES, Storage, StorageType, TensorView
from rwkvcpp.checkpoints.tensor import Tensor
from rwkvcpp.checkpoints.zip_file import Entry, stored_entries
from rwkvcpp.errors import ModelFormatError, UnsupportedError

TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
LARGEST_PICKLE = 64 * 2**20  # a model of a thousand tensors takes 200 kB
MAX_DIMENSIONS = 4

# What people save besides plain weights, told by a key.
FOREIGN_KEYS = {
    "_strategy": "was converted by the pip package rwkv for its own use",
    "_version": "was converted by the pip package rwkv for its own use",
    "state_dict": "is a training checkpoint with the weights under 'state_dict'",
    "optimizer": "is a training checkpoint with an optimizer",
    "module": "is a training checkpoint of DeepSpeed",
}


def read_pth(file: DataFile) -> Container:
    """A checkpoint in the zip layout."""
    entries = stored_entries(file)
    root = _root(file, entries)
    _check_byte_order(file, entries.get(f"{root}/byteorder"))
    pickle = entries[f"{root}/data.pkl"]
    if pickle.n_bytes > LARGEST_PICKLE:
        raise ModelFormatError(
            f"{file.path}: data.pkl has {pickle.n_bytes} bytes, expected {LARGEST_PICKLE} at most"
        )
    storages: dict[str, Entry] = {}

    def find_storage(persistent_id: Any) -> Storage:
        storage = storage_of(persistent_id, f"{file.path}: data.pkl")
        entry = entries.get(f"{root}/data/{storage.key}")
        if entry is None:
            raise ModelFormatError(f"{file.path}: storage {storage.key!r} is missing")
        check_storage_size(file, storage, entry.n_bytes)
        storages[storage.key] = entry
        return storage

    stream = io.BytesIO(file.read(pickle.offset, pickle.n_bytes))
    found = pickle_machine.load(stream, f"{file.path}: data.pkl", find_storage=find_storage)
    return Container(file.path, "PyTorch", tensors_of(file, found, storages))


def _root(file: DataFile, entries: Mapping[str, Entry]) -> str:
    """The archive's one folder, called as the file was when it was saved."""
    roots = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) == 1:
        return roots[0]
    raise ModelFormatError(
        f"{file.path}: is a zip archive with {len(roots)} entries data.pkl, "
        "expected 1, as in a PyTorch checkpoint"
    )


def _check_byte_order(file: DataFile, entry: Entry | None) -> None:
    if entry is None:
        return
    order = file.read(entry.offset, min(entry.n_bytes, 16))
    if order != b"little":
        raise UnsupportedError(
            f"{file.path}: byteorder is {order.decode('ascii', 'replace')!r}, expected 'little'"
        )


def storage_of(persistent_id: Any, where: str) -> Storage:
    """('storage', its type, key, where it was ("cuda:0"), number of elements[, a view])."""
    if (
        isinstance(persistent_id, tuple)
        and len(persistent_id) in (5, 6)
        and persistent_id[0] == "storage"
        and isinstance(persistent_id[1], StorageType)
        and isinstance(persistent_id[2], str)
        and pickle_machine.is_count(persistent_id[4])
    ):
        return Storage(persistent_id[1].dtype, persistent_id[2], persistent_id[4])
    raise ModelFormatError(f"{where}: has a persistent id that is no storage of a known type")


def check_storage_size(file: DataFile, storage: Storage, n_bytes: int) -> None:
    """A storage must hold what its pickle says; an untyped one is counted in bytes."""
    expected = storage.n_elements * ITEM_BYTES.get(storage.dtype, 1)
    if n_bytes != expected:
        raise ModelFormatError(
            f"{file.path}: storage {storage.key!r} has {n_bytes} bytes, expected {expected} "
            f"for {storage.n_elements} of {storage.dtype}"
        )


def tensors_of(file: DataFile, found: Any, storages: Mapping[str, Entry]) -> dict[str, Tensor]:
    """The tensors of a pickled dictionary, each checked against its storage."""
    if not isinstance(found, dict):
        raise UnsupportedError(
            f"{file.path}: holds a {type(found).__name__}, expected a dictionary of tensors"
        )
    for key, what in FOREIGN_KEYS.items():
        if key in found:
            raise UnsupportedError(
                f"{file.path}: {what} (it has the key {key!r}), expected a dictionary of tensors"
            )
    return {_name(file, key): _tensor(file, key, view, storages) for key, view in found.items()}


def _name(file: DataFile, key: Any) -> str:
    if isinstance(key, str):
        return checked_name(file, key)
    raise ModelFormatError(f"{file.path}: has the key {key}, expected the name of a tensor")


def _tensor(file: DataFile, name: str, view: Any, storages: Mapping[str, Entry]) -> Tensor:
    where = f"{file.path}: tensor {name}"
    if not isinstance(view, TensorView):
        raise UnsupportedError(
            f"{file.path}: {name} is a {type(view).__name__}, expected a tensor: "
            "save the weights alone, as a dictionary of tensors"
        )
    if view.dtype not in TYPES:
        raise UnsupportedError(f"{where} is {view.dtype}, expected {', '.join(TYPES)}")
    _check_view(where, view)
    type_name, item = TYPES[view.dtype], ITEM_BYTES[view.dtype]
    offset = storages[view.storage.key].offset + view.offset * item
    if is_contiguous(view.shape, view.strides):
        return StoredTensor(name, type_name, view.shape, file, offset)
    return StridedTensor(name, type_name, view.shape, view.strides, file, offset)


def _check_view(where: str, view: TensorView) -> None:
    if not 1 <= len(view.shape) <= MAX_DIMENSIONS or len(view.strides) != len(view.shape):
        raise ModelFormatError(
            f"{where} has {len(view.shape)} dimensions and {len(view.strides)} strides, "
            f"expected 1 to {MAX_DIMENSIONS} of each"
        )
    if min(view.shape) < 1:
        raise ModelFormatError(f"{where} is {list(view.shape)}, expected no dimension of 0")
    in_storage = view.storage.n_elements * ITEM_BYTES.get(view.storage.dtype, 1)
    held = in_storage // ITEM_BYTES[view.dtype]
    last = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True))
    n_elements = 1
    for n in view.shape:
        n_elements *= n
    if last >= held or n_elements > held:
        raise ModelFormatError(
            f"{where} of shape {list(view.shape)} takes {n_elements} elements up to {last} "
            f"of storage {view.storage.key!r}, which has {held}"
        )

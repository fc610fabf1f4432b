"""safetensors (.safetensors, .st): the length of a header, the header as JSON, the tensors.

Every number of the header is checked against the file before it is trusted: tensors lie one behind
the other from the first byte after the header to the last of the file, none overlaps another.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

from rwkvcpp.checkpoints.container import Container
from rwkvcpp.checkpoints.data_file import DataFile, StoredTensor, checked_name
from rwkvcpp.checkpoints.tensor import Tensor, float_bits
from rwkvcpp.errors import ModelFormatError, UnsupportedError

TYPES = ("F32", "F16", "BF16")
LARGEST_HEADER = 100_000_000  # as the safetensors library has it
MAX_DIMENSIONS = 4


def read_safetensors(file: DataFile) -> Container:
    """The tensors of one file."""
    header, data_begin = _read_header(file)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ModelFormatError(f"{file.path}: __metadata__ is no dictionary of text")
    tensors: dict[str, Tensor] = {}
    extents: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        checked_name(file, name)
        type_name, shape, begin, end = _entry(file, name, entry)
        extents.append((begin, end, name))
        tensors[name] = StoredTensor(name, type_name, shape, file, data_begin + begin)
    _check_extents(file, sorted(extents), file.size - data_begin)
    return Container(file.path, "safetensors", tensors, metadata)


def _read_header(file: DataFile) -> tuple[dict[str, Any], int]:
    """(the header, the offset of the data behind it)"""
    if file.size < 8:
        raise ModelFormatError(f"{file.path}: has {file.size} bytes, expected a header")
    (length,) = struct.unpack("<Q", file.read(0, 8))
    if length > min(LARGEST_HEADER, file.size - 8):
        raise ModelFormatError(
            f"{file.path}: the header takes {length} bytes, expected at most "
            f"{min(LARGEST_HEADER, file.size - 8)}"
        )
    return json_object(file.read(8, length), f"{file.path}: the header"), 8 + length


def json_object(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object whose keys are all different."""
    try:
        found = json.loads(data.decode(), object_pairs_hook=_unique_pairs)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{where} is damaged: {error}"[:400]) from error
    if not isinstance(found, dict):
        raise ModelFormatError(f"{where} is no JSON object")
    return found


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:120]!r} is there twice")
    return found


def _entry(file: DataFile, name: str, entry: Any) -> tuple[str, list[int], int, int]:
    """(type, shape, begin, end) of a tensor; begin and end are counted from the header's end."""
    where = f"{file.path}: tensor {name}"
    if not isinstance(entry, dict):
        raise ModelFormatError(f"{where} is described by no JSON object")
    shape, offsets, type_name = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
    if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
        raise ModelFormatError(f"{where} has no shape or no data_offsets of integers")
    if not isinstance(type_name, str) or type_name not in TYPES:
        raise UnsupportedError(f"{where} is {str(type_name)[:40]}, expected {', '.join(TYPES)}")
    if not 1 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 1:
        raise ModelFormatError(
            f"{where} is {shape}, expected 1 to {MAX_DIMENSIONS} dimensions, none of them 0"
        )
    begin, end = offsets
    n_bytes = prod(shape) * float_bits(type_name).itemsize
    if end - begin != n_bytes:
        raise ModelFormatError(
            f"{where} is {type_name} {shape} and has {end - begin} bytes, expected {n_bytes}"
        )
    return type_name, shape, begin, end


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 2**63 for n in values)


def _check_extents(file: DataFile, extents: list[tuple[int, int, str]], n_bytes: int) -> None:
    position, before = 0, "the header"
    for begin, end, name in extents:
        if begin != position:
            raise ModelFormatError(
                f"{file.path}: tensor {name} begins at byte {begin} of the data, "
                f"expected {position}, where {before} ends"
            )
        position, before = end, name
    if position != n_bytes:
        raise ModelFormatError(
            f"{file.path}: has {n_bytes} bytes of data, expected {position}: "
            "the file may be cut short"
        )


# ---- shards --------------------------------------------------------------------------------------


def read_index(file: DataFile) -> tuple[Path, dict[str, str]]:
    """(the folder, the file of each tensor) of a `model.safetensors.index.json`."""
    if file.size > LARGEST_HEADER:
        raise ModelFormatError(f"{file.path}: has {file.size} bytes, expected an index of shards")
    found = json_object(file.read(0, file.size), str(file.path))
    weight_map = found.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFormatError(f"{file.path}: has no weight_map, expected an index of shards")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise ModelFormatError(
                f"{file.path}: tensor {name} lies in {str(shard)[:120]!r}, "
                "expected the name of a file in the same folder"
            )
    return file.path.parent, weight_map

"""llama.cpp's files of importances.

GGUF: general.type is "imatrix", a matrix has two F32 tensors, `<name>.in_sum2` [matrices, inputs]
with sums of squares and `<name>.counts` [matrices, 1] with the number of tokens. imatrix.datasets,
.chunk_count and .chunk_size say where they come from. Ours have `<name>.in_common` [directions,
inputs] besides, which llama.cpp passes over.

The older .dat, read only: int32 number of entries, and for each

    int32 length, name, int32 calls, int32 number of values, float32 values: mean square times calls

then, if anything, int32 chunks, int32 length, name of the text.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from rwkvcpp import _core
from rwkvcpp.errors import ModelFormatError
from rwkvcpp.imatrix import CHUNK, Floats, Imatrix, Importance
from rwkvcpp.whole_file import whole_file

SUMS, COUNTS, COMMON = ".in_sum2", ".counts", ".in_common"
MOST_ENTRIES = 1_000_000
LONGEST_NAME = 1024


def read_imatrix(path: Path) -> Imatrix:
    """The importances in the file at `path`; ModelFormatError unless all of them make sense."""
    with path.open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    imatrix = _read_gguf(path) if is_gguf else _Dat(path).read()
    if not imatrix.tensors:
        raise ModelFormatError(f"{path}: holds no importances, expected those of some tensor")
    for name, importance in imatrix.tensors.items():
        _check(f"{path}: tensor {name}", importance)
    return imatrix


def _check(where: str, importance: Importance) -> None:
    _check_sums(where, importance.sums, importance.counts)
    if importance.common is not None:
        _check_common(where, importance.common, importance.sums.shape)


def _check_common(where: str, common: Floats, sums_shape: tuple[int, ...]) -> None:
    if sums_shape[0] != 1 or common.ndim != 2 or common.shape[1] != sums_shape[1]:
        raise ModelFormatError(
            f"{where}{COMMON} is {list(common.shape)} beside sums of {list(sums_shape)}, expected "
            "directions of all inputs of a single matrix"
        )
    wrong = common[~np.isfinite(common)]
    if len(wrong):
        raise ModelFormatError(f"{where}{COMMON} has {wrong[0]}, expected finite numbers")


def _check_sums(where: str, sums: Floats, counts: Floats) -> None:
    if len(counts) not in (1, len(sums)):
        raise ModelFormatError(
            f"{where} has {len(counts)} counts for {len(sums)} matrices, expected as many"
        )
    for what, values in (("sums of squares", sums), ("counts", counts)):
        wrong = values[~((values >= 0) & (values < np.inf))]
        if len(wrong):
            raise ModelFormatError(
                f"{where} has {wrong[0]} among its {what}, expected numbers that are not negative"
            )


# ---- GGUF ------------------------------------------------------------------------------------


def write_imatrix(path: Path, imatrix: Imatrix) -> None:
    """The file that llama-quantize --imatrix reads, there in whole or not at all."""
    with whole_file(path) as unfinished:
        writer = _Writer(unfinished, arch="")
        try:
            writer.add_type(gguf.GGUFType.IMATRIX)
            writer.add_array(gguf.Keys.IMatrix.DATASETS, list(imatrix.datasets))
            writer.add_uint32(gguf.Keys.IMatrix.CHUNK_COUNT, imatrix.n_chunks)
            writer.add_uint32(gguf.Keys.IMatrix.CHUNK_SIZE, imatrix.chunk_size)
            for name, importance in sorted(imatrix.tensors.items()):
                writer.add_tensor(name + SUMS, importance.sums)
                writer.add_tensor(name + COUNTS, importance.counts[:, None])
                if importance.common is not None and importance.common.size:
                    writer.add_tensor(name + COMMON, importance.common)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


class _Writer(gguf.GGUFWriter):
    def add_architecture(self) -> None:
        """None: importances are no model."""


def _read_gguf(path: Path) -> Imatrix:
    arrays, metadata = _core.read_imatrix(str(path))
    names = {name.removesuffix(SUMS) for name in arrays if name.endswith(SUMS)}
    counted = {name.removesuffix(COUNTS) for name in arrays if name.endswith(COUNTS)}
    for name in sorted(names ^ counted):
        raise ModelFormatError(
            f"{path}: of {name}{SUMS} and {name}{COUNTS} only one is there, expected both"
        )
    return Imatrix(
        tensors={name: _importance(name, arrays) for name in sorted(names)},
        datasets=_datasets(path, metadata.get(gguf.Keys.IMatrix.DATASETS, [])),
        n_chunks=_number(path, metadata, gguf.Keys.IMatrix.CHUNK_COUNT, 0),
        chunk_size=_number(path, metadata, gguf.Keys.IMatrix.CHUNK_SIZE, CHUNK),
    )


def _importance(name: str, arrays: Mapping[str, Floats]) -> Importance:
    sums, counts = arrays[name + SUMS], arrays[name + COUNTS]
    common = arrays.get(name + COMMON)
    return Importance(sums.reshape(-1, sums.shape[-1]), counts.reshape(-1), common)


def _datasets(path: Path, found: object) -> tuple[str, ...]:
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return tuple(found)
    raise ModelFormatError(f"{path}: {gguf.Keys.IMatrix.DATASETS} is {found!r}, expected names")


def _number(path: Path, metadata: dict[str, Any], key: str, default: int) -> int:
    found = metadata.get(key, default)
    if isinstance(found, int) and found >= 0:
        return found
    raise ModelFormatError(f"{path}: {key} is {found!r}, expected a number")


# ---- .dat ------------------------------------------------------------------------------------


class _Dat:
    """Reads a .dat from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self._path, self._bytes, self._at = path, path.read_bytes(), 0

    def read(self) -> Imatrix:
        tensors: dict[str, Importance] = {}
        for _ in range(self._int("the number of entries", 1, MOST_ENTRIES)):
            name, importance = self._entry()
            if name in tensors:
                raise ModelFormatError(f"{self._path}: tensor {name} is there twice, expected once")
            tensors[name] = importance
        if self._at == len(self._bytes):  # the oldest say no more
            return Imatrix(tensors)
        n_chunks = self._int("the number of chunks", 0)
        return Imatrix(tensors, (self._text("the name of the text"),), n_chunks)

    def _entry(self) -> tuple[str, Importance]:
        name = self._text("the name of a tensor")
        calls = self._int(f"the number of calls of {name}", 0)
        n = self._int(f"the number of values of {name}", 1)
        sums = np.frombuffer(self._take(4 * n, f"the values of {name}"), "<f4").reshape(1, n)
        return name, Importance(sums, np.array([calls], np.float32))

    def _int(self, what: str, least: int, most: int = 2**31 - 1) -> int:
        (found,) = struct.unpack("<i", self._take(4, what))
        if least <= found <= most:
            return int(found)
        raise ModelFormatError(
            f"{self._path}: {what} is {found} at byte {self._at - 4}, expected {least} to {most}"
        )

    def _text(self, what: str) -> str:
        data = self._take(self._int(f"the length of {what}", 0, LONGEST_NAME), what)
        return data.decode("utf-8", "replace")

    def _take(self, n: int, what: str) -> bytes:
        data = self._bytes[self._at : self._at + n]
        if len(data) < n:
            raise ModelFormatError(
                f"{self._path}: ends in {what}, with {len(data)} bytes from byte {self._at} on, "
                f"expected {n}"
            )
        self._at += n
        return data

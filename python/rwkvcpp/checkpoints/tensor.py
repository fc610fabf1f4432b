"""Tensor: one array of a checkpoint, read piece by piece from wherever it is.

Nothing is read before it is asked for, and nothing is kept. The primitive is `bits`: the stored
numbers as they are, uint32 for F32, uint16 for F16 and BF16, and for block types rows of bytes.
Views (a transposition, a slice, a stack) are tensors too, so bfloat16 stays bfloat16 through them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rwkvcpp import _core

Bits = NDArray[Any]

FLOAT_TYPES = ("F32", "F16", "BF16")
_BITS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<u4"),
    "F16": np.dtype("<u2"),
    "BF16": np.dtype("<u2"),
}

PIECE_BYTES = 16 * 2**20  # of stored bytes that a walk over a large tensor holds at a time


class Extent(NamedTuple):
    """Where a tensor lies in one piece, row by row, in a file."""

    path: Path
    offset: int


class Tensor(ABC):
    """A named array of some type and shape. Subclasses say where its numbers come from."""

    name: str
    type: str  # "F32", "F16", "BF16", or a block type such as "Q4_0"
    shape: tuple[int, ...]  # the last dimension is contiguous

    @abstractmethod
    def bits(self, begin: int, end: int) -> Bits:
        """Entries [begin, end) of the first dimension as they are stored.

        Floats: [end - begin, *shape[1:]] of unsigned integers. Blocks: the last dimension is the
        bytes of a row.
        """

    @property
    def extent(self) -> Extent | None:
        """Where the bytes lie in a file, when they lie there just as `raw_rows` gives them."""
        return None

    def raw_rows(self, begin: int, end: int) -> bytes:
        """The bytes of entries [begin, end) of the first dimension, in this tensor's type."""
        return self.bits(begin, end).tobytes()

    def read_rows(self, begin: int, end: int) -> NDArray[np.float32]:
        """Entries [begin, end) of the first dimension as float32."""
        return decode(self.type, self.bits(begin, end))

    def read(self) -> NDArray[np.float32]:
        """The whole tensor as float32."""
        return self.read_rows(0, self.shape[0])

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Ranges of the first dimension that hold some 16 MiB each, in order."""
        rows = max(1, PIECE_BYTES // max(1, row_bytes(self.type, self.shape)))
        for begin in range(0, self.shape[0], rows):
            yield begin, min(begin + rows, self.shape[0])

    @property
    def n_elements(self) -> int:
        return prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Of `raw_rows(0, shape[0])`."""
        return row_bytes(self.type, self.shape) * self.shape[0]

    @property
    def is_float(self) -> bool:
        return self.type in FLOAT_TYPES

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.type} {list(self.shape)}>"


# ---- types ---------------------------------------------------------------------------------------


@cache
def block_size(type_name: str) -> tuple[int, int]:
    """(weights, bytes) of a block; one weight for floats."""
    for row in _core.weight_formats():
        if row["name"] == type_name:
            return row["block_inputs"], row["block_bytes"]
    raise ValueError(f"weight type {type_name!r} is unknown")


def row_bytes(type_name: str, shape: Sequence[int]) -> int:
    """Bytes of one entry of the first dimension."""
    if type_name in _BITS:
        return prod(shape[1:]) * _BITS[type_name].itemsize
    inputs, n_bytes = block_size(type_name)
    return prod(shape[1:]) // inputs * n_bytes


def float_bits(type_name: str) -> np.dtype[Any]:
    """The unsigned integers that hold numbers of a float type."""
    return _BITS[type_name]


def decode(type_name: str, bits: Bits) -> NDArray[np.float32]:
    """Stored numbers as float32."""
    if type_name == "F32":
        return np.ascontiguousarray(bits).view(np.float32)
    if type_name == "F16":
        return np.ascontiguousarray(bits).view(np.float16).astype(np.float32)
    if type_name == "BF16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    inputs, n_bytes = block_size(type_name)
    n_inputs = bits.shape[-1] // n_bytes * inputs
    return _core.dequantize(type_name, bits.tobytes(), n_inputs).reshape(*bits.shape[:-1], n_inputs)


def encode(type_name: str, values: NDArray[np.float32]) -> Bits:
    """float32 as numbers of a float type, rounded to nearest even."""
    if type_name == "F32":
        return np.ascontiguousarray(values, np.float32).view(np.uint32)
    if type_name == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    return _bf16(values)


def _bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = ((bits + half) >> np.uint32(16)).astype(np.uint16)
    quiet_nan = ((bits >> np.uint32(16)) | np.uint32(0x40)).astype(np.uint16)
    return np.asarray(np.where(np.isnan(values), quiet_nan, rounded), np.uint16)


# ---- views ---------------------------------------------------------------------------------------


class Renamed(Tensor):
    """The same tensor under another name, perhaps with other dimensions around the same rows."""

    def __init__(self, name: str, base: Tensor, shape: Sequence[int] | None = None) -> None:
        self.name, self.type, self.base = name, base.type, base
        self.shape = base.shape if shape is None else tuple(shape)
        if prod(self.shape) != base.n_elements:
            raise ValueError(f"{base!r} cannot have the shape {list(self.shape)}")

    @property
    def extent(self) -> Extent | None:
        return self.base.extent

    def bits(self, begin: int, end: int) -> Bits:
        if self.shape == self.base.shape:
            return self.base.bits(begin, end)
        whole = self.base.bits(0, self.base.shape[0])  # only vectors and small matrices change
        return whole.reshape(*self.shape[:-1], -1)[begin:end]


class Transposed(Tensor):
    """A tensor with its last two dimensions swapped. Blocks cannot be: they become F32."""

    def __init__(self, name: str, base: Tensor) -> None:
        self.name, self.base = name, base
        self.type = base.type if base.is_float else "F32"
        self.shape = (*base.shape[:-2], base.shape[-1], base.shape[-2])

    def bits(self, begin: int, end: int) -> Bits:
        if len(self.shape) > 2:
            return np.ascontiguousarray(self._stored(begin, end).swapaxes(-1, -2))
        columns = [self._stored(*piece)[:, begin:end] for piece in self.base.pieces()]
        return np.ascontiguousarray(np.concatenate(columns).T)

    def _stored(self, begin: int, end: int) -> Bits:
        if self.base.is_float:
            return self.base.bits(begin, end)
        return encode("F32", self.base.read_rows(begin, end))


class Slice(Tensor):
    """One entry of the first dimension, which is gone then."""

    def __init__(self, name: str, base: Tensor, index: int) -> None:
        self.name, self.type, self.base, self.index = name, base.type, base, index
        self.shape = base.shape[1:]

    @property
    def extent(self) -> Extent | None:
        whole = self.base.extent
        if whole is None:
            return None
        return Extent(whole.path, whole.offset + self.index * row_bytes(self.type, self.base.shape))

    def bits(self, begin: int, end: int) -> Bits:
        entry: Bits = self.base.bits(self.index, self.index + 1)[0]
        return entry[begin:end]


class Stacked(Tensor):
    """Tensors of one type and shape under a new first dimension."""

    def __init__(self, name: str, parts: Sequence[Tensor]) -> None:
        first = parts[0]
        same = all((part.type, part.shape) == (first.type, first.shape) for part in parts)
        self.name, self.parts = name, parts
        self.type = first.type if same else "F32"
        self.shape = (len(parts), *first.shape)

    def bits(self, begin: int, end: int) -> Bits:
        parts = self.parts[begin:end]
        if self.type == parts[0].type:
            stacked: Bits = np.stack([part.bits(0, part.shape[0]) for part in parts])
            return stacked
        return encode("F32", np.stack([part.read() for part in parts]))


class Computed(Tensor):
    """Numbers that a function makes: `rows(begin, end)` gives float32, rounded to `type`."""

    def __init__(
        self,
        name: str,
        type_name: str,
        shape: Sequence[int],
        rows: Callable[[int, int], NDArray[np.float32]],
    ) -> None:
        self.name, self.type, self.shape, self._rows = name, type_name, tuple(shape), rows

    def bits(self, begin: int, end: int) -> Bits:
        return encode(self.type, self._rows(begin, end))

    def read_rows(self, begin: int, end: int) -> NDArray[np.float32]:
        """Entries [begin, end) of the first dimension as float32, before they are rounded."""
        return self._rows(begin, end)


def transposed(name: str, base: Tensor) -> Tensor:
    """`base` with its last two dimensions swapped; twice is once there and back."""
    if isinstance(base, Renamed) and base.shape == base.base.shape:
        return transposed(name, base.base)
    if isinstance(base, Transposed):
        return Renamed(name, base.base)
    return Transposed(name, base)


def is_block_type(type_name: str) -> bool:
    return type_name not in FLOAT_TYPES


__all__ = [
    "FLOAT_TYPES",
    "PIECE_BYTES",
    "Bits",
    "Computed",
    "Extent",
    "Renamed",
    "Slice",
    "Stacked",
    "Tensor",
    "Transposed",
    "block_size",
    "decode",
    "encode",
    "float_bits",
    "is_block_type",
    "row_bytes",
    "transposed",
]

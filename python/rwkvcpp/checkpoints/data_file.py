"""A file opened once and read in pieces, and the tensors that lie in it.

Reads are pread(2) into memory of their own: no page of the file is mapped, so a file of any size is
walked in little memory, and one that shrinks meanwhile is an error and not a signal.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided

from rwkvcpp.checkpoints.tensor import (
    PIECE_BYTES,
    Bits,
    Extent,
    Tensor,
    block_size,
    float_bits,
    is_block_type,
    row_bytes,
)
from rwkvcpp.errors import ModelFormatError

LONGEST_NAME = 255


class DataFile:
    """A regular file, open until nobody refers to it any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # O_NONBLOCK: opening a pipe that nobody writes to must not hang.
        descriptor = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        self.size = status.st_size

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Bytes [offset, offset + n_bytes), all of them."""
        parts: list[bytes] = []
        while n_bytes > 0:
            part = os.pread(self._descriptor, n_bytes, offset)
            if not part:
                raise ModelFormatError(
                    f"{self.path}: ends at byte {os.fstat(self._descriptor).st_size}, "
                    f"expected {n_bytes} more bytes at {offset}"
                )
            parts.append(part)
            offset += len(part)
            n_bytes -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def head(self, n_bytes: int) -> bytes:
        """The first bytes, fewer when the file is shorter."""
        return self.read(0, min(n_bytes, self.size))


class StoredTensor(Tensor):
    """A tensor row by row at an offset of a file."""

    def __init__(
        self, name: str, type_name: str, shape: Sequence[int], file: DataFile, offset: int
    ) -> None:
        self.name, self.type, self.shape = name, type_name, tuple(shape)
        self._file, self._offset = file, offset

    @property
    def extent(self) -> Extent:
        return Extent(self._file.path, self._offset)

    def bits(self, begin: int, end: int) -> Bits:
        n_bytes = row_bytes(self.type, self.shape)
        data = self._file.read(self._offset + begin * n_bytes, (end - begin) * n_bytes)
        if is_block_type(self.type):
            inputs, block_bytes = block_size(self.type)
            width = self.shape[-1] // inputs * block_bytes
            return np.frombuffer(data, np.uint8).reshape(end - begin, *self.shape[1:-1], width)
        return np.frombuffer(data, float_bits(self.type)).reshape(end - begin, *self.shape[1:])


class StridedTensor(Tensor):
    """Floats that lie in a file in another order: a transposed or cut out view of a storage."""

    def __init__(
        self,
        name: str,
        type_name: str,
        shape: Sequence[int],
        strides: Sequence[int],  # in elements, not negative
        file: DataFile,
        offset: int,
    ) -> None:
        self.name, self.type, self.shape = name, type_name, tuple(shape)
        self._strides, self._file, self._offset = tuple(strides), file, offset

    def bits(self, begin: int, end: int) -> Bits:
        out = np.empty((end - begin, *self.shape[1:]), float_bits(self.type))
        self._gather(self._offset + begin * self._strides[0] * out.itemsize, out)
        return out

    def _gather(self, offset: int, out: Bits) -> None:
        """Fills `out` from the part of the file that it spans, halved until that is small."""
        reach = [(n - 1) * stride for n, stride in zip(out.shape, self._strides, strict=True)]
        n_bytes = (1 + sum(reach)) * out.itemsize
        if n_bytes <= PIECE_BYTES:
            stored = np.frombuffer(self._file.read(offset, n_bytes), out.dtype)
            steps = [stride * out.itemsize for stride in self._strides]
            out[...] = as_strided(stored, out.shape, steps, writeable=False)
            return
        axis = int(np.argmax(reach))
        half = out.shape[axis] // 2
        first, second = np.split(out, [half], axis=axis)
        self._gather(offset, first)
        self._gather(offset + half * self._strides[axis] * out.itemsize, second)


def checked_name(file: DataFile, name: str) -> str:
    """The name of a tensor, which may be anything that can be shown."""
    if 0 < len(name) <= LONGEST_NAME and name.isprintable():
        return name
    raise ModelFormatError(
        f"{file.path}: a tensor is called {name[:60]!a}, "
        f"expected 1 to {LONGEST_NAME} printable characters"
    )


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """In elements, row by row."""
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def is_contiguous(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether elements lie row by row; what a dimension of 1 says of its stride is nothing."""
    expected = contiguous_strides(shape)
    return all(n == 1 or s == e for n, s, e in zip(shape, strides, expected, strict=True))

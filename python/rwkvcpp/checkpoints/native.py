"""GGUF and rwkv.cpp files as tensors: the native core reads them, here they get official shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rwkvcpp import _core
from rwkvcpp.checkpoints.container import Container
from rwkvcpp.checkpoints.data_file import DataFile
from rwkvcpp.checkpoints.tensor import (
    Bits,
    Tensor,
    block_size,
    float_bits,
    is_block_type,
)

NATIVE_MAGICS = (b"GGUF", b"fmgg")


def is_native(path: Path) -> bool:
    """Whether the core reads this file by itself."""
    return path.is_file() and DataFile(path).head(4) in NATIVE_MAGICS


class NativeTensor(Tensor):
    """A tensor of a file that the core has open, in the core's shape."""

    def __init__(
        self, name: str, type_name: str, shape: Sequence[int], file: _core.ModelFile
    ) -> None:
        self.name, self.type, self.shape, self._file = name, type_name, tuple(shape), file

    def bits(self, begin: int, end: int) -> Bits:
        data = self._file.read(self.name, begin, end - begin)
        if is_block_type(self.type):
            inputs, n_bytes = block_size(self.type)
            width = self.shape[-1] // inputs * n_bytes
            return np.frombuffer(data, np.uint8).reshape(end - begin, *self.shape[1:-1], width)
        return np.frombuffer(data, float_bits(self.type)).reshape(end - begin, *self.shape[1:])


def read_native(file: DataFile) -> Container:
    """A GGUF or rwkv.cpp file."""
    native = _core.ModelFile(str(file.path))
    tensors: dict[str, Tensor] = {
        name: NativeTensor(name, type_name, shape, native)
        for name, type_name, shape in native.tensors
    }
    metadata: dict[str, Any] = native.metadata
    return Container(
        file.path,
        native.container,
        tensors,
        metadata,
        head_size=native.head_size,
        decay_applied=native.decay_applied,
        rescale_every=int(metadata.get(f"{native.architecture}.rescale_every_n_layers", 0)),
    )

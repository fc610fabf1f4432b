"""Model files back to float64 checkpoints, every block dequantized by the gguf package.

What the engine computes on a file is compared with what the NumPy reference computes on these.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.reference.layouts import from_bin, from_gguf
from tests.reference.rwkv_numpy import Array
from tests.reference.writers import BIN_CODES, BIN_MAGIC

BIN_TYPES = {code: gguf.GGMLQuantizationType[name] for name, code in BIN_CODES.items()}


@dataclass(frozen=True)
class ModelFile:
    """A file's weights as the reference takes them, and the rescaling they were written for."""

    weights: dict[str, Array]
    rescale_every: int = 0


def read_model(path: Path) -> ModelFile:
    """A GGUF or rwkv.cpp file, recognised by its first bytes."""
    with path.open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    return read_gguf(path) if is_gguf else read_bin(path)


def read_bin(path: Path) -> ModelFile:
    with path.open("rb") as file:
        magic, version, _, _, _, _ = struct.unpack("<6i", file.read(24))
        if magic != BIN_MAGIC or version not in (100, 101):
            raise ValueError(f"{path}: not an rwkv.cpp file (magic {magic:#x}, version {version})")
        return ModelFile(from_bin(dict(_bin_tensors(file))))


def _bin_tensors(file: BinaryIO) -> Iterator[tuple[str, Array]]:
    while header := file.read(12):
        n_dims, key_bytes, code = struct.unpack("<3i", header)
        shape = struct.unpack(f"<{n_dims}i", file.read(4 * n_dims))[::-1]
        name = file.read(key_bytes).decode()
        block, block_bytes = gguf.GGML_QUANT_SIZES[BIN_TYPES[code]]
        data = file.read(math.prod(shape) // block * block_bytes)
        yield name, dequantize(np.frombuffer(data, np.uint8), BIN_TYPES[code], shape)


def dequantize(
    data: NDArray[np.uint8], kind: gguf.GGMLQuantizationType, shape: tuple[int, ...]
) -> Array:
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    rows = data.reshape(-1, shape[-1] // block * block_bytes)
    return gguf.quants.dequantize(rows, kind).astype(np.float64).reshape(shape)


def read_gguf(path: Path) -> ModelFile:
    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    head_size = reader.fields[f"{architecture}.wkv.head_size"].contents()
    rescale = reader.fields.get(f"{architecture}.rescale_every_n_layers")
    tensors = {
        t.name: dequantize(
            np.ascontiguousarray(t.data).view(np.uint8).reshape(-1),
            t.tensor_type,
            tuple(int(n) for n in reversed(t.shape)),
        )
        for t in reader.tensors
    }
    weights = from_gguf(architecture.removeprefix("rwkv"), tensors, head_size)
    return ModelFile(weights, rescale.contents() if rescale else 0)

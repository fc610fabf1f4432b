"""The small models that the engine is compared on: every version, container, type and two sizes.

A case writes its file and says what the float64 reference computes on that file.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.reference import rwkv_numpy
from tests.reference.checkpoints import VERSIONS, Checkpoint, Sizes
from tests.reference.layouts import Tensor
from tests.reference.readers import read_model
from tests.reference.writers import (
    BIN_CODES,
    FLOAT_TYPES,
    gguf_quantize,
    write_bin,
    write_gguf,
)

QUANTIZED_BY_GGUF = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
# Blocks of 256 weights, but for those of IQ4_NL.
K_TYPES = ("Q6_K", "Q2_K", "Q3_K", "Q4_K", "Q5_K")
IQ_TYPES = ("IQ4_NL", "IQ4_XS", "IQ3_XXS", "IQ3_S")
BLOCK_TYPES = QUANTIZED_BY_GGUF + K_TYPES + IQ_TYPES
GGUF_VERSIONS = ("6", "7")

# No multiple of 16 outputs in the head; F is no multiple of C in one and is 3 C in the other.
NARROW = Sizes(n_embd=128, head_size=64, n_ffn=448)
WIDE = Sizes(n_embd=256, head_size=32, n_ffn=768)
# For blocks of 256: here every matrix but the low-rank ones has such rows.
NARROW_256 = Sizes(n_embd=256, head_size=64, n_ffn=512)
WIDE_256 = Sizes(n_embd=512, head_size=32, n_ffn=768)

TOKENS = [0, 132, 7, 7, 64, 3, 131, 17, 90, 45, 2, 111, 56, 78, 23, 5, 99, 1, 40, 120]


def native_quantize(type_name: str, rows: Tensor) -> bytes:
    """The engine's own quantizer: fast, and it knows K and IQ types."""
    from rwkvcpp import _core

    return _core.quantize(type_name, rows.reshape(-1, rows.shape[-1]))


def quantize(type_name: str, rows: Tensor) -> bytes:
    """With the gguf package; with the engine where that is slow, or lacks the type."""
    is_native = type_name in K_TYPES + IQ_TYPES or (
        type_name in QUANTIZED_BY_GGUF and rows.size > 2**20
    )
    return (native_quantize if is_native else gguf_quantize)(type_name, rows)


@dataclass(frozen=True)
class Case:
    """One model file. `options` are those of write_bin or write_gguf."""

    version: str
    container: str  # "bin" or "gguf"
    weight_type: str
    sizes: Sizes = NARROW
    options: tuple[tuple[str, Any], ...] = ()
    seed: int = 1

    @property
    def name(self) -> str:
        """For test ids and file names: "rwkv7-gguf-Q4_0-128x64"."""
        size = f"{self.sizes.n_embd}x{self.sizes.head_size}"
        parts = [f"rwkv{self.version}", self.container, self.weight_type, size]
        if self.sizes not in (NARROW, WIDE, NARROW_256, WIDE_256):
            parts.append(f"{zlib.crc32(repr(self.sizes).encode()):08x}")
        parts += [f"{key}={value}" for key, value in self.options]
        return "-".join(parts + ([f"seed{self.seed}"] if self.seed != 1 else []))

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.version, self.sizes, seed=self.seed)

    def write(self, folder: Path) -> Path:
        """The file, written if it is not there yet."""
        path = folder / f"{self.name}.{self.container}"
        if not path.exists():
            write = {"bin": write_bin, "gguf": write_gguf}[self.container]
            options = {"quantize": quantize, **dict(self.options)}
            write(path, self.checkpoint(), self.weight_type, **options)
        return path


@dataclass(frozen=True)
class Expected:
    """What the reference computes on a file's dequantized weights, over TOKENS."""

    logits: rwkv_numpy.Array  # [tokens, V]
    state: rwkv_numpy.State


def expected(path: Path, tokens: list[int] = TOKENS) -> Expected:
    model = read_model(path)
    return Expected(*rwkv_numpy.forward(model.weights, tokens, rescale_every=model.rescale_every))


def _both_sizes(weight_type: str) -> tuple[Sizes, Sizes]:
    return (NARROW_256, WIDE_256) if weight_type in K_TYPES + IQ_TYPES else (NARROW, WIDE)


def _containers(version: str, weight_type: str) -> list[str]:
    """rwkv.cpp's format has no BF16 and no IQ types; llama.cpp knows no RWKV before 6."""
    bin_holds_it = ["bin"] if weight_type in BIN_CODES else []
    return bin_holds_it + (["gguf"] if version in GGUF_VERSIONS else [])


MATRIX_OF_CASES = [
    Case(version, container, weight_type, sizes)
    for version in VERSIONS
    for weight_type in FLOAT_TYPES + BLOCK_TYPES
    for container in _containers(version, weight_type)
    for sizes in _both_sizes(weight_type)
]
# What only some files have: both generations of v6, halved residuals, heads and low-rank matrices
# in every type, an FP16 file quantized afterwards.
SPECIAL_CASES = [
    Case("6", "gguf", "F16", NARROW, (("fused_lerps", False),)),
    Case("6", "gguf", "Q8_0", NARROW, (("rescale_every", 2),)),
    Case("6", "gguf", "Q5_1", NARROW, (("fused_lerps", False), ("rescale_every", 1))),
    Case("7", "gguf", "Q4_0", NARROW_256, (("head_type", "Q6_K"),)),
    Case("6", "gguf", "Q5_0", NARROW_256, (("head_type", "Q6_K"),)),
    Case("7", "gguf", "Q4_K", NARROW_256, (("head_type", "Q6_K"),)),
    Case("7", "gguf", "IQ3_XXS", NARROW_256, (("head_type", "Q5_K"),)),
    Case("4", "bin", "Q5_1", NARROW, (("base", "F16"),)),
    Case("7", "bin", "Q4_1", NARROW, (("base", "F16"),)),
    Case("5.2", "bin", "Q4_0", NARROW, (("every_matrix", True),)),
    Case("4", "bin", "F16", NARROW, (("file_version", 100),)),
    *(
        Case(version, container, weight_type, WIDE, (("every_matrix", True),))
        for version in GGUF_VERSIONS
        for container in ("bin", "gguf")
        for weight_type in ("Q4_1", "Q5_0", "Q8_0")
    ),
    Case("7", "gguf", "BF16", NARROW, (("every_matrix", True),)),
]
ALL_CASES = MATRIX_OF_CASES + SPECIAL_CASES

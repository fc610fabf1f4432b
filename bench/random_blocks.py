"""Random weights written straight in a weight format, as fast as random bytes can be made.

Codes are uniform; scales make the weights' standard deviation what was asked for, differ from block
to block, and have random signs: codes from -8 to 7 have a mean, which would otherwise add up over
the all-positive inputs of `ffn.value`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod, sqrt
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Fill = Callable[[Bytes, float, np.random.Generator], None]

PIECE = 2**22  # weights made at once: memory stays small


def uniform_std(n_codes: int) -> float:
    """The standard deviation of n_codes neighbouring integers, all equally likely."""
    return sqrt((n_codes**2 - 1) / 12)


@dataclass(frozen=True)
class Blocks:
    """Where a block keeps its fp16 scale, and how codes and scale make weights."""

    scale_at: int
    code_std: float
    minimum_at: int | None = None
    middle_code: float = 0.0  # a minimum of -scale * middle_code centres the weights

    def __call__(self, out: Bytes, std: float, rng: np.random.Generator) -> None:
        """Fill out[n_blocks, block_bytes]."""
        out[:] = rng.integers(0, 256, out.shape, np.uint8)
        sizes = rng.uniform(0.75, 1.25, len(out)) * rng.choice((-1.0, 1.0), len(out))
        scales = sizes * (std / self.code_std)
        _put_fp16(out, self.scale_at, scales)
        if self.minimum_at is not None:
            _put_fp16(out, self.minimum_at, -self.middle_code * scales)


def _put_fp16(out: Bytes, at: int, values: NDArray[np.float64]) -> None:
    out[:, at : at + 2] = values.astype("<f2").view(np.uint8).reshape(-1, 2)


@dataclass(frozen=True)
class MeasuredBlocks:
    """Blocks whose codes meet scales inside the block, or a table: how far weights are spread under
    a scale of 1 is measured."""

    type_name: str
    scale_at: int = 0
    minimum_at: int | None = None  # of what is taken off, times codes like those of scales
    middle_code: float = 0.0

    def __call__(self, out: Bytes, std: float, rng: np.random.Generator) -> None:
        self._blocks(_std_of_scale_one(self))(out, std, rng)

    def _blocks(self, code_std: float) -> Blocks:
        return Blocks(self.scale_at, code_std, self.minimum_at, -self.middle_code)


@cache
def _std_of_scale_one(blocks: MeasuredBlocks) -> float:
    kind = GGMLQuantizationType[blocks.type_name]
    out = np.random.default_rng(1).integers(0, 256, (4096, GGML_QUANT_SIZES[kind][1]), np.uint8)
    _put_fp16(out, blocks.scale_at, np.ones(len(out)))
    if blocks.minimum_at is not None:
        _put_fp16(out, blocks.minimum_at, np.full(len(out), blocks.middle_code))
    return float(quants.dequantize(out, kind).std())


def _fill_q8_0(out: Bytes, std: float, rng: np.random.Generator) -> None:
    Blocks(scale_at=0, code_std=uniform_std(255))(out, std, rng)
    codes = out[:, 2:].view(np.int8)
    np.maximum(codes, -127, out=codes)  # no quantizer makes -128


def _uniform(n: int, std: float, rng: np.random.Generator) -> NDArray[np.float32]:
    return (rng.random(n, np.float32) - np.float32(0.5)) * np.float32(sqrt(12) * std)


def _fill_f32(out: Bytes, std: float, rng: np.random.Generator) -> None:
    """Like official checkpoints, which were trained in bf16: the low half of each float is zero."""
    out[:] = _uniform(len(out), std, rng).view(np.uint8).reshape(out.shape)
    out[:, :2] = 0


def _fill_f16(out: Bytes, std: float, rng: np.random.Generator) -> None:
    out[:] = _uniform(len(out), std, rng).astype("<f2").view(np.uint8).reshape(out.shape)


def _fill_bf16(out: Bytes, std: float, rng: np.random.Generator) -> None:
    out[:] = _uniform(len(out), std, rng).view(np.uint8).reshape(-1, 4)[:, 2:]


FILL: dict[str, Fill] = {
    "F32": _fill_f32,
    "F16": _fill_f16,
    "BF16": _fill_bf16,
    "Q4_0": Blocks(scale_at=0, code_std=uniform_std(16)),
    "Q4_1": Blocks(scale_at=0, code_std=uniform_std(16), minimum_at=2, middle_code=7.5),
    "Q5_0": Blocks(scale_at=0, code_std=uniform_std(32)),
    "Q5_1": Blocks(scale_at=0, code_std=uniform_std(32), minimum_at=2, middle_code=15.5),
    "Q8_0": _fill_q8_0,
    # Its 16 int8 sub-scales are random bytes like the codes.
    "Q6_K": Blocks(scale_at=208, code_std=uniform_std(64) * uniform_std(256)),
    "Q2_K": MeasuredBlocks("Q2_K", scale_at=80, minimum_at=82, middle_code=1.5),
    "Q3_K": MeasuredBlocks("Q3_K", scale_at=108),
    "Q4_K": MeasuredBlocks("Q4_K", minimum_at=2, middle_code=7.5),
    "Q5_K": MeasuredBlocks("Q5_K", minimum_at=2, middle_code=15.5),
    "IQ4_NL": MeasuredBlocks("IQ4_NL"),
    "IQ4_XS": MeasuredBlocks("IQ4_XS"),
    "IQ3_XXS": MeasuredBlocks("IQ3_XXS"),
    "IQ3_S": MeasuredBlocks("IQ3_S"),
}


def n_bytes(type_name: str, shape: tuple[int, ...]) -> int:
    """Of a tensor whose rows are whole blocks."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]
    return prod(shape) // block * size


def random_tensor(
    type_name: str, shape: tuple[int, ...], std: float, rng: np.random.Generator
) -> NDArray[Any]:
    """The bytes of a tensor, [n_blocks, block_bytes]; its weights have mean 0 and this std."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]
    out = np.empty((prod(shape) // block, size), np.uint8)
    for start in range(0, len(out), PIECE // block):
        FILL[type_name](out[start : start + PIECE // block], std, rng)
    return out

"""The goldens that make_block_goldens.py stored: blocks as llama.cpp's quantizer makes them.

A golden is a file of blocks by format name; with importances, or without. The weights are not
stored: they are made again from their seed, and a CRC says that they are the same.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
N_ROWS, N_INPUTS = 16, 512
SEED = 2027

# llama.cpp's numbers of the formats whose rounding is compared.
GGML_TYPES = {
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 6,
    "Q5_1": 7,
    "Q8_0": 8,
    "Q2_K": 10,
    "Q3_K": 11,
    "Q4_K": 12,
    "Q5_K": 13,
    "Q6_K": 14,
    "IQ3_XXS": 18,
    "IQ4_NL": 20,
    "IQ3_S": 21,
    "IQ4_XS": 23,
}

Floats = NDArray[np.float32]


def weights() -> Floats:
    """Ordinary rows, and some that are zero, tiny, large, one-sided, full of ties or of gaps."""
    rng = np.random.default_rng(SEED)
    w = rng.standard_normal((N_ROWS, N_INPUTS)).astype(np.float32)
    w[1] = 0
    w[2] *= 1e-6
    w[3] *= 3e3
    w[4] = np.abs(w[4])
    w[5] = -np.abs(w[5])
    w[6] = np.round(w[6] * 4) / 4
    w[7] = rng.standard_t(2, N_INPUTS)  # few large ones, as trained matrices have
    w[8] *= 1e-20
    w[9, ::2] = 0
    w[10] = 0.5
    w[11, 1:256] = 0
    w[12, 64:96] = 0
    w[13, 16:32] = 0
    return w


def importances() -> Floats:
    """Of every input, some of them hundreds of times as large as others."""
    return np.random.default_rng(SEED + 1).gamma(0.5, size=N_INPUTS).astype(np.float32) + 1e-4


def crc() -> int:
    return zlib.crc32(importances().tobytes(), zlib.crc32(weights().tobytes()))


def path(weighted: bool) -> Path:
    return FOLDER / f"golden-blocks{'-weighted' if weighted else ''}.npz"


def load(name: str, weighted: bool) -> bytes:
    """The blocks; ValueError when the weights are no longer those that they were made from."""
    with np.load(path(weighted)) as stored:
        found, expected = crc(), int(stored["weights_crc"])
        if found != expected:
            raise ValueError(
                f"{path(weighted).name} belongs to weights of CRC {expected:#010x}, "
                f"the generator now makes {found:#010x}: run make_block_goldens.py again"
            )
        return bytes(stored[name].tobytes())

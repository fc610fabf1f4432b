"""Makes the goldens of blocks, with the quantizer of a llama.cpp library.

pip install llama-cpp-python==0.3.36
python -m tests.data.make_block_goldens path/to/libggml-base.so
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from tests.data import block_goldens
from tests.data.block_goldens import Floats

FloatPointer = ctypes.POINTER(ctypes.c_float)


class Ggml:
    """ggml_quantize_chunk, as llama-quantize calls it."""

    def __init__(self, library: Path) -> None:
        self._quantize = ctypes.CDLL(str(library)).ggml_quantize_chunk
        self._quantize.restype = ctypes.c_size_t
        self._quantize.argtypes = [
            ctypes.c_int,
            FloatPointer,
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_int64,
            FloatPointer,
        ]

    def quantize(self, name: str, weights: Floats, importances: Floats | None) -> NDArray[np.uint8]:
        n_rows, n_inputs = weights.shape
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        out = np.zeros((n_rows, n_inputs // block * size), np.uint8)
        weighted = None if importances is None else importances.ctypes.data_as(FloatPointer)
        written = self._quantize(
            block_goldens.GGML_TYPES[name],
            weights.ctypes.data_as(FloatPointer),
            out.ctypes.data_as(ctypes.c_void_p),
            0,
            n_rows,
            n_inputs,
            weighted,
        )
        if written != out.size:
            raise RuntimeError(f"{name}: {written} bytes were written, expected {out.size}")
        return out


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    ggml = Ggml(Path(sys.argv[1]))
    weights = np.ascontiguousarray(block_goldens.weights())
    for weighted in (False, True):
        importances = block_goldens.importances() if weighted else None
        blocks = {
            name: ggml.quantize(name, weights, importances) for name in block_goldens.GGML_TYPES
        }
        np.savez_compressed(
            block_goldens.path(weighted), weights_crc=np.int64(block_goldens.crc()), **blocks
        )


if __name__ == "__main__":
    main()

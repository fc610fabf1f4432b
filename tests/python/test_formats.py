"""Weight formats against the gguf package: the same bytes from the same floats, and back."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from rwkvcpp import _core

FORMATS = {f["name"]: f for f in _core.weight_formats()}
QUANTIZED_BY_GGUF = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def weights(rows: int = 16, inputs: int = 512) -> np.ndarray:
    """Ordinary rows, and some that are zero, tiny, large, one-sided or full of ties."""
    rng = np.random.default_rng(5)
    w = rng.standard_normal((rows, inputs)).astype(np.float32)
    w[1] = 0
    w[2] *= 1e-6
    w[3] *= 3e3
    w[4] = np.abs(w[4])
    w[5] = -np.abs(w[5])
    w[6] = np.round(w[6] * 4) / 4
    return w


@pytest.mark.parametrize("name", QUANTIZED_BY_GGUF)
def test_rounding_is_the_reference_byte_for_byte(name):
    expected = quants.quantize(weights(), GGMLQuantizationType[name])
    assert _core.quantize(name, weights()) == expected.tobytes()


@pytest.mark.parametrize("name", [*QUANTIZED_BY_GGUF, "Q6_K"])
def test_blocks_mean_the_same_weights_to_the_bit(name):
    """Random codes under scales that are ordinary numbers: every bit pattern a file can hold."""
    facts = FORMATS[name]
    blocks = np.frombuffer(_core.quantize(name, weights()), np.uint8).copy()
    rows = blocks.reshape(-1, facts["block_bytes"])
    if not facts["is_float"]:
        codes = {"Q4_1": slice(4, None), "Q5_1": slice(4, None), "Q6_K": slice(0, 208)}
        part = rows[:, codes.get(name, slice(2, None))]
        part[:] = np.random.default_rng(6).integers(0, 256, part.shape, dtype=np.uint8)
    expected = quants.dequantize(blocks.reshape(16, -1), GGMLQuantizationType[name])
    found = _core.dequantize(name, blocks.tobytes(), 512)
    assert np.array_equal(found.view(np.uint32), expected.astype(np.float32).view(np.uint32))

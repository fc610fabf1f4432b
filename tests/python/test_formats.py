"""Weight formats against the gguf package and llama.cpp: the same bytes from the same floats, and
the same floats from the same bytes."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from rwkvcpp import _core
from tests.data import block_goldens

FORMATS = {f["name"]: f for f in _core.weight_formats()}
QUANTIZED_BY_GGUF = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
# Where blocks keep fp16 numbers; everything else in them is codes.
HALF_FLOATS = {
    "Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2),
    "Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,),
}  # fmt: skip


# Behind 32 zeros llama.cpp stores the rest of the block for the wrong weights.
SPOILT_BY_LLAMA_CPP = {"IQ3_S": [24]}


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


def differing_blocks(name: str, found: bytes, expected: bytes) -> list[int]:
    size = FORMATS[name]["block_bytes"]
    a, b = (np.frombuffer(blocks, np.uint8).reshape(-1, size) for blocks in (found, expected))
    return np.flatnonzero((a != b).any(axis=1)).tolist()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", block_goldens.GGML_TYPES)
def test_rounding_is_that_of_llama_cpp_byte_for_byte(name, weighted):
    importances = block_goldens.importances() if weighted else None
    found = _core.quantize(name, block_goldens.weights(), importances)
    differing = differing_blocks(name, found, block_goldens.load(name, weighted))
    assert differing == SPOILT_BY_LLAMA_CPP.get(name, [])


def test_weights_behind_zeros_stay_where_they_are():
    spoilt = block_goldens.weights()[12:13, :256]
    expected = block_goldens.load("IQ3_S", weighted=False)[24 * 110 : 25 * 110]
    error = {
        who: np.abs(_core.dequantize("IQ3_S", blocks, 256) - spoilt)[0, 96:].mean()
        for who, blocks in (("ours", _core.quantize("IQ3_S", spoilt)), ("llama.cpp", expected))
    }
    assert error["ours"] < 0.2 < 1 < error["llama.cpp"]


def test_importances_are_those_of_the_inputs():
    with pytest.raises(ValueError, match=r"importances are \[2, 256\], expected \[512\]"):
        _core.quantize("Q4_K", weights(), np.ones((2, 256), np.float32))


def random_blocks(name: str, rows: int, inputs: int) -> np.ndarray:
    """Every bit pattern a file can hold, but for infinities and NaN."""
    rng = np.random.default_rng(6)
    facts = FORMATS[name]
    n = rows * inputs // facts["block_inputs"]
    blocks = rng.integers(0, 256, (n, facts["block_bytes"]), dtype=np.uint8)
    if facts["is_float"]:
        w = (rng.standard_normal((rows, inputs)) * 10.0 ** rng.uniform(-6, 3, (rows, 1))).astype(
            "f4"
        )
        return np.frombuffer(_core.quantize(name, w), np.uint8).reshape(rows, -1)
    for at in HALF_FLOATS.get(name, (0,)):
        halves = rng.integers(0, 0x7C00, n) | rng.choice((0, 0x8000), n)
        blocks[:, at : at + 2] = halves.astype("<u2").view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_mean_the_same_weights_to_the_bit(name):
    blocks = random_blocks(name, 32, 1024)
    expected = quants.dequantize(blocks, GGMLQuantizationType[name]).astype(np.float32)
    found = _core.dequantize(name, blocks.tobytes(), 1024)
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))

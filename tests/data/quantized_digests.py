"""What make_quantized_digests.py stored: digests of the files that llama-quantize makes.

A digest covers the name, the type and the bytes of every tensor of a file. The model is not stored:
it is a made one, or one of the trained models beside the repository.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import gguf
import numpy as np

from rwkvcpp.imatrix import Imatrix, Importance
from tests.reference.checkpoints import Checkpoint, Sizes
from tests.reference.writers import write_bin

FILE = Path(__file__).parent / "quantized-digests.json"

# llama.cpp's numbers of the file types that are compared.
FILE_TYPES = {
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 8,
    "q5_1": 9,
    "q8_0": 7,
    "q3_k_m": 12,
    "q4_k_s": 14,
    "q4_k_m": 15,
    "q5_k_m": 17,
    "q6_k": 18,
    "iq4_nl": 25,
    "iq3_s": 26,
    "iq3_m": 27,
    "iq4_xs": 30,
}
# Of the larger model, not all: some take seconds.
TRAINED = ("q4_0", "q5_1", "q8_0", "q4_k_m", "q5_k_m", "q6_k", "iq4_xs")
WIDE = Sizes(n_embd=256, n_layer=2, head_size=64, n_ffn=512, n_vocab=320)
MADE = ("6", "7")


def load() -> dict[str, str]:
    """By "model, file type" and "model, file type, weighted"."""
    digests: dict[str, str] = json.loads(FILE.read_text())
    return digests


def cases(model: str) -> list[tuple[str, bool]]:
    """(file type, whether with importances) of what is compared."""
    if model == "stories":
        return [*((name, False) for name in TRAINED), ("q4_0", True), ("q4_k_m", True)]
    return [(name, weighted) for name in FILE_TYPES for weighted in (False, True)]


def made_model(version: str, folder: Path) -> Path:
    """A random model whose rows are multiples of 256."""
    path = folder / f"made-{version}.bin"
    write_bin(path, Checkpoint(version, WIDE), "F16")
    return path


def importances(model: Path) -> Imatrix:
    """Random ones, for every second matrix that llama-quantize rounds."""
    rng = np.random.default_rng(7)
    found = {}
    for tensor in gguf.GGUFReader(model).tensors:
        if tensor.name.endswith(("key.weight", "value.weight", "output.weight")):
            sums = np.exp(rng.standard_normal((1, int(tensor.shape[0])))).astype(np.float32)
            found[tensor.name] = Importance(sums, np.ones(1, np.float32))
    return Imatrix(found, ("random",), 1)


def digest(path: Path) -> str:
    """Of the tensors of a GGUF file, whatever their order."""
    found = hashlib.sha256()
    for tensor in sorted(gguf.GGUFReader(path).tensors, key=lambda tensor: str(tensor.name)):
        found.update(f"{tensor.name} {tensor.tensor_type.name} {list(tensor.shape)}\n".encode())
        found.update(tensor.data.tobytes())
    return found.hexdigest()

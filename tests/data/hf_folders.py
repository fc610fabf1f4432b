"""The folders that make_hf_folders.py had transformers and fla write, with the logits they gave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rwkvcpp.checkpoints.tensor import decode, encode
from tests.data.checkpoint_files import FOLDER, SEED, SIZES
from tests.reference.checkpoints import Checkpoint
from tests.reference.layouts import Tensor

TOKENS = (0, 39, 5, 5, 21, 30, 2, 17)


@dataclass(frozen=True)
class Made:
    """Which class of which library saved a checkpoint, and how."""

    version: str
    type: str
    # fla takes 1e-5 in version 6 and 1e-5 times the head size in version 7.
    group_norm_eps: float


FOLDERS = {
    "transformers-rwkv4": Made("4", "F32", 0.0),
    "transformers-rwkv4-bin": Made("4", "F16", 0.0),  # pytorch_model.bin
    "fla-rwkv6": Made("6", "F32", 1e-5),
    "fla-rwkv7": Made("7", "BF16", 16e-5),
}


def path(name: str) -> Path:
    return FOLDER / name


def expected(name: str) -> dict[str, Tensor]:
    """The official tensors, as the type holds them."""
    made = FOLDERS[name]
    checkpoint = Checkpoint(made.version, SIZES, seed=SEED)
    return {key: decode(made.type, encode(made.type, a)) for key, a in checkpoint.items()}


def logits(name: str) -> Tensor:
    """After each of TOKENS, as the library computed them in float32."""
    found: Tensor = np.load(path(name) / "logits.npy")
    return found

"""The goldens that make_goldens.py stored: which checkpoints, and how to read them back.

A golden holds the tokens, the logits after each and the last state as the torch package computed
them. The checkpoint is not stored: it is made again from its seed, and its CRC says that it is the
same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference.checkpoints import Checkpoint, Sizes

FOLDER = Path(__file__).parent
VERSIONS = ("4", "5.2", "6", "7")
SIZES = Sizes(n_embd=128, n_layer=3, head_size=64, n_ffn=448, n_vocab=133)
SEED = 2026
N_TOKENS = 24


def checkpoint(version: str) -> Checkpoint:
    return Checkpoint(version, SIZES, seed=SEED)


def tokens() -> list[int]:
    """The whole vocabulary is in reach, its ends included."""
    return [0, SIZES.n_vocab - 1, *((37 * i + 11) % SIZES.n_vocab for i in range(N_TOKENS - 2))]


def path(version: str) -> Path:
    return FOLDER / f"golden-rwkv-{version}.npz"


@dataclass(frozen=True)
class Golden:
    tokens: list[int]
    logits: NDArray[np.float32]  # [tokens, V]
    state: dict[str, NDArray[np.float32]]
    made_with: str


def load(version: str) -> Golden:
    """The golden; ValueError when the checkpoint generator no longer makes its checkpoint."""
    with np.load(path(version)) as stored:
        found, expected = checkpoint(version).crc(), int(stored["checkpoint_crc"])
        if found != expected:
            raise ValueError(
                f"{path(version).name} belongs to a checkpoint of CRC {expected:#010x}, "
                f"the generator now makes {found:#010x}: run make_goldens.py again"
            )
        state: dict[str, Any] = {k: stored[k] for k in stored.files if k.startswith("blocks.")}
        made_with = str(stored["made_with"])
        return Golden(stored["tokens"].tolist(), stored["logits"], state, made_with)

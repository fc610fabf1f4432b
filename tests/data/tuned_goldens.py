"""The goldens that make_tuned_goldens.py stored: logits of the torch package after a tuned state.

The tuned states themselves are files that torch saved: `blocks.N.att.time_state`, as trainers leave
them. The checkpoints are made again from their seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.reference.checkpoints import Checkpoint, Sizes

FOLDER = Path(__file__).parent
VERSIONS = ("5.2", "6", "7")
SIZES = Sizes(
    n_embd=32, n_layer=2, head_size=16, n_ffn=48, n_vocab=40,
    lerp_rank=4, decay_rank=8, rate_rank=4, value_rank=4, gate_rank=12,
)  # fmt: skip
SEED = 2028
TOKENS = [0, 39, 7, 7, 21, 3, 30, 17]
LOGITS = FOLDER / "golden-tuned.npz"


def checkpoint(version: str) -> Checkpoint:
    return Checkpoint(version, SIZES, seed=SEED)


def time_states(version: str) -> dict[str, NDArray[np.float32]]:
    """Numbers that bfloat16 holds, in which every axis is another: [head][value][key]."""
    rng = np.random.default_rng(SEED + VERSIONS.index(version))
    shape = (SIZES.n_embd // SIZES.head_size, SIZES.head_size, SIZES.head_size)
    return {
        f"blocks.{i}.att.time_state": (rng.integers(-64, 64, shape) / 64).astype(np.float32)
        for i in range(SIZES.n_layer)
    }


def path(version: str, *, legacy: bool = False) -> Path:
    return FOLDER / "checkpoints" / f"tuned-rwkv{version}{'-legacy' if legacy else ''}.pth"


def logits(version: str) -> NDArray[np.float32]:
    """[tokens, V]; ValueError when the checkpoint generator no longer makes its checkpoint."""
    with np.load(LOGITS) as stored:
        found, expected = checkpoint(version).crc(), int(stored[f"crc-{version}"])
        if found != expected:
            raise ValueError(
                f"{LOGITS.name} belongs to a checkpoint of CRC {expected:#010x}, "
                f"the generator now makes {found:#010x}: run make_tuned_goldens.py again"
            )
        rows: NDArray[np.float32] = stored[f"logits-{version}"]
        return rows

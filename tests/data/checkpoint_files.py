"""The small checkpoints that make_checkpoint_files.py had others write, and what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rwkvcpp.checkpoints.tensor import decode, encode
from tests.reference.checkpoints import Checkpoint, Sizes
from tests.reference.layouts import Tensor

FOLDER = Path(__file__).parent / "checkpoints"
SIZES = Sizes(
    n_embd=32, n_layer=2, head_size=16, n_ffn=48, n_vocab=40,
    lerp_rank=4, decay_rank=8, rate_rank=4, value_rank=4, gate_rank=12,
)  # fmt: skip
SEED = 2027


@dataclass(frozen=True)
class Made:
    """How torch saved a checkpoint."""

    version: str
    type: str
    zipped: bool


FILES = {
    "rwkv4-f16-legacy.pth": Made("4", "F16", False),
    "rwkv4-f32.pth": Made("4", "F32", True),
    "rwkv5.2-bf16.pth": Made("5.2", "BF16", True),
    "rwkv6-bf16.pth": Made("6", "BF16", True),
    "rwkv7-bf16.pth": Made("7", "BF16", True),
    "rwkv7-bf16-legacy.pth": Made("7", "BF16", False),
    "rwkv7-bf16-parameters.pth": Made("7", "BF16", True),  # nn.Parameter, as modules have them
    "rwkv7-bf16.safetensors": Made("7", "BF16", False),
}


def path(name: str) -> Path:
    return FOLDER / name


def expected(name: str) -> dict[str, Tensor]:
    made = FILES[name]
    checkpoint = Checkpoint(made.version, SIZES, seed=SEED)
    return {key: decode(made.type, encode(made.type, a)) for key, a in checkpoint.items()}


def views() -> dict[str, Tensor]:
    """What views.pth holds: seven views of one storage and one of another."""
    base = np.arange(60, dtype=np.float32)
    grid = base.reshape(6, 10)
    return {
        "whole": grid,
        "transposed": grid.T,
        "rows": grid[2:5],
        "columns": grid[:, 3:7],
        "every second row": grid[::2],
        "cube": base.reshape(3, 4, 5),
        "cube, last first": base.reshape(3, 4, 5).transpose(2, 0, 1),
        "other": np.full((2, 3), 0.5, np.float32),
    }

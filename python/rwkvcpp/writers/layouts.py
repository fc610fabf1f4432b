"""What more than one container does to the official tensors: low ranks turned, lerps in one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.tensor import Renamed, Stacked, Tensor
from rwkvcpp.writers.sizes import find

_LOW_RANK = re.compile(r"blocks\.\d+\.att\.([wavg][12]|time_(maa|decay)_w[12])")


def is_low_rank(name: str) -> bool:
    """Whether the checkpoint has this matrix as [inputs, outputs], unlike all others."""
    return _LOW_RANK.fullmatch(name) is not None


def fused(checkpoint: Checkpoint, stem: str, letters: str, ones: Sequence[int]) -> Tensor:
    """The lerps `stem` + each of `letters` as one tensor, [letters, *ones, C]."""
    parts = [find(checkpoint, stem + letter) for letter in letters]
    stacked = Stacked(stem + letters, parts)
    return Renamed(stacked.name, stacked, (len(parts), *ones, parts[0].n_elements))


def without_ones(tensor: Tensor, name: str) -> Tensor:
    """[1, 1, C] as [C]."""
    return Renamed(name, tensor, [n for n in tensor.shape if n != 1] or [1])

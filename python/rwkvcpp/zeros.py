"""What ReLU² leaves of channel mixing: zeros, whose columns of `ffn.value` need not be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerZeros:
    """What one layer's `ffn.value` has met, token by token."""

    n_inputs: int
    n_active: int  # of them not zero, once they are int8
    skippable_bytes: int  # of the matrix: what would be left unread if every input were zero
    by_columns: bool  # the matrix, now: only so can zeros be skipped (docs/sparse.md)

    @property
    def share(self) -> float:
        """Of zeros, from 0 to 1; 0 before the first token."""
        return 1 - self.n_active / self.n_inputs if self.n_inputs else 0.0


def share_of_zeros(layers: Sequence[LayerZeros]) -> float:
    """Of all layers together."""
    n_inputs = sum(layer.n_inputs for layer in layers)
    return 1 - sum(layer.n_active for layer in layers) / n_inputs if n_inputs else 0.0


def bytes_to_skip(layers: Sequence[LayerZeros]) -> float:
    """Of the weights that a token reads, what meets only zeros, on average."""
    return sum(layer.share * layer.skippable_bytes for layer in layers)

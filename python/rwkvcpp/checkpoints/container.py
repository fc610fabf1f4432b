"""Container: what a reader finds in a file or folder, under the names that it uses itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rwkvcpp.checkpoints.tensor import Tensor


@dataclass(frozen=True)
class Container:
    """Tensors as the file spells them; readers check everything but what the names mean."""

    path: Path
    kind: str  # "PyTorch", "safetensors" ...
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_hint: Path | None = None
    head_size: int | None = None  # where the metadata tells it
    decay_applied: bool = False  # rwkv.cpp's: v4 after -exp(), v5 after exp(-exp())
    rescale_every: int = 0  # llama.cpp's v6: output matrices divided by 2^(layer // this)

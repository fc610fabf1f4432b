"""Checkpoint: the weights of a model by their official names, whatever the file they lie in.

`open_checkpoint` recognises the container by its first bytes, or a folder by what it holds, and the
naming by the names. What comes out has the names, shapes and orientations of the official .pth of
that version: low-rank matrices [inputs, rank], lerps [1, 1, C], decays raw.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rwkvcpp.checkpoints.tensor import Tensor

__all__ = ["Checkpoint", "Tensor", "open_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors that are read when they are asked for, and what the file says about them."""

    path: Path
    container: str  # "PyTorch", "PyTorch (legacy)", "safetensors", "GGUF v3", "rwkv.cpp 101" ...
    tensors: Mapping[str, Tensor]  # in the order of the file
    version: str | None = None  # "4", "5.0", "5.1", "5.2", "6", "7"; None: no model that is known
    metadata: Mapping[str, Any] = field(default_factory=dict)  # GGUF keys, or an HF config
    tokenizer_hint: Path | None = None  # a vocabulary in the same folder
    layer_norm_eps: float = 1e-5

    @property
    def is_quantized(self) -> bool:
        """Whether any tensor is in blocks."""
        return not all(tensor.is_float for tensor in self.tensors.values())


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in the file or folder at `path`; no weight is read yet."""
    from rwkvcpp.checkpoints.containers import open_container
    from rwkvcpp.checkpoints.engine import engine_file
    from rwkvcpp.checkpoints.naming import official

    found = official(open_container(Path(path)))
    if "emb.weight" not in found.tensors:
        return found
    return replace(found, version=engine_file(found).version)

"""The sizes of a model, from the shapes of its tensors."""

from __future__ import annotations

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.tensor import Tensor
from rwkvcpp.errors import ModelFormatError


def find(checkpoint: Checkpoint, name: str) -> Tensor:
    """The tensor of that name; ModelFormatError when there is none."""
    tensor = checkpoint.tensors.get(name)
    if tensor is None:
        raise ModelFormatError(f"{checkpoint.path}: tensor {name} is missing")
    return tensor


def n_vocab(checkpoint: Checkpoint) -> int:
    """Rows of the embedding."""
    return find(checkpoint, "emb.weight").shape[0]


def n_embd(checkpoint: Checkpoint) -> int:
    """The width of the model."""
    return find(checkpoint, "emb.weight").shape[-1]


def n_layer(checkpoint: Checkpoint) -> int:
    """One more than the highest block."""
    blocks = [name.split(".")[1] for name in checkpoint.tensors if name.startswith("blocks.")]
    return 1 + max((int(block) for block in blocks if block.isdecimal()), default=-1)


def n_ffn(checkpoint: Checkpoint) -> int:
    """The hidden size of channel mixing."""
    return find(checkpoint, "blocks.0.ffn.key.weight").shape[0]


def head_size(checkpoint: Checkpoint) -> int | None:
    """Channels of a head; None for version 4, which has none."""
    name = HEADS.get(checkpoint.version or "")
    if name is None:
        return None
    return n_embd(checkpoint) // find(checkpoint, f"blocks.0.att.{name}").shape[0]


HEADS = {
    "5.0": "time_decay",
    "5.1": "time_decay",
    "5.2": "time_decay",
    "6": "time_faaaa",
    "7": "r_k",
}


def rank(checkpoint: Checkpoint, name: str) -> int:
    """Outputs of a low-rank matrix of the last layer, [inputs, rank]: the first may lack some."""
    return find(checkpoint, f"blocks.{n_layer(checkpoint) - 1}.att.{name}").shape[1]

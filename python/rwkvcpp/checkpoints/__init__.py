"""Model files of every container as one thing: named tensors in the official orientation."""

from rwkvcpp.checkpoints.checkpoint import Checkpoint, Tensor, open_checkpoint

__all__ = ["Checkpoint", "Tensor", "open_checkpoint"]

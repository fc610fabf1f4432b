"""The tensors of a GGUF file with what quantizing needs to know of each: official name and class.

A class is the part that a matrix plays in every layer, "ffn.value"; the embedding is "emb" and the
head "head". Tensors of one dimension, lerps and bonuses belong to none: they stay floats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.tensor import Tensor, row_bytes
from rwkvcpp.file_types import EMBEDDING, HEAD, PROJECTIONS
from rwkvcpp.writers.gguf_file import gguf_tensors, stored_type

LOW_RANK = re.compile(r"blocks\.\d+\.att\.([wavg][12]|time_maa_w1|time_decay_w[12])")
_CLASS = re.compile(r"(?:blocks\.(\d+)\.)?(.*?)(?:\.weight)?")


@dataclass(frozen=True)
class Matrix:
    """A tensor of the file that is written."""

    name: str  # in official checkpoints
    tensor: Tensor  # under its name in GGUF
    stored: str  # the type that it has when nothing is quantized

    @property
    def class_name(self) -> str:
        """ "att.key", "ffn.value", "att.w1", "emb", "head"."""
        return self._parts()[1]

    @property
    def layer(self) -> int | None:
        """None for the embedding and the head."""
        layer = self._parts()[0]
        return None if layer is None else int(layer)

    @property
    def n_inputs(self) -> int:
        return self.tensor.shape[-1]

    @property
    def is_low_rank(self) -> bool:
        return len(self.tensor.shape) == 2 and LOW_RANK.fullmatch(self.name) is not None

    @property
    def is_embedding(self) -> bool:
        return self.name == EMBEDDING

    @property
    def is_quantized(self) -> bool:
        """Whether llama-quantize would round it: projections, the embedding and the head."""
        return self.name in (EMBEDDING, HEAD) or PROJECTIONS.fullmatch(self.name) is not None

    def n_bytes(self, type_name: str) -> int:
        """In the file, with the zeros up to the next tensor."""
        shape = self.tensor.shape
        return -(-row_bytes(type_name, shape) * shape[0] // ALIGNMENT) * ALIGNMENT

    def _parts(self) -> tuple[str | None, str]:
        match = _CLASS.fullmatch(self.name)
        assert match is not None  # the pattern takes everything
        return match[1], match[2]


ALIGNMENT = 32


def matrices(checkpoint: Checkpoint) -> Iterator[Matrix]:
    """Every tensor of the file, in its order."""
    for name, tensor in gguf_tensors(checkpoint):
        yield Matrix(name, tensor, stored_type(tensor, None))

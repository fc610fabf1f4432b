"""Which type each matrix of a file gets: llama-quantize's choice, and what the caller overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.tensor import FLOAT_TYPES, block_size
from rwkvcpp.errors import UnsupportedError
from rwkvcpp.file_types import FileType, file_type
from rwkvcpp.quantization.matrices import Matrix

Types = dict[str, str]  # by official name: what is rounded, and to what


def reference_types(matrices: Iterable[Matrix], wanted: FileType) -> Types:
    """What llama-quantize makes of a file."""
    found = {m.name: wanted.type_of(m.name, m.tensor.shape) for m in matrices}
    return {name: type_name for name, type_name in found.items() if type_name is not None}


def pure_types(matrices: Iterable[Matrix], wanted: FileType) -> Types:
    """One type for every matrix that llama-quantize would round, and for low-rank ones it fits."""
    pure = FileType(wanted.name, wanted.base, wanted.base, wanted.base)
    matrices = list(matrices)
    fits = block_size(wanted.base)[0]
    low_rank = {m.name: wanted.base for m in matrices if m.is_low_rank and m.n_inputs % fits == 0}
    return reference_types(matrices, pure) | low_rank


def check_floats(checkpoint: Checkpoint, *, requantize: bool) -> None:
    """UnsupportedError for a quantized model, unless that is wanted."""
    if requantize:
        return
    for tensor in checkpoint.tensors.values():
        if not tensor.is_float:
            raise UnsupportedError(
                f"{checkpoint.path}: tensor {tensor.name} is {tensor.type} already, expected "
                "floats: use the F16, BF16 or F32 file, or --requantize to round once more"
            )


# ---- overrides -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Override:
    """One type for a class of matrices ("ffn.value"), or for one ("blocks.0.att.output")."""

    what: str
    type: str

    def matches(self, matrix: Matrix) -> bool:
        return self.what in (matrix.class_name, matrix.name, matrix.name.removesuffix(".weight"))


def parse_override(text: str) -> Override:
    """From "ffn.value=q6_k"; ValueError for anything else."""
    what, equals, type_name = text.partition("=")
    if not (what and equals and type_name):
        raise ValueError(f"{text!r} is no tensor type, expected CLASS=TYPE as in ffn.value=q6_k")
    return Override(what, file_type(type_name).base)


def overridden(matrices: Sequence[Matrix], overrides: Sequence[Override]) -> Types:
    """The matrices whose type the caller says; the last one that matches counts."""
    found: Types = {}
    for override in overrides:
        matching = [m for m in matrices if override.matches(m)]
        if not matching:
            raise ValueError(
                f"there is no {override.what} in this model, expected a class of matrices such as "
                f"{', '.join(sorted(_classes(matrices)))}"
            )
        for matrix in matching:
            _check_override(matrix, override)
            found[matrix.name] = override.type
    return found


def _classes(matrices: Iterable[Matrix]) -> Mapping[str, None]:
    return {m.class_name: None for m in matrices if m.is_quantized or m.is_low_rank}


def _check_override(matrix: Matrix, override: Override) -> None:
    shape = list(matrix.tensor.shape)
    if not (matrix.is_quantized or matrix.is_low_rank):
        raise ValueError(f"{matrix.name} is {shape}, expected a matrix: the rest stays as it is")
    block = 1 if override.type in FLOAT_TYPES else block_size(override.type)[0]
    if matrix.n_inputs % block:
        raise ValueError(
            f"{matrix.name} is {shape}, expected rows of a multiple of {block} for {override.type}"
        )

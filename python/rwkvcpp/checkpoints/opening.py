"""A path, a type and LoRAs to what the native core loads, and what else the files told."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rwkvcpp import _core
from rwkvcpp.checkpoints.native import is_native
from rwkvcpp.checkpoints.tensor import is_block_type
from rwkvcpp.errors import UnsupportedError
from rwkvcpp.file_types import file_type

if TYPE_CHECKING:
    from rwkvcpp.checkpoints.lora import Adapter
    from rwkvcpp.strategy import Strategy


@dataclass(frozen=True)
class Opened:
    """Everything that a model is loaded from; no weight is read yet."""

    file: _core.ModelFile
    types: Mapping[str, str] = field(default_factory=dict)  # tensors to quantize on the way
    tuned_states: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)  # by layer
    tokenizer_hint: Path | None = None


# A file type, or the types of some tensors by official name.
TypeArgument: TypeAlias = "str | Mapping[str, str] | None"


def open_model(
    path: str | os.PathLike[str],
    *,
    type: TypeArgument | Strategy = None,
    lora: Sequence[Adapter] = (),
) -> Opened:
    """The model at `path`, its LoRAs merged, with the types that are asked for."""
    if is_native(Path(path)) and not lora:
        file = _core.ModelFile(os.fspath(path))
        return Opened(file, _types(file, type))
    return _open_checkpoint(path, type, lora)


def _open_checkpoint(
    path: str | os.PathLike[str], type: TypeArgument | Strategy, lora: Sequence[Adapter]
) -> Opened:
    # GGUF files, the bundled one among them, start sooner without what only others need.
    from rwkvcpp.checkpoints.checkpoint import open_checkpoint
    from rwkvcpp.checkpoints.engine import engine_file, tuned_states
    from rwkvcpp.checkpoints.lora import with_loras

    checkpoint = open_checkpoint(path)
    if lora:
        checkpoint = with_loras(checkpoint, lora, rounded=not _quantizes(type))
    file = engine_file(checkpoint)
    return Opened(file, _types(file, type), tuned_states(checkpoint), checkpoint.tokenizer_hint)


def _quantizes(asked: TypeArgument | Strategy) -> bool:
    if asked is None or isinstance(asked, (str, Mapping)):
        return asked is not None
    return asked.quantizes


def _types(file: _core.ModelFile, asked: TypeArgument | Strategy) -> dict[str, str]:
    if asked is None:
        return {}
    if not isinstance(asked, (str, Mapping)):
        return asked.types(file.tensors)
    type_of = file_type(asked).type_of if isinstance(asked, str) else _looked_up(file, asked)
    types: dict[str, str] = {}
    for tensor, stored, shape in file.tensors:
        wanted = type_of(tensor, shape)
        if wanted is None or wanted == stored:
            continue
        if is_block_type(stored):
            raise UnsupportedError(
                f"{file.path}: tensor {tensor} is {stored} already, expected floats to make "
                f"{wanted} of: use the model's F16, BF16 or F32 file"
            )
        types[tensor] = wanted
    return types


def _looked_up(
    file: _core.ModelFile, types: Mapping[str, str]
) -> Callable[[str, Sequence[int]], str | None]:
    for name in types.keys() - {name for name, _, _ in file.tensors}:
        raise ValueError(f"{file.path}: a type was asked for {name}, which this model has not")
    return lambda name, _: types.get(name)

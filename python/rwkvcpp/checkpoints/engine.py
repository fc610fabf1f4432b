"""A checkpoint as the native core takes it: every matrix [outputs, inputs], fused ones in slices.

What lies in a file just as the core wants it is given as an offset, and no Python runs while it
loads. The rest (transposed, merged, converted) is made by a function that fills a buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rwkvcpp import _core
from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.naming import LERP_SLICES_6, LOW_RANK_6, LOW_RANK_7, TIME_STATE
from rwkvcpp.checkpoints.tensor import Slice, Tensor, transposed
from rwkvcpp.errors import ModelFormatError, UnsupportedError

Fill: TypeAlias = Callable[[memoryview], None]
# name, name in messages, type, shape, file and offset (or "" and 0), what fills it (or None)
EngineTensor: TypeAlias = "tuple[str, str, str, tuple[int, ...], str, int, Fill | None]"

# What is no model, told by a part of a name.
NO_MODELS = (
    (".lora_A", "is a LoRA adapter: give the model it belongs to, and this file as lora="),
    (".lora.0", "is a LoRA adapter: give the model it belongs to, and this file as lora="),
    (".disha", "is a DiSHA adapter, which is not supported"),
    (".time_state", "holds a tuned state and no model"),
)


def engine_file(checkpoint: Checkpoint) -> _core.ModelFile:
    """The checkpoint for `_core.Model`; no weight is read yet."""
    _check_is_model(checkpoint)
    return _core.ModelFile.from_tensors(
        str(checkpoint.path),
        checkpoint.container,
        list(engine_tensors(checkpoint)),
        layer_norm_eps=checkpoint.layer_norm_eps,
    )


def _check_is_model(checkpoint: Checkpoint) -> None:
    if "emb.weight" in checkpoint.tensors:
        return
    for part, what in NO_MODELS:
        if any(part in name for name in checkpoint.tensors):
            raise UnsupportedError(f"{checkpoint.path}: {what}")
    some = ", ".join(list(checkpoint.tensors)[:3])
    raise ModelFormatError(
        f"{checkpoint.path}: has no tensor emb.weight among its {len(checkpoint.tensors)} "
        f"({some[:200]} ...), expected an RWKV model"
    )


def engine_tensors(checkpoint: Checkpoint) -> Iterator[EngineTensor]:
    """Every weight in the core's names and orientations; tuned states are none."""
    for name, tensor in checkpoint.tensors.items():
        if TIME_STATE.fullmatch(name):
            continue
        for own, part in engine_parts(name, tensor):
            extent = part.extent
            where = ("", 0) if extent is None else (str(extent.path), extent.offset)
            fill = None if extent is not None else _filler(part)
            yield own, name, part.type, part.shape, *where, fill


def engine_parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The core's (name, tensor) of one official tensor: one, or five slices."""
    if name.endswith(".att.time_maa_w2"):
        if len(tensor.shape) != 3 or tensor.shape[0] != len(LERP_SLICES_6):
            raise ModelFormatError(
                f"tensor {name} is {list(tensor.shape)}, expected [{len(LERP_SLICES_6)}, R, C]"
            )
        for i, letter in enumerate(LERP_SLICES_6):
            own = f"{name}.{letter}"
            yield own, Slice(own, transposed(name, tensor), i)
    elif (LOW_RANK_6.fullmatch(name) or LOW_RANK_7.fullmatch(name)) and len(tensor.shape) == 2:
        yield name, transposed(name, tensor)
    else:
        yield name, tensor


def tuned_states(checkpoint: Checkpoint) -> dict[int, NDArray[np.float32]]:
    """`blocks.i.att.time_state` [head][value][key] that was merged into a model's weights."""
    found = ((TIME_STATE.fullmatch(name), tensor) for name, tensor in checkpoint.tensors.items())
    return {int(match[1]): tensor.read() for match, tensor in found if match}


def _filler(tensor: Tensor) -> Fill:
    def fill(out: memoryview) -> None:
        position = 0
        for begin, end in tensor.pieces():
            data = tensor.raw_rows(begin, end)
            out[position : position + len(data)] = data
            position += len(data)

    return fill

"""GGUF as llama.cpp's own converter writes it for versions 6 and 7, and in that manner for 4 and 5.

docs/convert.md has the names of all tensors. The gguf package writes everything but the weights,
which it would hold in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import gguf
import numpy as np

from rwkvcpp import _core
from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.tensor import Renamed, Tensor, block_size, transposed
from rwkvcpp.errors import UnsupportedError
from rwkvcpp.writers.gguf_metadata import Fields, add_fields, architecture, fields
from rwkvcpp.writers.layouts import fused, is_low_rank, without_ones
from rwkvcpp.writers.plan import Entry, Options, Plan, Writer, check_blocks_stay

# ---- tensors ---------------------------------------------------------------------------------

# The lerps of time mixing that are one tensor, [letters, 1, 1, C]; time_maa_x stays alone.
FUSED = {
    "6": (re.compile(r"(blocks\.\d+\.att\.time_maa_)([wkvrg])"), "wkvrg"),
    "7": (re.compile(r"(blocks\.\d+\.att\.x_)([rwkvag])"), "rwkvag"),
}
# Layer 0 mixes no values. llama.cpp wants the tensors all the same, with the ranks of a.
UNUSED = re.compile(r"blocks\.0\.att\.v([012])")
STANDS_IN = re.compile(r"blocks\.0\.att\.a([012])")


def tensors(checkpoint: Checkpoint) -> Iterator[Tensor]:
    """The tensors of the file, in the checkpoint's order and under its names."""
    pattern, letters = FUSED.get(checkpoint.version or "", (None, ""))
    for name, tensor in checkpoint.tensors.items():
        lerp = pattern.fullmatch(name) if pattern else None
        if lerp is not None:
            if lerp[2] == letters[0]:
                yield fused(checkpoint, lerp[1], letters, ones=(1, 1))
        elif UNUSED.fullmatch(name) is None:
            yield _stored(name, tensor)
        if stands_in := STANDS_IN.fullmatch(name):
            yield _stored(f"blocks.0.att.v{stands_in[1]}", tensor)


def _stored(name: str, tensor: Tensor) -> Tensor:
    if is_low_rank(name):
        return transposed(name, tensor)
    if name.endswith(".att.r_k"):
        return Renamed(name, tensor, [tensor.n_elements])
    if len(tensor.shape) == 3:
        return without_ones(tensor, name)
    return Renamed(name, tensor)


def _renamed(checkpoint: Checkpoint, tensor: Tensor) -> Tensor:
    name = _core.gguf_tensor_name(architecture(checkpoint), tensor.name)
    if name is None:
        raise UnsupportedError(
            f"{checkpoint.path}: tensor {tensor.name} has no place in a GGUF file of "
            f"RWKV-{checkpoint.version}"
        )
    return Renamed(name, tensor)


# ---- types -----------------------------------------------------------------------------------

# Of more than one dimension, and float32 whatever the type of the rest.
ALWAYS_F32 = (
    "time_mix_lerp_fused",
    "time_mix_first",
    "time_mix_decay",
    "time_mix_w1",
    "time_mix_w2",
    "time_mix_decay_w1",
    "time_mix_decay_w2",
)


def stored_type(tensor: Tensor, wanted: str | None) -> str:
    """What llama.cpp's converter makes of a tensor; quantized ones stay what they are."""
    if not tensor.is_float:
        return wanted or tensor.type
    if len(tensor.shape) == 1 or _name_says_f32(tensor.name):
        return "F32"
    type_name = wanted or tensor.type
    return type_name if tensor.shape[-1] % block_size(type_name)[0] == 0 else "F16"


def _name_says_f32(name: str) -> bool:
    stem, _, suffix = name.rpartition(".")
    return suffix != "weight" or stem.endswith("_norm") or stem.split(".")[-1] in ALWAYS_F32


# ---- the file --------------------------------------------------------------------------------


def gguf_tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """(name in the checkpoint, tensor under its name in GGUF) of all, in the order of the file."""
    for tensor in tensors(checkpoint):
        yield tensor.name, _renamed(checkpoint, tensor)


def plan(checkpoint: Checkpoint, options: Options) -> Plan:
    """What llama.cpp's own converter would write, the vocabulary among it."""
    renamed = [tensor for _, tensor in gguf_tensors(checkpoint)]
    entries = [Entry(tensor, stored_type(tensor, options.type)) for tensor in renamed]
    check_blocks_stay(checkpoint, entries)
    return plan_entries(checkpoint, entries, fields(checkpoint, entries, options.tokenizer))


def plan_entries(checkpoint: Checkpoint, entries: Sequence[Entry], metadata: Fields) -> Plan:
    """A file of these tensors in these types, with these keys."""

    def begin(path: Path) -> None:
        writer = gguf.GGUFWriter(path, architecture(checkpoint))
        try:
            add_fields(writer, metadata)
            _add_tensors(writer, entries)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
        finally:
            writer.close()
        with path.open("ab") as file:
            file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))

    return Plan(
        source=checkpoint.path,
        begin=begin,
        entries=entries,
        alignment=gguf.GGUF_DEFAULT_ALIGNMENT,
        advice=": use --type bf16",
    )


def _add_tensors(writer: gguf.GGUFWriter, entries: Sequence[Entry]) -> None:
    for entry in entries:
        kind = gguf.GGMLQuantizationType[entry.type]
        shape = entry.tensor.shape
        writer.add_tensor_info(entry.tensor.name, shape, np.dtype(np.float32), entry.n_bytes, kind)


WRITER = Writer(what="GGUF", types=("F32", "F16", "BF16", "Q8_0"), plan=plan, holds_vocabulary=True)

"""rwkv.cpp's .bin, version 101: the official names, decays with their exponentials taken.

The magic "fmgg", then int32: version n_vocab n_embd n_layer type. Each tensor: n_dims name_length
type dims, the last dimension first; then name and data. Nothing is aligned.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwkvcpp import _core
from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.tensor import Computed, Renamed, Tensor, block_size, transposed
from rwkvcpp.errors import UnsupportedError
from rwkvcpp.writers import sizes
from rwkvcpp.writers.layouts import fused, is_low_rank, without_ones
from rwkvcpp.writers.plan import Entry, Options, Plan, Writer, check_blocks_stay

MAGIC = 0x67676D66
VERSION = 101

Doubles = NDArray[np.float64]

# ---- tensors ---------------------------------------------------------------------------------

LERPS = "rwkvag"
LERP = re.compile(r"(blocks\.\d+\.att\.x_)([rwkvag])")


def tensors(checkpoint: Checkpoint) -> Iterator[Tensor]:
    """The tensors of the file, in the checkpoint's order."""
    for name, tensor in checkpoint.tensors.items():
        lerp = LERP.fullmatch(name)
        if lerp is None:
            yield _stored(checkpoint, tensor)
        elif lerp[2] == LERPS[0]:
            yield fused(checkpoint, lerp[1], LERPS, ones=(1,))


def _stored(checkpoint: Checkpoint, tensor: Tensor) -> Tensor:
    name = tensor.name
    if is_low_rank(name):
        return transposed(name, tensor)
    change = CHANGES.get(name.partition(".att.")[2])
    if change is not None:
        return change(checkpoint, tensor)
    if ".time_" in name:
        return without_ones(tensor, name)
    return tensor


def _decay(checkpoint: Checkpoint, tensor: Tensor) -> Tensor:
    if checkpoint.version == "6":  # raw, in heads: the token's own part is added before exp()
        heads = sizes.find(checkpoint, tensor.name.replace("time_decay", "time_faaaa")).shape
        return Renamed(tensor.name, tensor, (*heads, 1))
    if checkpoint.version == "4":
        return _applied(tensor, lambda x: -np.exp(x), tensor.shape)
    trailing = (1, 1) if checkpoint.version == "5.0" else (1,)
    return _applied(tensor, lambda x: np.exp(-np.exp(x)), (*tensor.shape, *trailing))


def _bonus_log(checkpoint: Checkpoint, tensor: Tensor) -> Tensor:
    """time_first is the bonus itself in version 4, its logarithm in 5.0."""
    if checkpoint.version == "4":
        return tensor
    return _applied(tensor, np.exp, (*tensor.shape, 1, 1))


def _bonus(_: Checkpoint, tensor: Tensor) -> Tensor:
    return Renamed(tensor.name, tensor, (*tensor.shape, 1))


CHANGES: dict[str, Callable[[Checkpoint, Tensor], Tensor]] = {
    "time_decay": _decay,
    "time_first": _bonus_log,
    "time_faaaa": _bonus,
}


def _applied(
    tensor: Tensor, function: Callable[[Doubles], Doubles], shape: Sequence[int]
) -> Tensor:
    """`function` in double precision, so that float32 is the nearest to what it should be."""

    def rows(begin: int, end: int) -> NDArray[np.float32]:
        values = function(tensor.read().astype(np.float64)).astype(np.float32)
        return values.reshape(shape)[begin:end]

    return Computed(tensor.name, "F32", shape, rows)


# ---- types -----------------------------------------------------------------------------------

CODES = {f["name"]: f["ggmf_code"] for f in _core.weight_formats() if f["ggmf_code"] >= 0}

KEPT_F32 = (".time_", ".k_k", ".k_a", ".r_k", ".x_rwkvag", ".x_k", ".w0", ".a0", ".v0")
NEVER_QUANTIZED = ("emb.weight", "head.weight", *(f"att.{q}{i}" for q in "vgaw" for i in (1, 2)))


def stored_type(tensor: Tensor, wanted: str | None) -> str:
    """What rwkv.cpp's converter makes of a tensor, and then its quantizer."""
    if not tensor.is_float:
        return wanted or tensor.type
    if wanted == "Q8_0" and _is_quantized(tensor):
        return wanted
    if len(tensor.shape) == 1 or any(part in tensor.name for part in KEPT_F32):
        return "F32"
    # There is no code for BF16.
    own = "F32" if tensor.type == "F32" else "F16"
    return own if wanted in (None, "Q8_0") else wanted


def _is_quantized(tensor: Tensor) -> bool:
    return (
        len(tensor.shape) == 2
        and tensor.shape[1] % block_size("Q8_0")[0] == 0
        and "att.r_k" not in tensor.name
        and not any(part in tensor.name for part in NEVER_QUANTIZED)
    )


# ---- the file --------------------------------------------------------------------------------


def plan(checkpoint: Checkpoint, options: Options) -> Plan:
    """What rwkv.cpp's own converter and quantizer would write."""
    entries = [Entry(t, stored_type(t, options.type)) for t in tensors(checkpoint)]
    check_blocks_stay(checkpoint, entries)
    _check_types(checkpoint, entries)
    header = _file_header(checkpoint, entries)
    return Plan(
        source=checkpoint.path,
        begin=lambda path: _begin(path, header),
        entries=entries,
        header=_tensor_header,
        advice=": use --type f32",
    )


def _check_types(checkpoint: Checkpoint, entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.type not in CODES:
            raise UnsupportedError(
                f"{checkpoint.path}: tensor {entry.tensor.name} is {entry.type}, which rwkv.cpp "
                f"files have no number for; expected {', '.join(CODES)}"
            )


def _begin(path: Path, header: bytes) -> None:
    path.write_bytes(header)


def _file_header(checkpoint: Checkpoint, entries: Sequence[Entry]) -> bytes:
    main = max(entries, key=lambda e: e.tensor.name.startswith("blocks.") * e.tensor.n_elements)
    counts = (size(checkpoint) for size in (sizes.n_vocab, sizes.n_embd, sizes.n_layer))
    return struct.pack("<6i", MAGIC, VERSION, *counts, _code(main))


def _tensor_header(entry: Entry) -> bytes:
    shape, name = entry.tensor.shape, entry.tensor.name.encode()
    numbers = struct.pack("<3i", len(shape), len(name), _code(entry))
    return numbers + struct.pack(f"<{len(shape)}i", *reversed(shape)) + name


def _code(entry: Entry) -> int:
    return int(CODES[entry.type])


WRITER = Writer(what="rwkv.cpp", types=("F32", "F16", "Q8_0"), plan=plan)

"""web-rwkv's .st, which Ai00 reads: safetensors of F16, some names changed, low ranks turned.

web-rwkv's converter looks for its changes anywhere in a name; here the names are known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.tensor import Computed, Renamed, Tensor, transposed
from rwkvcpp.errors import UnsupportedError
from rwkvcpp.writers import sizes
from rwkvcpp.writers.layouts import is_low_rank
from rwkvcpp.writers.plan import Entry, Options, Plan, Writer, check_blocks_stay
from rwkvcpp.writers.safetensors_file import safetensors_plan

RENAMED = (("time_faaaa", "time_first"), ("time_maa", "time_mix"))
PER_HEAD = re.compile(r"blocks\.\d+\.att\.time_(decay|first|faaaa)")


def plan(checkpoint: Checkpoint, options: Options) -> Plan:
    """Every tensor under web-rwkv's name, in F16."""
    if checkpoint.version == "5.0":
        raise UnsupportedError(f"{checkpoint.path}: is RWKV-5.0, which web-rwkv cannot run")
    entries = [Entry(_stored(checkpoint, t), "F16") for t in checkpoint.tensors.values()]
    check_blocks_stay(checkpoint, entries)
    return safetensors_plan(checkpoint, entries, advice=", the only type of these files")


def _stored(checkpoint: Checkpoint, tensor: Tensor) -> Tensor:
    name = tensor.name
    for official, own in RENAMED:
        name = name.replace(official, own)
    if is_low_rank(tensor.name) or tensor.name.endswith(".att.time_state"):
        return transposed(name, tensor)
    if checkpoint.version == "5.1" and PER_HEAD.fullmatch(tensor.name):
        return _repeated(name, tensor, _head_size(checkpoint, tensor))
    return Renamed(name, tensor)


def _head_size(checkpoint: Checkpoint, per_head: Tensor) -> int:
    return sizes.n_embd(checkpoint) // per_head.n_elements


def _repeated(name: str, tensor: Tensor, n: int) -> Tensor:
    """One value per head, [H], as one per channel, [H, n]."""
    shape: Sequence[int] = (tensor.n_elements, n)
    return Computed(
        name,
        tensor.type,
        shape,
        lambda begin, end: tensor.read().reshape(-1, 1).repeat(n, axis=1)[begin:end],
    )


WRITER = Writer(what="web-rwkv", types=("F16",), plan=plan, holds_state=True)

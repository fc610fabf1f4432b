"""safetensors, with the names, shapes and orientations of the official .pth.

The length of the header, u64; the header, JSON with spaces to a multiple of 8; the tensors. The
safetensors library wants all tensors in memory at once, which a model of some GB is not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.tensor import FLOAT_TYPES
from rwkvcpp.writers.plan import Entry, Options, Plan, Writer, check_blocks_stay

WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}


def plan(checkpoint: Checkpoint, options: Options) -> Plan:
    """Every tensor as the official checkpoint has it, in the type that is wanted or its own."""
    entries = [
        Entry(tensor, options.type or (tensor.type if tensor.is_float else "F32"))
        for tensor in checkpoint.tensors.values()
    ]
    check_blocks_stay(checkpoint, entries)
    return safetensors_plan(checkpoint, entries, advice=": use --type bf16")


def safetensors_plan(checkpoint: Checkpoint, entries: Sequence[Entry], *, advice: str) -> Plan:
    """A file of `entries`, the wider types first, so that each lies at a multiple of its width."""
    ordered = sorted(entries, key=lambda entry: -WIDTHS[entry.type])
    header = _header(ordered)
    return Plan(
        source=checkpoint.path,
        begin=lambda path: _begin(path, header),
        entries=ordered,
        advice=advice,
    )


def _header(entries: Sequence[Entry]) -> bytes:
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for entry in entries:
        end = begin + entry.n_bytes
        shape = list(entry.tensor.shape)
        table[entry.tensor.name] = {
            "dtype": entry.type, "shape": shape, "data_offsets": [begin, end]
        }  # fmt: skip
        begin = end
    text = json.dumps(table, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _begin(path: Path, header: bytes) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header)


WRITER = Writer(what="safetensors", types=FLOAT_TYPES, plan=plan, holds_state=True)

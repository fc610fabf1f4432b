"""What this machine can do at most, and what a token asks of it: the scale for every speed.

Decoding one sequence reads every weight once per token, so its roof is the read bandwidth; prefill
and batches are products of bytes, so theirs is the rate of int8 operations.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from rwkvcpp import _core
from rwkvcpp.model import Model, model_info

# Matrices of n_embd x n_embd in a layer; the two of channel mixing with n_ffn come on top.
SQUARES = {"4": 5, "5.0": 5, "5.1": 6, "5.2": 6, "6": 6, "7": 4}
EMBEDDING = re.compile(r"^(emb|token_embd)\.")
FLOAT_TYPES = ("F32", "F16", "BF16")


def read_roof(n_bytes: int, threads: int) -> float:
    """Measured: GB/s of reading a buffer of `n_bytes`, in 2 MB pages where they are granted."""
    return _core.read_roof(n_bytes, threads)


def int8_roof(threads: int) -> float:
    """Measured: Gop/s of int8 multiply-adds, two operations each."""
    return _core.int8_roof(threads)


def cpu_name() -> str:
    """The processor's model, with family and model number where hypervisors hide the name."""
    cpuinfo = Path("/proc/cpuinfo")
    facts: dict[str, str] = {}
    if cpuinfo.is_file():
        found = re.findall(r"^([\w ]+?)\s*: (.+)$", cpuinfo.read_text(), flags=re.M)
        facts = dict(reversed(found))  # of equal names the first processor's
    name = facts.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f"{name} ({', '.join(numbers)})" if numbers else name


@dataclass(frozen=True)
class Work:
    """What one token asks of the machine."""

    bytes_read: int  # by a decoded token: every matrix, head and low-rank included, embedding not
    decode_ops: int  # two for every weight of those
    prompt_ops: int  # of the large matrices of all layers: a prompt has one head product in all
    is_int8: bool  # the products are int8, so the int8 roof is their measure


def token_work(model: Model) -> Work:
    """The work of a token of `model`; for version 7, prompt_ops is 24 n_embd² n_layer."""
    width = model.n_embd
    layer = SQUARES[model.version] * width**2 + 2 * width * model.n_ffn
    return Work(
        bytes_read=model.token_bytes_read,
        decode_ops=2 * _matrix_weights(model_info(model.path)["tensors"], width),
        prompt_ops=2 * layer * model.n_layer,
        is_int8=model.activations == "int8" and model.weight_type not in FLOAT_TYPES,
    )


def _matrix_weights(tensors: list[dict[str, Any]], width: int) -> int:
    """Of every matrix but the embedding. What is no larger than 6 fused lerps is no matrix."""
    sizes = (prod(t["shape"]) for t in tensors if not EMBEDDING.search(t["name"]))
    return sum(size for size in sizes if size > 6 * width)

"""LoRA adapters, merged into the weights they were trained on: W + (alpha / r) B A in float32.

Two layouts, in which alpha means different things:

- Blealtan's and RWKV-PEFT's: `X.lora_A` [r, inputs] and `X.lora_B` [outputs, r]. The alpha of the
  training is not in the file and must be given. Other tensors in the file were trained whole and
  replace the model's.
- web-rwkv's (.st): `X.lora.0` [inputs, r] and `X.lora.1` [outputs, r]. alpha is the strength, 1
  unless given. Other tensors are blended, if vectors: alpha v + (1 - alpha) base; or added, if
  matrices: base + alpha W.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.container import Container
from rwkvcpp.checkpoints.containers import open_container
from rwkvcpp.checkpoints.naming import LOW_RANK_6, LOW_RANK_7, TIME_STATE
from rwkvcpp.checkpoints.tensor import Computed, Renamed, Tensor, transposed
from rwkvcpp.errors import ModelFormatError, UnsupportedError

# A file, and its alpha: None is web-rwkv's 1, and an error in the other layout.
Adapter: TypeAlias = "tuple[str | os.PathLike[str], float | None]"
Rows = Callable[[int, int], NDArray[np.float32]]

UNSUPPORTED = (
    (".disha", "DiSHA (bone)"),
    (".init_lora_", "PiSSA, which needs its initial matrices, too"),
    (".lora_magnitude", "DoRA"),
)


@dataclass(frozen=True)
class Layout:
    """How a kind of file spells its two factors and what its other tensors do."""

    first: str  # ends the key of A
    second: str  # ends the key of B
    first_transposed: bool
    default_alpha: float | None
    replacements: tuple[tuple[str, str], ...]  # of the names of other tensors
    low_rank_transposed: bool
    combine: Callable[[Tensor, Tensor, float], Rows]  # (base, given, alpha)


def _replace(_: Tensor, given: Tensor, __: float) -> Rows:
    return given.read_rows


def _blend_or_add(base: Tensor, given: Tensor, alpha: float) -> Rows:
    kept = np.float32(1.0 - alpha if _is_vector(base) else 1.0)
    share = np.float32(alpha)
    return lambda begin, end: (
        base.read_rows(begin, end) * kept + given.read_rows(begin, end) * share
    )


def _is_vector(tensor: Tensor) -> bool:
    return sum(n > 1 for n in tensor.shape) < 2


LAYOUTS = (
    Layout(".lora_A", ".lora_B", False, None, (), False, _replace),
    Layout(".lora_A.weight", ".lora_B.weight", False, None, (), False, _replace),
    Layout(
        ".lora.0",
        ".lora.1",
        True,
        1.0,
        ((".time_mix_", ".time_maa_"), (".time_first", ".time_faaaa")),
        True,
        _blend_or_add,
    ),
)


def with_loras(base: Checkpoint, adapters: Iterable[Adapter], *, rounded: bool) -> Checkpoint:
    """`base` with all adapters merged, one after the other.

    rounded: merged tensors get the type that they had; else they stay float32, to be quantized.
    """
    tensors = dict(base.tensors)
    merged: set[str] = set()
    for path, alpha in adapters:
        merged |= _merge(base, tensors, open_container(Path(path)), alpha)
    if rounded:
        for name in merged:
            tensors[name] = _with_type(tensors[name], base.tensors[name].type)
    return replace(base, tensors=tensors)


def _with_type(tensor: Tensor, type_name: str) -> Tensor:
    return Computed(tensor.name, type_name, tensor.shape, tensor.read_rows)


def _merge(
    base: Checkpoint, tensors: dict[str, Tensor], adapter: Container, alpha: float | None
) -> set[str]:
    """Merges one adapter into `tensors`; returns the names of those that changed."""
    layout = _layout(adapter)
    factors, others = _sorted_keys(adapter, layout)
    strength = _strength(adapter, layout, alpha, factors)
    changed: set[str] = set()
    for stem, (first, second) in factors.items():
        name = f"{stem}.weight"
        target = _target(base, tensors, adapter, name, first.name)
        tensors[name] = _added(adapter, target, first, second, strength, layout)
        changed.add(name)
    for key, given in others.items():
        name, own = _other(base, layout, key, given)
        target = _target(base, tensors, adapter, name, key)
        if own.n_elements != target.n_elements or (
            not _is_vector(target) and own.shape != target.shape
        ):
            raise ModelFormatError(
                f"{adapter.path}: {key} is {list(given.shape)}, "
                f"expected {list(target.shape)} as {name} of {base.path}"
            )
        own = Renamed(name, own, target.shape)
        tensors[name] = Computed(name, "F32", target.shape, layout.combine(target, own, strength))
        changed.add(name)
    return changed


def _layout(adapter: Container) -> Layout:
    for part, what in UNSUPPORTED:
        if any(part in name for name in adapter.tensors):
            raise UnsupportedError(f"{adapter.path}: is an adapter of kind {what}, expected LoRA")
    found = [
        layout
        for layout in LAYOUTS
        if any(name.endswith((layout.first, layout.second)) for name in adapter.tensors)
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(layout.first for layout in (found or LAYOUTS))
    kinds = "more than one layout" if found else "no LoRA"
    raise ModelFormatError(
        f"{adapter.path}: has {kinds}, expected names that end in one of {names}"
    )


Factors = dict[str, tuple[Tensor, Tensor]]


def _sorted_keys(adapter: Container, layout: Layout) -> tuple[Factors, Mapping[str, Tensor]]:
    """({X: (A, B)}, the other tensors)"""
    factors: Factors = {}
    others: dict[str, Tensor] = {}
    for key, tensor in adapter.tensors.items():
        if key.endswith((layout.first, layout.second)):
            stem = key.removesuffix(layout.first).removesuffix(layout.second)
            pair = [adapter.tensors.get(stem + end) for end in (layout.first, layout.second)]
            if pair[0] is None or pair[1] is None:
                raise ModelFormatError(
                    f"{adapter.path}: has {key} and not its other half, expected "
                    f"{stem}{layout.first} and {stem}{layout.second}"
                )
            factors[stem] = (pair[0], pair[1])
        else:
            others[key] = tensor
    return factors, others


def _strength(adapter: Container, layout: Layout, alpha: float | None, factors: Factors) -> float:
    if alpha is None:
        alpha = layout.default_alpha
    if alpha is None:
        rank = next(iter(factors.values()))[0].shape[0]
        raise ValueError(
            f"{adapter.path}: holds no alpha, and its rank is {rank}: give the alpha of the "
            f"training, FILE:ALPHA (often {rank}, {2 * rank} or 32)"
        )
    if not math.isfinite(alpha):
        raise ValueError(f"{adapter.path}: alpha is {alpha}, expected a number")
    return alpha


def _target(
    base: Checkpoint, tensors: Mapping[str, Tensor], adapter: Container, name: str, key: str
) -> Tensor:
    target = tensors.get(name)
    if target is None:
        raise ModelFormatError(
            f"{adapter.path}: {key} belongs to {name}, which {base.path} does not have: "
            "the LoRA was made for another model"
        )
    if not target.is_float:
        raise UnsupportedError(
            f"{base.path}: tensor {name} is {target.type}, and a LoRA is merged into float "
            "weights: use the model's F16, BF16 or F32 file, and type= to quantize it"
        )
    return target


def _added(
    adapter: Container,
    target: Tensor,
    first: Tensor,
    second: Tensor,
    strength: float,
    layout: Layout,
) -> Tensor:
    """W + (alpha / r) B A, some rows at a time."""
    down = transposed(first.name, first) if layout.first_transposed else first
    if len(down.shape) != 2 or len(second.shape) != 2 or len(target.shape) != 2:
        raise _wrong_shapes(adapter, target, first, second, layout)
    rank = down.shape[0]
    if down.shape != (rank, target.shape[1]) or second.shape != (target.shape[0], rank):
        raise _wrong_shapes(adapter, target, first, second, layout)
    scale = np.float32(strength / rank)

    def rows(begin: int, end: int) -> NDArray[np.float32]:
        product = (second.read_rows(begin, end) * scale) @ down.read()
        return np.asarray(target.read_rows(begin, end) + product, np.float32)

    return Computed(target.name, "F32", target.shape, rows)


def _wrong_shapes(
    adapter: Container, target: Tensor, first: Tensor, second: Tensor, layout: Layout
) -> ModelFormatError:
    inputs, outputs = target.shape[-1], target.shape[0]
    expected = f"[{inputs}, r]" if layout.first_transposed else f"[r, {inputs}]"
    return ModelFormatError(
        f"{adapter.path}: {first.name} is {list(first.shape)} and {second.name} is "
        f"{list(second.shape)}, expected {expected} and [{outputs}, r] for {target.name} "
        f"{list(target.shape)}"
    )


def _other(base: Checkpoint, layout: Layout, key: str, given: Tensor) -> tuple[str, Tensor]:
    """The official name and orientation of a tensor that is no factor."""
    name = key
    if base.version == "6":
        for old, new in layout.replacements:
            name = name.replace(old, new)
    patterns = (LOW_RANK_6, LOW_RANK_7, TIME_STATE)
    if layout.low_rank_transposed and any(p.fullmatch(name) for p in patterns):
        return name, transposed(name, given)
    return name, given

"""From a container's names and orientations to the official checkpoint's.

A naming is a list of replacements and the mark by which its files are known. Low-rank matrices are
[inputs, rank] in official files and [rank, inputs] in most others; for version 7, whose names do
not tell, the shapes do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.container import Container
from rwkvcpp.checkpoints.tensor import (
    Computed,
    Renamed,
    Slice,
    Stacked,
    Tensor,
    transposed,
)
from rwkvcpp.errors import ModelFormatError

Tensors = dict[str, Tensor]
Replacements = tuple[tuple[str, str], ...]

LOW_RANK_6 = re.compile(r"blocks\.\d+\.att\.(time_maa_w[12]|time_decay_w[12])")
LOW_RANK_7 = re.compile(r"blocks\.\d+\.att\.[wavg]([12])")
TIME_STATE = re.compile(r"blocks\.(\d+)\.att\.time_state")
LERP_SLICES_6 = "wkvrg"  # of time_maa_w1 and time_maa_w2
LERP_SLICES_7 = "rwkvag"

# ---- the replacements ----------------------------------------------------------------------------

_PROJECTIONS: Replacements = (
    (".r_proj.", ".receptance."),
    (".k_proj.", ".key."),
    (".v_proj.", ".value."),
    (".o_proj.", ".output."),
    (".g_norm.", ".ln_x."),
)
_TRANSFORMERS: Replacements = (  # Rwkv, Rwkv5 and Rwkv6ForCausalLM
    ("rwkv.embeddings.", "emb."),
    ("rwkv.ln_out.", "ln_out."),
    ("rwkv.blocks.0.pre_ln.", "blocks.0.ln0."),
    ("rwkv.blocks.", "blocks."),
    (".attention.", ".att."),
    (".feed_forward.", ".ffn."),
    (".time_mix_key", ".time_mix_k"),
    (".time_mix_value", ".time_mix_v"),
    (".time_mix_receptance", ".time_mix_r"),
    (".time_mix_gate", ".time_mix_g"),
)
_FLA: Replacements = (
    ("model.blocks.", "model.layers."),
    (".attention.", ".attn."),
    (".time_mixer.", "."),
    (".feed_forward.", ".ffn."),
    ("model.embeddings.", "emb."),
    ("model.norm.", "ln_out."),
    ("lm_head.", "head."),
    ("model.layers.0.pre_norm.", "blocks.0.ln0."),
    ("model.layers.", "blocks."),
    (".attn_norm.", ".ln1."),
    (".ffn_norm.", ".ln2."),
    (".feed_forward_norm.", ".ln2."),
    (".attn.", ".att."),
)
_FLA_7: Replacements = (
    *_FLA,
    *_PROJECTIONS,
    ("_lora.lora.0.weight", "1"),
    ("_lora.lora.2.weight", "2"),
    ("_lora.lora.2.bias", "0"),
)
_FLA_6: Replacements = (
    *_FLA,
    (".w_proj.linear.lora.0.weight", ".time_decay_w1"),
    (".w_proj.linear.lora.2.weight", ".time_decay_w2"),
    (".w_proj.linear.lora.2.bias", ".time_decay"),
    (".g_proj.", ".gate."),
    *_PROJECTIONS,
    (".linear.weight", ".weight"),
    (".x_proj.0.mu", ".time_maa_x"),
    (".bonus", ".time_faaaa"),
    (".ffn.key.mu", ".ffn.time_maa_k"),
    (".ffn.receptance.mu", ".ffn.time_maa_r"),
)
_RWKV_FOR_CAUSAL_LM: Replacements = (
    ("model.embed_tokens.", "emb."),
    ("model.embedding_norm.", "blocks.0.ln0."),
    ("model.norm.", "ln_out."),
    ("lm_head.", "head."),
    ("model.layers.", "blocks."),
    (".input_layernorm.", ".ln1."),
    (".post_attention_layernorm.", ".ln2."),
    (".linear_attn.", ".att."),
    (".mlp.", ".ffn."),
    *_PROJECTIONS,
)
_WEB_RWKV_6: Replacements = ((".time_mix_", ".time_maa_"), (".att.time_first", ".att.time_faaaa"))
_WEB_RWKV_5: Replacements = ((".att.time_first", ".att.time_faaaa"),)


@dataclass(frozen=True)
class Naming:
    """How some files spell a checkpoint."""

    name: str
    mark: Callable[[Mapping[str, Tensor]], bool]  # whether these tensors are spelled so
    replacements: Replacements = ()
    low_rank_transposed: bool = False
    rework: Callable[[Tensors], Tensors] = lambda tensors: tensors


def _has(*names: str) -> Callable[[Mapping[str, Tensor]], bool]:
    return lambda tensors: all(name in tensors for name in names)


def _any(part: str) -> Callable[[Mapping[str, Tensor]], bool]:
    return lambda tensors: any(part in name for name in tensors)


# ---- fused and reordered tensors -----------------------------------------------------------------


def _split_fused_lerps(tensors: Tensors) -> Tensors:
    """x_x [6, ..., C] of older fla files as x_r, x_w, x_k, x_v, x_a, x_g."""
    split: Tensors = {}
    for name, tensor in tensors.items():
        if name.endswith(".att.x_x"):
            _check_first(name, tensor, len(LERP_SLICES_7))
            for i, letter in enumerate(LERP_SLICES_7):
                own = f"{name[:-1]}{letter}"
                split[own] = Slice(own, tensor, i)
        else:
            split[name] = tensor
    return split


_FLA_6_ORDER = "rwkvg"


def _fla_6(tensors: Tensors) -> Tensors:
    """x_proj and x_bias hold the lerps in the order r, w, k, v, g; official is w, k, v, r, g."""
    official: Tensors = {}
    order = [_FLA_6_ORDER.index(letter) for letter in LERP_SLICES_6]
    for name, tensor in tensors.items():
        if name.endswith(".att.x_bias"):
            _check_first(name, tensor, len(order))
            for i, letter in zip(order, LERP_SLICES_6, strict=True):
                own = name.replace("x_bias", f"time_maa_{letter}")
                official[own] = Slice(own, tensor, i)
        elif name.endswith(".att.x_proj.0.weight"):
            own = name.replace("x_proj.0.weight", "time_maa_w1")
            official[own] = _reordered(own, tensor, order, axis=0)
        elif name.endswith(".att.x_proj.2.weight"):
            own = name.replace("x_proj.2.weight", "time_maa_w2")
            official[own] = _reordered(own, tensor, order, axis=1)
        else:
            official[name] = tensor
    return official


def _reordered(name: str, tensor: Tensor, order: list[int], axis: int) -> Tensor:
    """w1 [5R, C] in another order of its five parts; w2 [C, 5R] as [5, C, R]."""
    if len(tensor.shape) != 2 or tensor.shape[axis] % len(order):
        raise ModelFormatError(f"tensor {name} is {list(tensor.shape)}, expected five parts")
    rank = tensor.shape[axis] // len(order)
    shape = tensor.shape if axis == 0 else (len(order), tensor.shape[0], rank)

    def rows(begin: int, end: int) -> NDArray[np.float32]:
        parts = np.split(tensor.read(), len(order), axis=axis)
        chosen = [parts[i] for i in order]
        whole = np.concatenate(chosen) if axis == 0 else np.stack(chosen)
        return np.ascontiguousarray(whole[begin:end])

    return Computed(name, tensor.type if tensor.is_float else "F32", shape, rows)


def _check_first(name: str, tensor: Tensor, expected: int) -> None:
    if tensor.shape[0] != expected:
        raise ModelFormatError(
            f"tensor {name} is {list(tensor.shape)}, expected {expected} in its first dimension"
        )


# The first whose mark fits; the last fits everything.
NAMINGS = (
    Naming("transformers", _any("rwkv.blocks."), _TRANSFORMERS),
    Naming("fla, version 6", _any(".x_proj.0.mu"), _FLA_6, True, _fla_6),
    Naming("RwkvForCausalLM", _any(".linear_attn."), _RWKV_FOR_CAUSAL_LM),
    Naming("fla, version 7", _any("_lora.lora.0.weight"), _FLA_7, True, _split_fused_lerps),
    Naming("web-rwkv, version 6", _has("blocks.0.att.time_mix_x"), _WEB_RWKV_6, True),
    Naming(
        "web-rwkv, version 5",
        _has("blocks.0.att.time_first", "blocks.0.att.gate.weight"),
        _WEB_RWKV_5,
        True,
    ),
    Naming("official", lambda _: True),
)


def official(container: Container) -> Checkpoint:
    """The checkpoint in a container; its version is not looked for yet."""
    is_native = container.kind.startswith(("GGUF", "rwkv.cpp"))
    tensors = _from_native(container) if is_native else _from_names(container)
    is_6 = "blocks.0.att.time_maa_x" in tensors
    shaped = {name: _official_shape(name, tensor, is_6) for name, tensor in tensors.items()}
    return Checkpoint(
        container.path,
        container.kind,
        shaped,
        metadata=container.metadata,
        tokenizer_hint=container.tokenizer_hint,
        layer_norm_eps=_layer_norm_eps(container),
    )


def _from_names(container: Container) -> Tensors:
    naming = next(n for n in NAMINGS if n.mark(container.tensors))
    tensors: Tensors = {}
    for name, tensor in container.tensors.items():
        own = name
        for old, new in naming.replacements:
            own = own.replace(old, new)
        if own in tensors:
            raise ModelFormatError(
                f"{container.path}: has tensor {own} twice, as {name} and under another name"
            )
        tensors[own] = Renamed(own, tensor)
    tensors = naming.rework(tensors)
    low_rank_transposed = naming.low_rank_transposed or _is_transposed_7(container, tensors)
    if low_rank_transposed or _is_web_rwkv_state(container):
        return _with_low_rank_transposed(tensors)
    return tensors


def _is_web_rwkv_state(container: Container) -> bool:
    """A tuned state alone: only web-rwkv's converter puts one into safetensors."""
    return container.kind == "safetensors" and all(map(TIME_STATE.fullmatch, container.tensors))


def _is_transposed_7(container: Container, tensors: Tensors) -> bool:
    """Whether version 7's low-rank matrices are [rank, inputs]: those that are no square tell."""
    if "emb.weight" not in tensors or "blocks.0.att.r_k" not in tensors:
        return False
    n_embd = tensors["emb.weight"].shape[-1]
    votes: dict[bool, str] = {}
    for name, tensor in tensors.items():
        match = LOW_RANK_7.fullmatch(name)
        if match and len(tensor.shape) == 2 and tensor.shape[0] != tensor.shape[1]:
            inputs_first = tensor.shape[0 if match[1] == "1" else 1] == n_embd
            votes.setdefault(not inputs_first, name)
    if len(votes) == 2:
        raise ModelFormatError(
            f"{container.path}: tensor {votes[True]} is [rank, inputs] and {votes[False]} is "
            "[inputs, rank], expected all to be the same way round"
        )
    return True in votes


def _with_low_rank_transposed(tensors: Tensors) -> Tensors:
    """Files with these transposed have the tuned states [head][key][value], too: web-rwkv's."""
    patterns = (LOW_RANK_6, LOW_RANK_7, TIME_STATE)
    return {
        name: transposed(name, tensor) if any(p.fullmatch(name) for p in patterns) else tensor
        for name, tensor in tensors.items()
    }


# ---- GGUF and rwkv.cpp ---------------------------------------------------------------------------

UNUSED_7 = ("blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2")  # GGUF: copies of a0, a1, a2
_SLICE_6 = re.compile(r"(blocks\.\d+\.att\.time_maa_w2)\.[wkvrg]")
_RESCALED = re.compile(r"blocks\.(\d+)\.(?:att\.output|ffn\.value)\.weight")


def _from_native(container: Container) -> Tensors:
    """The core has the official names; matrices are [outputs, inputs] and lerps cut apart."""
    tensors: Tensors = {}
    for name, tensor in container.tensors.items():
        if match := _SLICE_6.fullmatch(name):
            if name.endswith(LERP_SLICES_6[0]):
                parts = [container.tensors[f"{match[1]}.{letter}"] for letter in LERP_SLICES_6]
                tensors[match[1]] = transposed(match[1], Stacked(match[1], parts))
        elif LOW_RANK_6.fullmatch(name) or LOW_RANK_7.fullmatch(name):
            tensors[name] = transposed(name, tensor)
        else:
            tensors[name] = tensor
    for name in UNUSED_7:
        tensors.pop(name, None)
    _split_heads(container, tensors)
    _undo_rescaling(container, tensors)
    _undo_decay(container, tensors)
    return tensors


def _split_heads(container: Container, tensors: Tensors) -> None:
    """r_k [C] as [heads, head size]."""
    for name, tensor in tensors.items():
        if name.endswith(".att.r_k") and container.head_size:
            shape = (tensor.n_elements // container.head_size, container.head_size)
            tensors[name] = Renamed(name, tensor, shape)


def _undo_rescaling(container: Container, tensors: Tensors) -> None:
    """llama.cpp divides the output matrices of version 6 by a power of two that grows."""
    if not container.rescale_every:
        return
    for name, tensor in tensors.items():
        match = _RESCALED.fullmatch(name)
        halvings = int(match[1]) // container.rescale_every if match else 0
        if halvings:
            tensors[name] = _scaled(name, tensor, 2**halvings)


def _scaled(name: str, tensor: Tensor, factor: int) -> Tensor:
    type_name = tensor.type if tensor.is_float else "F32"

    def rows(begin: int, end: int) -> NDArray[np.float32]:
        return tensor.read_rows(begin, end) * np.float32(factor)

    return Computed(name, type_name, tensor.shape, rows)


def _undo_decay(container: Container, tensors: Tensors) -> None:
    """rwkv.cpp stores what it needs: v4's decay after -exp(), v5's after exp(-exp()), and v5.0's
    time_first after exp(). Taken back in float64, a decay that was rounded to 0 or 1 becomes
    infinite; the others differ from the original by less than the rounding that they went through.
    """
    if not container.decay_applied:
        return
    has_heads = "blocks.0.att.ln_x.weight" in tensors
    for name, tensor in tensors.items():
        if name.endswith(".att.time_decay"):
            tensors[name] = _inverted(name, tensor, _raw_decay_5 if has_heads else _raw_decay_4)
        elif name.endswith(".att.time_first") and has_heads:
            tensors[name] = _inverted(name, tensor, np.log)


def _raw_decay_4(decay: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(-decay))


def _raw_decay_5(decay: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(-np.log(decay)))


def _inverted(
    name: str, tensor: Tensor, inverse: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Tensor:
    def rows(begin: int, end: int) -> NDArray[np.float32]:
        with np.errstate(divide="ignore"):
            return inverse(tensor.read_rows(begin, end).astype(np.float64)).astype(np.float32)

    return Computed(name, "F32", tensor.shape, rows)


# ---- shapes --------------------------------------------------------------------------------------

_LERP = re.compile(
    r"blocks\.\d+\.(att\.(time_mix_[kvrg]|time_maa_[xwkvrg]|x_[rwkvag]|[wav]0|k_[ka])"
    r"|ffn\.(time_mix_[kr]|time_maa_[kr]|x_k))"
)
_DECAY = re.compile(r"blocks\.\d+\.att\.time_decay")


def _official_shape(name: str, tensor: Tensor, is_6: bool) -> Tensor:
    """Lerps and biases are [1, 1, C], whatever dimensions of 1 the file has or lacks."""
    shape = (1, 1, tensor.n_elements)
    is_lerp = _LERP.fullmatch(name) or (is_6 and _DECAY.fullmatch(name))
    return Renamed(name, tensor, shape) if is_lerp and tensor.shape != shape else tensor


def _layer_norm_eps(container: Container) -> float:
    """From an HF config or a GGUF key; 1e-5 is official."""
    for key, value in container.metadata.items():
        if key.rpartition(".")[2] in ("layer_norm_epsilon", "norm_eps"):
            if isinstance(value, float) and 0 <= value < 1:
                return value
            raise ModelFormatError(f"{container.path}: {key} is {value!r}, expected 0 to 1")
    return 1e-5

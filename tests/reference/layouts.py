"""How rwkv.cpp's .bin and GGUF spell an official checkpoint, and the way back.

rwkv.cpp keeps the names, applies exp() to decays and turns low-rank matrices into [rank, inputs].
llama.cpp has names of its own, fuses the lerps and leaves decays raw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference.rwkv_numpy import detect_version, double_exp_decay

Tensor = NDArray[Any]
Tensors = Mapping[str, Tensor]

LOW_RANK = re.compile(r"\.att\.([wavg][12]|time_maa_w[12]|time_decay_w[12])$")
LERPS_7 = "rwkvag"
LERPS_6 = "wkvrg"


def is_low_rank(name: str) -> bool:
    return LOW_RANK.search(name) is not None


# ---- rwkv.cpp --------------------------------------------------------------------------------


def to_bin(checkpoint: Tensors) -> Iterator[tuple[str, Tensor]]:
    """(name, array in torch's dimension order) as rwkv.cpp's converter writes them."""
    version = detect_version(checkpoint)
    for name, tensor in checkpoint.items():
        if match := re.fullmatch(r"(blocks\.\d+\.att\.x_)r", name):
            fused = [checkpoint[match[1] + q] for q in LERPS_7]
            yield f"{match[1]}rwkvag", np.concatenate(fused).reshape(6, 1, -1)
        elif not re.fullmatch(r"blocks\.\d+\.att\.x_[wkvag]", name):
            yield name, _to_bin(checkpoint, version, name, tensor)


def _to_bin(checkpoint: Tensors, version: str, name: str, tensor: Tensor) -> Tensor:
    if name.endswith("att.time_decay"):
        if version == "6":
            return tensor.reshape(*checkpoint["blocks.0.att.time_faaaa"].shape, 1)
        return _decay_to_bin(version, tensor)
    if name.endswith("att.time_first") and version == "5.0":
        return np.exp(tensor).reshape(-1, 1, 1)
    if name.endswith("att.time_faaaa"):
        return tensor[..., None]
    if is_low_rank(name):
        return np.ascontiguousarray(tensor.swapaxes(-1, -2))
    return tensor.squeeze() if ".time_" in name else tensor


def _decay_to_bin(version: str, tensor: Tensor) -> Tensor:
    if version == "4":
        return -np.exp(tensor)
    if version == "5.0":
        return double_exp_decay(tensor).reshape(-1, 1, 1)
    return double_exp_decay(tensor)[..., None]  # 5.1: [H, 1]; 5.2: [H, N, 1]


def from_bin(stored: Tensors) -> dict[str, Tensor]:
    """The official checkpoint that a .bin file was made from; decays are taken back by log()."""
    version = detect_version({name: _without_last_one(t) for name, t in stored.items()})
    checkpoint: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith("att.x_rwkvag"):
            prefix = name.removesuffix("rwkvag")
            checkpoint |= {prefix + q: tensor[i].reshape(-1) for i, q in enumerate(LERPS_7)}
        else:
            checkpoint[name] = _from_bin(version, name, tensor)
    return checkpoint


def _without_last_one(tensor: Tensor) -> Tensor:
    return tensor[..., 0] if tensor.ndim == 3 and tensor.shape[-1] == 1 else tensor


def _from_bin(version: str, name: str, tensor: Tensor) -> Tensor:
    if name.endswith("att.time_decay") and version != "6":
        # A decay that was rounded to 0 or 1 has an infinite raw value, and exp() takes it back.
        with np.errstate(divide="ignore"):
            raw = np.log(-tensor) if version == "4" else np.log(-np.log(tensor))
        return raw if version == "4" else raw.reshape(len(raw), -1)
    if name.endswith("att.time_first") and version == "5.0":
        return np.log(tensor).reshape(-1)
    if name.endswith("att.time_faaaa"):
        return tensor.reshape(len(tensor), -1)
    return tensor.swapaxes(-1, -2) if is_low_rank(name) else tensor


# ---- GGUF ------------------------------------------------------------------------------------

GGUF_WHOLE = {
    "emb": "token_embd",
    "blocks.0.ln0": "token_embd_norm",
    "ln_out": "output_norm",
    "head": "output",
}
GGUF_BLOCK = {
    "ln1": "attn_norm",
    "ln2": "attn_norm_2",
    "att.ln_x": "time_mix_ln",
    "att.receptance": "time_mix_receptance",
    "att.key": "time_mix_key",
    "att.value": "time_mix_value",
    "att.gate": "time_mix_gate",
    "att.output": "time_mix_output",
    "ffn.key": "channel_mix_key",
    "ffn.value": "channel_mix_value",
    "ffn.receptance": "channel_mix_receptance",
}
GGUF_BLOCK_6 = {
    "att.time_maa_x": "time_mix_lerp_x",
    "att.time_maa_w1": "time_mix_w1",
    "att.time_maa_w2": "time_mix_w2",
    "att.time_faaaa": "time_mix_first",
    "att.time_decay": "time_mix_decay",
    "att.time_decay_w1": "time_mix_decay_w1",
    "att.time_decay_w2": "time_mix_decay_w2",
    "ffn.time_maa_k": "channel_mix_lerp_k",
    "ffn.time_maa_r": "channel_mix_lerp_r",
    **{f"att.time_maa_{q}": f"time_mix_lerp_{q}" for q in LERPS_6},
}
GGUF_BLOCK_7 = {
    **{f"att.{q}": f"time_mix_{q}" for q in ("k_k", "k_a", "r_k", "w0", "a0", "v0")},
    **{f"att.{q}{i}": f"time_mix_{q}{i}" for q in "wavg" for i in (1, 2)},
    "ffn.x_k": "channel_mix_lerp_k",
}
GGUF_BLOCKS = {"6": {**GGUF_BLOCK, **GGUF_BLOCK_6}, "7": {**GGUF_BLOCK, **GGUF_BLOCK_7}}
FUSED = {"6": ("att.time_maa_", LERPS_6), "7": ("att.x_", LERPS_7)}


def gguf_name(version: str, name: str) -> str:
    """The name in a rwkv6 or rwkv7 file; tensors without a suffix get ".weight"."""
    stem, _, suffix = name.rpartition(".")
    if suffix not in ("weight", "bias"):
        stem, suffix = name, "weight"
    if stem in GGUF_WHOLE:
        return f"{GGUF_WHOLE[stem]}.{suffix}"
    _, block, short = stem.split(".", 2)
    return f"blk.{block}.{GGUF_BLOCKS[version][short]}.{suffix}"


def to_gguf(
    checkpoint: Tensors, *, fused_lerps: bool = True, rescale_every: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """(GGUF name, array in NumPy's dimension order) as llama.cpp's converter writes them.

    fused_lerps: files from before `time_mix_lerp_fused` have one vector per lerp (v6 only).
    rescale_every: divides the output matrices of layer i by 2^(i // rescale_every) (v6 only).
    """
    version = detect_version(checkpoint)
    prefix, letters = FUSED[version]
    for name, tensor in checkpoint.items():
        match = re.fullmatch(rf"(blocks\.(\d+)\.){re.escape(prefix)}([{letters}])", name)
        if match and fused_lerps:
            if match[3] == letters[0]:
                lerps = [checkpoint[f"{match[1]}{prefix}{q}"].reshape(1, 1, -1) for q in letters]
                yield f"blk.{match[2]}.time_mix_lerp_fused.weight", np.stack(lerps)
        else:
            stored = _to_gguf(checkpoint, name, tensor)
            yield gguf_name(version, name), _rescaled(stored, name, rescale_every)


def _rescaled(tensor: Tensor, name: str, rescale_every: int) -> Tensor:
    match = re.fullmatch(r"blocks\.(\d+)\.(att\.output|ffn\.value)\.weight", name)
    if not match or not rescale_every:
        return tensor
    return tensor / np.float32(2 ** (int(match[1]) // rescale_every))


def _to_gguf(checkpoint: Tensors, name: str, tensor: Tensor) -> Tensor:
    if name.startswith("blocks.0.att.v") and name[-1] in "012":
        # The converter fills the unused tensors of layer 0 with copies of a0, a1 and a2.
        tensor = checkpoint[f"blocks.0.att.a{name[-1]}"]
    if is_low_rank(name):
        return np.ascontiguousarray(tensor.swapaxes(-1, -2))
    if name.endswith("att.r_k"):
        return tensor.reshape(-1)
    return tensor.reshape(-1) if tensor.ndim == 3 else tensor


def from_gguf(version: str, stored: Tensors, head_size: int) -> dict[str, Tensor]:
    """The official checkpoint. A rescaled file's matrices stay divided."""
    prefix, letters = FUSED[version]
    n_blocks = 1 + max(int(name.split(".")[1]) for name in stored if name.startswith("blk."))
    official = _official_names(version, n_blocks)
    checkpoint: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if match := re.fullmatch(r"blk\.(\d+)\.time_mix_lerp_fused\.weight", name):
            lerps = tensor.reshape(len(letters), -1)
            checkpoint |= {
                f"blocks.{match[1]}.{prefix}{q}": lerps[i] for i, q in enumerate(letters)
            }
            continue
        own = official[name]
        if own.endswith("att.r_k"):
            tensor = tensor.reshape(-1, head_size)
        checkpoint[own] = tensor.swapaxes(-1, -2) if is_low_rank(own) else tensor
    return checkpoint


def _official_names(version: str, n_blocks: int) -> dict[str, str]:
    """GGUF name -> official name, for every tensor that a file may hold."""
    names = [f"{stem}.{suffix}" for stem in GGUF_WHOLE for suffix in ("weight", "bias")]
    for i in range(n_blocks):
        for short in GGUF_BLOCK:
            names += [f"blocks.{i}.{short}.weight", f"blocks.{i}.{short}.bias"]
        names += [f"blocks.{i}.{short}" for short in GGUF_BLOCKS[version].keys() - GGUF_BLOCK]
    return {gguf_name(version, name): name for name in names}

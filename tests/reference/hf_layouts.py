"""How Hugging Face folders and web-rwkv spell an official checkpoint.

Written from the formats, apart from the tables that the package reads them with: names as the
models' own classes have them, low-rank matrices as nn.Linear stores them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.reference.layouts import Tensor, Tensors

DTYPES = {"F32": np.float32, "F16": np.float16}


def write_safetensors(
    path: Path,
    tensors: Tensors,
    type_name: str,
    metadata: dict[str, str] | None = None,
) -> Path:
    """With the safetensors library."""
    dtype = DTYPES[type_name]
    arrays = {name: np.ascontiguousarray(array, dtype) for name, array in tensors.items()}
    path.write_bytes(safetensors.numpy.save(arrays, metadata))
    return path


def write_folder(
    folder: Path,
    tensors: Tensors,
    type_name: str,
    config: Mapping[str, Any],
    *,
    shards: int = 1,
) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(config)))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, type_name)
        return folder
    names = list(tensors)
    weight_map = {}
    for i in range(shards):
        shard = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        own = {name: tensors[name] for name in names[i::shards]}
        write_safetensors(folder / shard, own, type_name)
        weight_map |= {name: shard for name in own}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


# ---- transformers: Rwkv, Rwkv5 and Rwkv6ForCausalLM -------------------------------------------

_LONG = {"k": "key", "v": "value", "r": "receptance", "g": "gate"}


def transformers(checkpoint: Tensors) -> dict[str, Tensor]:
    return {_transformers_name(name): tensor for name, tensor in checkpoint.items()}


def _transformers_name(name: str) -> str:
    if name.startswith("head."):
        return name
    name = name.replace("emb.", "embeddings.").replace("blocks.0.ln0.", "blocks.0.pre_ln.")
    name = name.replace(".att.", ".attention.").replace(".ffn.", ".feed_forward.")
    if match := re.fullmatch(r"(.*\.time_mix_)([kvrg])", name):
        name = match[1] + _LONG[match[2]]
    return "rwkv." + name


# ---- fla ------------------------------------------------------------------------------------

_STEMS = {
    "att.receptance": "attn.r_proj",
    "att.key": "attn.k_proj",
    "att.value": "attn.v_proj",
    "att.output": "attn.o_proj",
    "att.ln_x": "attn.g_norm",
    "ln1": "attn_norm",
    "ln2": "ffn_norm",
}
_WHOLE = {
    "emb": "model.embeddings",
    "blocks.0.ln0": "model.layers.0.pre_norm",
    "ln_out": "model.norm",
    "head": "lm_head",
}


def _fla_name(name: str) -> str | None:
    stem, _, suffix = name.rpartition(".")
    if stem in _WHOLE:
        return f"{_WHOLE[stem]}.{suffix}"
    _, block, rest = name.split(".", 2)
    stem, _, suffix = rest.rpartition(".")
    if stem in _STEMS:
        return f"model.layers.{block}.{_STEMS[stem]}.{suffix}"
    return None


def fla_7(checkpoint: Tensors, *, fused_lerps: bool = False) -> dict[str, Tensor]:
    """RWKV7ForCausalLM; older folders have the six lerps in one tensor x_x."""
    found: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        if own := _fla_name(name):
            found[own] = tensor
            continue
        _, block, rest = name.split(".", 2)
        layer = f"model.layers.{block}."
        if rest.startswith("att.v") and block == "0":
            continue  # newer fla has no value residual in the first layer
        if match := re.fullmatch(r"att\.([wavg])([012])", rest):
            part = {"0": "2.bias", "1": "0.weight", "2": "2.weight"}[match[2]]
            own = f"{layer}attn.{match[1]}_lora.lora.{part}"
            found[own] = tensor.reshape(-1) if match[2] == "0" else tensor.T
        elif fused_lerps and re.fullmatch(r"att\.x_[rwkvag]", rest):
            if rest.endswith("r"):
                rows = [checkpoint[f"blocks.{block}.att.x_{q}"].reshape(-1) for q in "rwkvag"]
                found[f"{layer}attn.x_x"] = np.stack(rows)
        elif rest in ("att.k_k", "att.k_a", "ffn.x_k"):
            found[layer + rest.replace("att.", "attn.")] = tensor.reshape(-1)
        else:
            found[layer + rest.replace("att.", "attn.")] = tensor
    return found


def fla_6(checkpoint: Tensors) -> dict[str, Tensor]:
    """RWKV6ForCausalLM: lerps in the order r, w, k, v, g."""
    found: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        if own := _fla_name(name):
            found[own] = tensor
            continue
        _, block, rest = name.split(".", 2)
        layer = f"model.layers.{block}."
        plain = {
            "att.time_maa_x": "attn.x_proj.0.mu",
            "att.time_faaaa": "attn.bonus",
            "att.time_decay": "attn.w_proj.linear.lora.2.bias",
            "att.time_decay_w1": "attn.w_proj.linear.lora.0.weight",
            "att.time_decay_w2": "attn.w_proj.linear.lora.2.weight",
            "att.gate.weight": "attn.g_proj.linear.weight",
            "ffn.time_maa_k": "ffn.key.mu",
            "ffn.time_maa_r": "ffn.receptance.mu",
            "ffn.key.weight": "ffn.key.linear.weight",
            "ffn.receptance.weight": "ffn.receptance.linear.weight",
            "ffn.value.weight": "ffn.value.weight",
        }
        if rest in plain:
            flat = tensor.reshape(-1) if tensor.shape[:2] == (1, 1) else tensor
            found[layer + plain[rest]] = flat.T if "decay_w" in rest else flat
        elif rest == "att.time_maa_w1":
            parts = dict(zip("wkvrg", np.split(tensor, 5, axis=1), strict=True))
            found[f"{layer}attn.x_proj.0.linear.weight"] = np.concatenate(
                [parts[q].T for q in "rwkvg"]
            )
        elif rest == "att.time_maa_w2":
            slices = dict(zip("wkvrg", tensor, strict=True))
            found[f"{layer}attn.x_proj.2.weight"] = np.concatenate(
                [slices[q].T for q in "rwkvg"], axis=1
            )
        elif rest == "att.time_maa_w":
            lerps = [checkpoint[f"blocks.{block}.att.time_maa_{q}"].reshape(-1) for q in "rwkvg"]
            found[f"{layer}attn.x_bias"] = np.stack(lerps)
    projections = re.compile(r"(.*\.[rkv]_proj)\.weight")
    return {projections.sub(r"\1.linear.weight", name): tensor for name, tensor in found.items()}


# ---- RwkvForCausalLM ---------------------------------------------------------------------------


def rwkv_for_causal_lm(checkpoint: Tensors) -> dict[str, Tensor]:
    names = {
        "emb.": "model.embed_tokens.",
        "blocks.0.ln0.": "model.embedding_norm.",
        "ln_out.": "model.norm.",
        "head.": "lm_head.",
        "blocks.": "model.layers.",
        ".ln1.": ".input_layernorm.",
        ".ln2.": ".post_attention_layernorm.",
        ".att.receptance.": ".att.r_proj.",
        ".att.key.": ".att.k_proj.",
        ".att.value.": ".att.v_proj.",
        ".att.output.": ".att.o_proj.",
        ".att.ln_x.": ".att.g_norm.",
        ".att.": ".linear_attn.",
        ".ffn.": ".mlp.",
    }
    found: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        if re.fullmatch(r"blocks\.0\.att\.v[012]", name):
            continue
        for old, new in names.items():
            name = name.replace(old, new)
        found[name] = tensor
    return found


# ---- web-rwkv ----------------------------------------------------------------------------------

_WEB_TRANSPOSED = re.compile(
    r"\.att\.(time_mix_w[12]|time_decay_w[12]|[wavg][12]|time_state)$|\.lora\.0$"
)


def web_rwkv(checkpoint: Tensors, version: str) -> dict[str, Tensor]:
    """The .st of web-rwkv's converter."""
    found: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        own = name.lower().replace("time_faaaa", "time_first").replace("time_maa", "time_mix")
        own = own.replace("lora_a", "lora.0").replace("lora_b", "lora.1")
        if version == "5.1" and own.endswith(("att.time_decay", "att.time_first")):
            n_embd = checkpoint["ln_out.weight"].shape[0]
            tensor = np.repeat(tensor[:, None], n_embd // len(tensor), axis=1)
        if _WEB_TRANSPOSED.search(own):
            tensor = np.ascontiguousarray(tensor.swapaxes(-1, -2))
        found[own] = tensor
    return found

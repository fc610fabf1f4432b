"""Makes the Hugging Face folders in checkpoints/ and their logits with the libraries' own classes.

    pip install torch==2.13.0 transformers==4.57.6 flash-linear-attention==0.5.2 triton==3.5.1 \
        numpy==2.2.6
    python -m tests.data.make_hf_folders

The classes refuse tensors of other names or shapes than theirs. fla's kernels are written for GPUs;
Triton interprets them here.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import triton.runtime.autotuner as autotuner
from fla.models import RWKV6Config, RWKV6ForCausalLM, RWKV7Config, RWKV7ForCausalLM
from transformers import RwkvConfig, RwkvForCausalLM

from tests.data import hf_folders
from tests.data.checkpoint_files import SIZES
from tests.reference import hf_layouts

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SHARD = "24KB"

COMMON = {
    "vocab_size": SIZES.n_vocab,
    "hidden_size": SIZES.n_embd,
    "num_hidden_layers": SIZES.n_layer,
    "intermediate_size": SIZES.n_ffn,
}
PLAIN = {"norm_first": True, "fuse_norm": False, "fuse_cross_entropy": False}


def rwkv4() -> Any:
    return RwkvForCausalLM(RwkvConfig(**COMMON, context_length=64, rescale_every=0))


def rwkv6() -> Any:
    config = RWKV6Config(
        **COMMON,
        **PLAIN,
        num_heads=SIZES.n_head,
        expand_k=1.0,
        proj_low_rank_dim=SIZES.lerp_rank,
        gate_low_rank_dim=SIZES.decay_rank,  # which fla names after another matrix
        attn_mode="fused_recurrent",
    )
    return RWKV6ForCausalLM(config)


def rwkv7() -> Any:
    config = RWKV7Config(
        **COMMON,
        **PLAIN,
        head_dim=SIZES.head_size,
        decay_low_rank_dim=SIZES.decay_rank,
        a_low_rank_dim=SIZES.rate_rank,
        v_low_rank_dim=SIZES.value_rank,
        gate_low_rank_dim=SIZES.gate_rank,
        attn_mode="fused_recurrent",
    )
    return RWKV7ForCausalLM(config)


MODELS = {
    "4": (rwkv4, hf_layouts.transformers),
    "6": (rwkv6, hf_layouts.fla_6),
    "7": (rwkv7, hf_layouts.fla_7),
}


def make(name: str) -> None:
    made = hf_folders.FOLDERS[name]
    build, spell = MODELS[made.version]
    model = build().eval()
    tensors = {k: torch.from_numpy(a.copy()) for k, a in spell(hf_folders.expected(name)).items()}
    model.load_state_dict(tensors, strict=True)
    with torch.no_grad():
        logits = model(torch.tensor([hf_folders.TOKENS]), use_cache=False).logits[0]
    folder = hf_folders.path(name)
    zipped = name.endswith("-bin")
    model.to(DTYPES[made.type]).save_pretrained(
        folder, max_shard_size=SHARD, safe_serialization=not zipped
    )
    np.save(folder / "logits.npy", logits.numpy())


def without_tuning(self: Any, *arguments: Any, **options: Any) -> Any:
    """The first of an autotuner's configurations: there is no GPU to measure on."""
    return self.fn.run(*arguments, **{**options, **self.configs[0].all_kwargs()})


def main() -> None:
    autotuner.Autotuner.run = without_tuning
    for name in hf_folders.FOLDERS:
        make(name)
        print(name, sorted(path.name for path in hf_folders.path(name).iterdir()))


if __name__ == "__main__":
    main()

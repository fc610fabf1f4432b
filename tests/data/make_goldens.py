"""Makes the goldens: logits and states of the torch package `rwkv` on random checkpoints.

    pip install rwkv==0.8.32 torch==2.13.0
    python -m tests.data.make_goldens

The package is told by the environment, once per process, whether it runs version 7; so each golden
is made in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

from tests.data import goldens

STATE_PARTS = ("att.x", "att.wkv", "ffn.x")  # of each layer, as the package lists them
STATE_PARTS_4 = ("att.x", "att.aa", "att.bb", "att.pp", "ffn.x")


def make(version: str) -> None:
    """Runs the checkpoint one token at a time and stores what came out."""
    import torch
    from rwkv.model import RWKV

    checkpoint = goldens.checkpoint(version)
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / "checkpoint"
        tensors = {name: torch.from_numpy(a) for name, a in checkpoint.items()}
        torch.save(tensors, stem.with_suffix(".pth"))
        model = RWKV(model=str(stem), strategy="cpu fp32")
        state, rows = None, []
        for token in goldens.tokens():
            logits, state = model.forward([token], state)
            rows.append(logits.float().numpy().copy())

    parts = STATE_PARTS_4 if version == "4" else STATE_PARTS
    names = [f"blocks.{i}.{part}" for i in range(goldens.SIZES.n_layer) for part in parts]
    arrays = {name: part.float().numpy() for name, part in zip(names, state, strict=True)}
    np.savez_compressed(
        goldens.path(version),
        checkpoint_crc=np.int64(checkpoint.crc()),
        made_with=f"rwkv {metadata.version('rwkv')}, torch {torch.__version__}",
        tokens=np.array(goldens.tokens()),
        logits=np.stack(rows),
        **arrays,
    )


def main() -> None:
    if len(sys.argv) == 2:
        make(sys.argv[1])
        return
    for version in goldens.VERSIONS:
        env = {**os.environ, "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}
        env["RWKV_V7_ON"] = "1" if version == "7" else "0"
        subprocess.run([sys.executable, "-m", __spec__.name, version], env=env, check=True)


if __name__ == "__main__":
    main()

"""Makes the goldens of tuned states: logits of the torch package `rwkv`, and the states' files.

    pip install rwkv==0.8.32 torch==2.13.0
    python -m tests.data.make_tuned_goldens

For versions 5 and 6 the package finds the state in the model's own file and turns it itself. For
version 7 it takes the matrices as its state, which are [head][value][key] there as in the file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.data import tuned_goldens


def make(version: str, out: Path) -> None:
    """Runs the checkpoint from its tuned state, one token at a time."""
    import torch
    from rwkv.model import RWKV

    tuned = {k: torch.from_numpy(a) for k, a in tuned_goldens.time_states(version).items()}
    bf16 = {name: tensor.to(torch.bfloat16) for name, tensor in tuned.items()}
    torch.save(bf16, tuned_goldens.path(version))
    if version == "7":
        legacy = tuned_goldens.path(version, legacy=True)
        torch.save(bf16, legacy, _use_new_zipfile_serialization=False)

    checkpoint = tuned_goldens.checkpoint(version)
    tensors = {name: torch.from_numpy(a) for name, a in checkpoint.items()}
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / "checkpoint"
        torch.save(tensors if version == "7" else tensors | tuned, stem.with_suffix(".pth"))
        model = RWKV(model=str(stem), strategy="cpu fp32")
        state = _state_7(list(tuned.values())) if version == "7" else None
        rows = []
        for token in tuned_goldens.TOKENS:
            logits, state = model.forward([token], state)
            rows.append(logits.float().numpy().copy())
    np.savez(out, logits=np.stack(rows), crc=np.int64(checkpoint.crc()))


def _state_7(matrices: list[object]) -> list[object]:
    import torch

    nothing = torch.zeros(tuned_goldens.SIZES.n_embd)
    return [part for matrix in matrices for part in (nothing.clone(), matrix, nothing.clone())]


def main() -> None:
    if len(sys.argv) == 3:
        make(sys.argv[1], Path(sys.argv[2]))
        return
    stored = {}
    for version in tuned_goldens.VERSIONS:
        env = {**os.environ, "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}
        env["RWKV_V7_ON"] = "1" if version == "7" else "0"
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "golden.npz"
            command = [sys.executable, "-m", __spec__.name, version, str(out)]
            subprocess.run(command, env=env, check=True)
            with np.load(out) as golden:
                stored[f"logits-{version}"] = golden["logits"]
                stored[f"crc-{version}"] = golden["crc"]
    np.savez_compressed(tuned_goldens.LOGITS, **stored)


if __name__ == "__main__":
    main()

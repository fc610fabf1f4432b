"""Makes checkpoints/: small models and views of tensors as torch and safetensors save them.

pip install torch==2.13.0 safetensors==0.8.0
python -m tests.data.make_checkpoint_files
"""

from __future__ import annotations

import torch
from safetensors.torch import save_file

from tests.data import checkpoint_files

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def save_models() -> None:
    for name, made in checkpoint_files.FILES.items():
        tensors = {
            key: torch.from_numpy(array.copy()).to(DTYPES[made.type])
            for key, array in checkpoint_files.expected(name).items()
        }
        if "parameters" in name:
            tensors = {key: torch.nn.Parameter(tensor) for key, tensor in tensors.items()}
        path = checkpoint_files.path(name)
        if path.suffix == ".safetensors":
            save_file(tensors, path)
        else:
            torch.save(tensors, path, _use_new_zipfile_serialization=made.zipped)


def save_views() -> None:
    base = torch.arange(60, dtype=torch.float32)
    grid = base.view(6, 10)
    views = {
        "whole": grid,
        "transposed": grid.T,
        "rows": grid[2:5],
        "columns": grid[:, 3:7],
        "every second row": grid[::2],
        "cube": base.view(3, 4, 5),
        "cube, last first": base.view(3, 4, 5).permute(2, 0, 1),
        "other": torch.full((2, 3), 0.5),
    }
    torch.save(views, checkpoint_files.path("views.pth"))


def main() -> None:
    checkpoint_files.FOLDER.mkdir(exist_ok=True)
    save_models()
    save_views()


if __name__ == "__main__":
    main()

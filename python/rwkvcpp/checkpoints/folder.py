"""A Hugging Face folder: weights in one file or in shards, config.json, perhaps a vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rwkvcpp.checkpoints.container import Container
from rwkvcpp.checkpoints.data_file import DataFile
from rwkvcpp.checkpoints.safetensors import json_object, read_index
from rwkvcpp.checkpoints.tensor import Tensor
from rwkvcpp.errors import ModelFormatError, UnsupportedError

OpenFile = Callable[[Path], Container]

# The first that is there holds the weights.
WEIGHTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
LONE_WEIGHTS = (".safetensors", ".st", ".pth")  # a folder that holds one file of these
VOCABULARIES = ("rwkv_vocab*.txt", "tokenizer.json")
LARGEST_CONFIG = 2**20


def read_folder(folder: Path, open_file: OpenFile) -> Container:
    """The weights of the folder, with its config as metadata."""
    found = open_file(_weights(folder))
    config = folder / "config.json"
    metadata = _config(config) if config.is_file() else {}
    return replace(
        found,
        path=folder,
        kind=f"folder of {found.kind}",
        metadata=metadata,
        tokenizer_hint=_vocabulary(folder),
    )


def _weights(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    lone = sorted(p for p in folder.iterdir() if p.suffix in LONE_WEIGHTS and p.is_file())
    if len(lone) == 1:
        return lone[0]
    several = f", and {len(lone)} files of weights: name one of them" if lone else ""
    raise UnsupportedError(f"{folder}: holds none of {', '.join(WEIGHTS)}{several}")


def _config(path: Path) -> dict[str, object]:
    file = DataFile(path)
    if file.size > LARGEST_CONFIG:
        raise ModelFormatError(f"{path}: has {file.size} bytes, expected the config of a model")
    return json_object(file.read(0, file.size), str(path))


def _vocabulary(folder: Path) -> Path | None:
    for pattern in VOCABULARIES:
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    return None


def read_shards(index: DataFile, open_file: OpenFile) -> Container:
    """Tensors from all the files that an index names, in the index's order."""
    folder, weight_map = read_index(index)
    shards: dict[str, Container] = {}
    for shard in weight_map.values():
        if shard not in shards:
            shards[shard] = _shard(index, folder / shard, open_file)
    tensors: dict[str, Tensor] = {}
    for name, shard in weight_map.items():
        if name not in shards[shard].tensors:
            raise ModelFormatError(f"{folder / shard}: has no tensor {name}, which the index names")
        tensors[name] = shards[shard].tensors[name]
    for shard, found in shards.items():
        for name in found.tensors:
            if weight_map.get(name) != shard:
                raise ModelFormatError(
                    f"{folder / shard}: has tensor {name}, which the index has elsewhere"
                )
    kinds = {found.kind for found in shards.values()}
    return Container(index.path, f"{len(shards)} shards of {', '.join(sorted(kinds))}", tensors)


def _shard(index: DataFile, path: Path, open_file: OpenFile) -> Container:
    if path.is_file():
        return open_file(path)
    raise ModelFormatError(f"{index.path}: shard {path.name} is missing from the folder")

"""Folders that transformers' and fla's own classes wrote: read right, and computed as they do."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp.checkpoints import open_checkpoint
from rwkvcpp.convert import convert
from tests.data import hf_folders
from tests.python.test_models import FLOAT32_TOLERANCE
from tests.reference.compare import worst_per_rms
from tests.reference.layouts import Tensor

UNUSED = ("blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2")


def logits(name: str, path: object = None) -> Tensor:
    model = rwkvcpp.Model(
        path or hf_folders.path(name),
        activations="float32",
        group_norm_eps=hf_folders.FOLDERS[name].group_norm_eps,
    )
    return model.forward(hf_folders.TOKENS, model.initial_state(), all_logits=True)


@pytest.mark.parametrize("name", hf_folders.FOLDERS)
def test_folders_hold_the_numbers_that_the_library_was_given(name):
    expected = hf_folders.expected(name)
    found = open_checkpoint(hf_folders.path(name))
    assert found.version == hf_folders.FOLDERS[name].version
    assert set(found.tensors) == set(expected) - set(UNUSED)
    for key, tensor in found.tensors.items():
        assert tensor.type == hf_folders.FOLDERS[name].type
        assert np.array_equal(tensor.read(), expected[key]), key


@pytest.mark.parametrize("name", hf_folders.FOLDERS)
def test_logits_are_those_of_the_library(name):
    assert worst_per_rms(logits(name), hf_folders.logits(name)) <= FLOAT32_TOLERANCE


@pytest.mark.parametrize("name", hf_folders.FOLDERS)
def test_folders_become_other_containers(name, tmp_path):
    converted = convert(hf_folders.path(name), tmp_path / "model.gguf").path
    assert np.array_equal(logits(name, converted), logits(name))


def test_the_folders_are_whole():
    """Every shard that an index names lies beside it: none was left out of the repository."""
    for name in hf_folders.FOLDERS:
        (index,) = hf_folders.path(name).glob("*.index.json")
        shards = set(json.loads(index.read_text())["weight_map"].values())
        assert len(shards) > 1
        assert all((index.parent / shard).is_file() for shard in shards)

"""Quantizing while loading: llama-quantize's choice of types, and the bits of a quantized file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp import _core
from rwkvcpp.file_types import FILE_TYPES, file_type, file_type_names
from tests.python.test_checkpoints import SIZES, logits_of, rounded
from tests.reference.checkpoints import VERSIONS, Sizes
from tests.reference.layouts import Tensor
from tests.reference.pth_writer import write_pth
from tests.reference.writers import write_bin, write_gguf

# Every matrix but the low-rank ones has rows of a multiple of 256.
WIDE = Sizes(n_embd=256, n_layer=2, head_size=64, n_ffn=512, n_vocab=75)
KNOWN = {row["name"] for row in _core.weight_formats()}
HERE = [name for name, t in FILE_TYPES.items() if {t.base, t.head, t.embedding} <= KNOWN]


def quantized_gguf(folder: Path, tensors: dict[str, Tensor], name: str) -> Path:
    """The file that llama-quantize would make: projections, head and embedding by its table."""
    rules = file_type(name)
    official = {"token_embd.weight": "emb.weight", "output.weight": "head.weight"}

    def type_of(gguf_name: str, tensor: Tensor) -> str:
        block = gguf_name.split(".", 2)[-1]
        is_projection = block.split("_", 2)[0] in ("time", "channel") and block.endswith(
            ("receptance.weight", "key.weight", "value.weight", "gate.weight", "output.weight")
        )
        own = "blocks.0.att.key.weight" if is_projection else official.get(gguf_name, gguf_name)
        return rules.type_of(own, tensor.shape) or "F32"

    def quantize(type_name: str, rows: Tensor) -> bytes:
        return _core.quantize(type_name, rows.reshape(-1, rows.shape[-1]))

    path = folder / f"{name}.gguf"
    write_gguf(path, tensors, "Q8_0", type_of=type_of, quantize=quantize)
    return path


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("version", ["6", "7"])
def test_a_model_quantized_while_loading_is_the_quantized_file(
    version: str, name: str, tmp_path: Path
) -> None:
    tensors = rounded(version, "F16", WIDE)
    path = write_pth(tmp_path / "model.pth", tensors, "F16")
    expected = quantized_gguf(tmp_path, tensors, name)
    assert np.array_equal(logits_of(path, type=name), logits_of(expected))
    assert rwkvcpp.Model(path, type=name).weight_type == file_type(name).base


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_quantized(version: str, tmp_path: Path) -> None:
    path = write_pth(tmp_path / "model.pth", rounded(version, "F16"), "F16")
    small, whole = rwkvcpp.Model(path, type="q4_0"), rwkvcpp.Model(path)
    assert small.weight_type == "Q4_0"
    assert small.weight_bytes < 0.6 * whole.weight_bytes
    assert not np.array_equal(logits_of(path, type="q4_0"), logits_of(path))


def test_files_that_the_core_reads_itself_are_quantized_too(tmp_path: Path) -> None:
    tensors = rounded("7", "F16")
    pth = write_pth(tmp_path / "model.pth", tensors, "F16")
    write_gguf(tmp_path / "model.gguf", tensors, "F16")
    write_bin(tmp_path / "model.bin", tensors, "F16")
    for path in (tmp_path / "model.gguf", tmp_path / "model.bin"):
        assert np.array_equal(logits_of(path, type="q5_1"), logits_of(pth, type="q5_1"))


def test_a_quantized_file_is_refused_with_the_file_to_use(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, rounded("7", "F16"), "Q8_0")
    with pytest.raises(rwkvcpp.UnsupportedError) as error:
        rwkvcpp.Model(path, type="q4_0")
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: tensor ")
    assert "is Q8_0 already" in sentence
    assert "F16, BF16 or F32 file" in sentence
    assert np.array_equal(logits_of(path, type="q8_0"), logits_of(path))  # nothing to do


def test_an_unknown_type_lists_those_there_are(tmp_path: Path) -> None:
    path = write_pth(tmp_path / "model.pth", rounded("7", "F16"), "F16")
    with pytest.raises(ValueError, match=r"type is 'q9', expected one of .*q4_0"):
        rwkvcpp.Model(path, type="q9")


def test_mmap_and_a_type_exclude_each_other(tmp_path: Path) -> None:
    path = write_pth(tmp_path / "model.pth", rounded("7", "F16"), "F16")
    with pytest.raises(ValueError, match="mmap leaves weights as the file has them"):
        rwkvcpp.Model(path, type="q4_0", mmap=True)


# ---- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "projection", "head", "embedding"),
    [
        ("q4_0", "Q4_0", "Q6_K", "Q4_0"),
        ("q5_1", "Q5_1", "Q6_K", "Q5_1"),
        ("q8_0", "Q8_0", "Q8_0", "Q8_0"),
        ("f16", "F16", "F16", "F16"),
    ],
)
def test_head_and_embedding_have_types_of_their_own(
    name: str, projection: str, head: str, embedding: str
) -> None:
    rules = file_type(name)
    assert rules.type_of("blocks.3.att.key.weight", (2560, 2560)) == projection
    assert rules.type_of("blocks.3.ffn.value.weight", (2560, 10240)) == projection
    assert rules.type_of("head.weight", (65536, 2560)) == head
    assert rules.type_of("emb.weight", (65536, 2560)) == embedding


@pytest.mark.parametrize(
    "tensor",
    ["ln_out.weight", "blocks.0.att.w1", "blocks.0.att.time_maa_w1", "blocks.0.att.ln_x.weight",
     "blocks.0.att.x_k", "blocks.0.att.r_k", "blocks.0.att.time_decay_w2"],
)  # fmt: skip
def test_vectors_and_low_rank_matrices_stay(tensor: str) -> None:
    assert file_type("q4_0").type_of(tensor, (2560, 64)) is None


def test_rows_that_do_not_fill_blocks_get_shorter_ones() -> None:
    rules = file_type("q6_k")
    assert rules.type_of("emb.weight", (100, 512)) == "Q6_K"
    assert rules.type_of("emb.weight", (100, 96)) == "Q8_0"
    assert rules.type_of("emb.weight", (100, 100)) == "F16"


def test_names_are_taken_in_any_case_and_k_sizes_are_one() -> None:
    assert file_type("Q5_1") is file_type("q5_1")
    for name in file_type_names():
        assert name == name.lower()
    assert SIZES.n_embd % 256  # the small model needs the fallbacks

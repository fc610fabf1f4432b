"""Quantizing: llama-quantize's files tensor for tensor, and what keeps one from being written."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

import rwkvcpp
from rwkvcpp.cli import main
from rwkvcpp.convert import convert
from rwkvcpp.errors import RwkvError, UnsupportedError
from rwkvcpp.imatrix import Imatrix, Importance
from rwkvcpp.imatrix_file import write_imatrix
from rwkvcpp.quantization import quantize, rounding
from tests.data import quantized_digests
from tests.reference.checkpoints import Checkpoint
from tests.reference.writers import write_bin

DIGESTS = quantized_digests.load()


def made_model(folder: Path, version: str = "7") -> Path:
    return convert(quantized_digests.made_model(version, folder), folder / f"{version}.gguf").path


# ---- as llama-quantize -----------------------------------------------------------------------


def check_digest(key: str, model: Path, folder: Path) -> None:
    name, weighted = key.split(", ")[1], key.endswith("weighted")
    imatrix = folder / "imatrix.gguf" if weighted else None
    if imatrix is not None:
        write_imatrix(imatrix, quantized_digests.importances(model))
    done = quantize(model, folder / "out.gguf", name, imatrix=imatrix)
    assert quantized_digests.digest(done.path) == DIGESTS[key]


@pytest.mark.parametrize("key", [key for key in DIGESTS if key.startswith("stories")])
def test_the_stories_become_what_llama_quantize_makes_of_them(key, shared, tmp_path):
    check_digest(key, shared / "demo" / "rwkv7-stories-f16.gguf", tmp_path)


@pytest.mark.parametrize("key", [key for key in DIGESTS if key.startswith("made-")])
def test_a_made_model_becomes_what_llama_quantize_makes_of_it(key, tmp_path):
    check_digest(key, made_model(tmp_path, key[len("made-")]), tmp_path)


def test_the_file_says_which_type_it_is(tmp_path):
    model = made_model(tmp_path)
    for name in ("q4_0", "q4_k", "q4_k_m", "iq4_xs"):
        done = quantize(model, tmp_path / "out.gguf", name)
        found = int(gguf.GGUFReader(done.path).fields["general.file_type"].contents())
        assert found == quantized_digests.FILE_TYPES[{"q4_k": "q4_k_m"}.get(name, name)]


def test_neither_threads_nor_pieces_change_a_byte(tmp_path, monkeypatch):
    model = made_model(tmp_path)
    first = quantize(model, tmp_path / "1.gguf", "q5_1", threads=1).path.read_bytes()
    monkeypatch.setattr(rounding, "WEIGHTS_AT_ONCE", 300)
    assert quantize(model, tmp_path / "2.gguf", "q5_1", threads=3).path.read_bytes() == first


def test_every_container_gives_the_same_file(tmp_path):
    source = quantized_digests.made_model("7", tmp_path)
    gguf_file = convert(source, tmp_path / "7.gguf").path
    other = convert(source, tmp_path / "7.safetensors").path
    digests = {
        quantized_digests.digest(quantize(path, tmp_path / "out.gguf", "q4_0").path)
        for path in (gguf_file, other)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("version", ["4", "5.2"])
def test_versions_that_llama_cpp_does_not_know_are_quantized_too(version, tmp_path):
    path = tmp_path / "model.bin"
    write_bin(path, Checkpoint(version, quantized_digests.WIDE), "F16")
    done = quantize(path, tmp_path / "out.gguf", "q8_0")
    assert rwkvcpp.Model(done.path).weight_type == "Q8_0"


def test_progress_ends_at_the_whole(tmp_path):
    seen: list[tuple[int, int]] = []
    quantize(
        made_model(tmp_path), tmp_path / "out.gguf", "q4_0", progress=lambda *p: seen.append(p)
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


# ---- what is refused, and what is left behind ------------------------------------------------


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_interrupt_leaves_no_file(tmp_path):
    model = made_model(tmp_path)
    before = files(tmp_path)

    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(model, tmp_path / "out.gguf", "q4_0", progress=interrupt)
    assert files(tmp_path) == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 7e4])
def test_weights_that_blocks_cannot_hold_are_named(value, tmp_path):
    source = quantized_digests.made_model("7", tmp_path)
    model = convert(source, tmp_path / "model.gguf", type="f32").path
    reader = gguf.GGUFReader(model, "r+")
    tensor = next(t for t in reader.tensors if t.name == "blk.1.channel_mix_key.weight")
    tensor.data[3, 5] = value
    reader.data.flush()
    before = files(tmp_path)
    with pytest.raises(UnsupportedError, match=r"channel_mix_key.weight holds .* for Q4_K"):
        quantize(model, tmp_path / "out.gguf", "q4_k")
    assert files(tmp_path) == before


def test_a_quantized_source_is_refused_unless_that_is_wanted(tmp_path):
    first = quantize(made_model(tmp_path), tmp_path / "first.gguf", "q8_0").path
    with pytest.raises(UnsupportedError, match=r"Q8_0 already.*--requantize"):
        quantize(first, tmp_path / "out.gguf", "q4_0")
    done = quantize(first, tmp_path / "out.gguf", "q4_0", requantize=True)
    assert rwkvcpp.Model(done.path).weight_type == "Q4_0"


def test_importances_of_another_model_are_refused(tmp_path):
    ones = Importance(np.ones((1, 64), np.float32), np.ones(1, np.float32))
    write_imatrix(tmp_path / "i.gguf", Imatrix({"blk.0.time_mix_key.weight": ones}))
    with pytest.raises(ValueError, match=r"time_mix_key.weight are 64, expected 256"):
        quantize(made_model(tmp_path), tmp_path / "out.gguf", "q4_0", imatrix=tmp_path / "i.gguf")


def test_only_gguf_is_written(tmp_path):
    with pytest.raises(UnsupportedError, match=r"expected \.gguf"):
        quantize(made_model(tmp_path), tmp_path / "out.bin", "q4_0")


def test_the_source_is_not_overwritten(tmp_path):
    model = made_model(tmp_path)
    with pytest.raises(RwkvError, match="is what is read"):
        quantize(model, model, "q4_0")


# ---- the command -----------------------------------------------------------------------------


def test_the_command_writes_the_file_and_says_how_large_it_is(tmp_path, capsys):
    out = tmp_path / "out.gguf"
    assert main(["quantize", str(made_model(tmp_path)), str(out), "Q4_0"]) == 0
    assert capsys.readouterr().err.endswith(f"\n{out}: {out.stat().st_size:,} bytes\n")


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    assert main(["quantize", str(tmp_path / "none.gguf"), str(tmp_path / "o.gguf"), "q4_0"]) == 2
    assert "none.gguf" in capsys.readouterr().err

"""The table of files that llama.cpp reads: which are compared, and when one differs."""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import pytest

from bench import llama_cpp_reads
from bench.llama_cpp_reads import Row, allowed, markdown, written
from bench.quality import Deviation
from tests.data import quantized_digests


def off(rms: float) -> Deviation:
    return Deviation(kl=rms**2, kl_99=rms, top_1=1.0, rms=rms, kl_of_windows=[rms**2])


def row(type_name: str, ours: float, theirs: float) -> Row:
    return Row("model.gguf", type_name, "ours", 12345, off(ours), off(theirs))


def test_floats_must_be_near_whatever_ours_are():
    assert allowed("f32", 1.0) < allowed("f16", 1.0) < allowed("bf16", 1.0) < 0.1
    assert not row("f16", 0.5, 0.01).agrees


def test_int8_activations_may_do_about_what_ours_do():
    assert row("q4_k", 0.004, 0.006).agrees
    assert not row("q4_k", 0.004, 0.02).agrees


def test_what_differs_is_marked():
    args = argparse.Namespace(windows=2, length=3)
    lines = markdown([row("q4_0", 0.1, 0.1), row("q4_0", 0.1, 0.3)], "llama.cpp 1", args)
    assert lines.splitlines()[-2].endswith("| agrees |")
    assert lines.splitlines()[-1].endswith("| **differs** |")
    assert "6 positions" in lines


def test_a_file_that_differs_shows_in_the_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(llama_cpp_reads, "check_llama_cpp", lambda _: None)
    for theirs, code in ((0.1, 0), (0.3, 1)):
        found = [(row("q4_0", 0.1, theirs), "llama.cpp 1")]
        monkeypatch.setattr(llama_cpp_reads, "rows", lambda _, found=found: iter(found))
        assert llama_cpp_reads.main(["--models", "a.gguf"]) == code


@pytest.mark.parametrize(("name", "kinds"), [
    ("f16", ["converted"]), ("q4_k", ["ours", "reference"])
])  # fmt: skip
def test_each_type_is_written_in_every_way(name, kinds, tmp_path):
    source = quantized_digests.made_model("7", tmp_path)
    found: list[tuple[str, set[str]]] = []
    for kind, path in written(source, name, Path(tmp_path)):
        found.append((kind, {t.tensor_type.name for t in gguf.GGUFReader(path).tensors}))
    assert [kind for kind, _ in found] == kinds
    assert name.upper() in found[-1][1]

"""Inputs of ffn.value that are zero: left out or not, no bit of the result may change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import rwkvcpp
from bench.make_model import make_model
from bench.zeros import threshold
from rwkvcpp import _core
from rwkvcpp.cli import main
from rwkvcpp.zeros import LayerZeros, bytes_to_skip, share_of_zeros
from tests.python.test_properties import CASES, WIDE_CASES, case_id
from tests.reference.cases import TOKENS, Case
from tests.reference.checkpoints import Sizes
from tests.reference.digest import digest
from tests.reference.trained import TRAINED_FILES, TrainedFile

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = ("off", "auto", "on")
SMALL = Sizes(n_embd=256, n_layer=2, n_ffn=1152, n_vocab=512)
SHARES = (0.0, 0.3, 0.6, 0.87, 0.97, 1.0)
COLUMN_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16", "F32")


def assert_skipping_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for activations in ("int8", "float32"):
        found = set()
        for setting in SETTINGS:
            monkeypatch.setenv("RWKVCPP_SPARSE", setting)
            found.add(digest(path, activations=activations))
        assert len(found) == 1, activations


@pytest.mark.parametrize("case", [*CASES, *WIDE_CASES], ids=case_id)
def test_skipping_changes_no_bit_of_any_version(
    case: Case, model_file: Callable[[Case], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_skipping_changes_nothing(model_file(case), monkeypatch)


@pytest.mark.parametrize("file", TRAINED_FILES, ids=lambda file: file.path)
def test_skipping_changes_no_bit_of_trained_models(
    file: TrainedFile, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_skipping_changes_nothing(shared / file.path, monkeypatch)


def test_skipping_changes_no_bit_of_the_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_skipping_changes_nothing(rwkvcpp.bundled_model(), monkeypatch)


def digests(isa: str, setting: str, files: Sequence[Path]) -> list[str]:
    command = [sys.executable, "-m", "tests.reference.digest", *map(str, files)]
    env = {**os.environ, "RWKVCPP_ISA": isa, "RWKVCPP_SPARSE": setting}
    run = subprocess.run(
        command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.fixture(scope="module")
def sparse_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A model of every type and density."""
    folder = tmp_path_factory.mktemp("sparse")
    files = []
    for weight_type in COLUMN_TYPES:
        for share in SHARES:
            files.append(folder / f"{weight_type}-{share}.gguf")
            make_model(files[-1], "7", SMALL, weight_type, zeros=share)
    return files


@pytest.fixture(scope="module")
def sparse_digests(sparse_files: list[Path]) -> list[str]:
    """What the scalar kernels make of them when nothing is skipped."""
    expected = digests("scalar", "off", sparse_files)
    assert len(set(expected)) >= len(sparse_files)
    return expected


@pytest.mark.parametrize("isa", _core.instruction_sets())
@pytest.mark.parametrize("setting", SETTINGS)
def test_skipping_changes_no_bit_at_any_density_of_any_type(
    isa: str, setting: str, sparse_files: list[Path], sparse_digests: list[str]
) -> None:
    assert digests(isa, setting, sparse_files) == sparse_digests


@pytest.mark.parametrize("wrong", ["yes", "ON", "1"])
def test_a_setting_that_is_none_is_named(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RWKVCPP_SPARSE", wrong)
    with pytest.raises(rwkvcpp.UnsupportedError, match=f'"{wrong}", expected off, auto or on'):
        rwkvcpp.Model()


# ---- what is counted -------------------------------------------------------------------------


def test_nothing_is_counted_before_the_first_token() -> None:
    model = rwkvcpp.Model()
    assert [(layer.n_inputs, layer.share) for layer in model.zeros()] == [(0, 0.0)] * model.n_layer
    assert share_of_zeros(model.zeros()) == 0


@pytest.mark.parametrize("setting", SETTINGS)
def test_tokens_decoded_one_by_one_are_counted(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RWKVCPP_SPARSE", setting)
    model = rwkvcpp.Model()
    state = model.initial_state()
    for token in TOKENS[:5]:
        model.forward([token], state)
    model.forward(TOKENS, state)  # together: not counted
    layers = model.zeros()
    assert [layer.n_inputs for layer in layers] == [5 * model.n_ffn] * model.n_layer
    assert all(0.5 < layer.share < 1 for layer in layers)  # trained models are like that


@pytest.mark.parametrize("version", ["4", "5.2", "6", "7"])
@pytest.mark.parametrize("weight_type", ["Q4_0", "F16"])
def test_made_models_have_the_zeros_that_were_asked_for(
    version: str, weight_type: str, tmp_path: Path
) -> None:
    path = tmp_path / ("model.gguf" if version in "67" else "model.bin")
    for wanted in (0.4, 0.87):
        make_model(path, version, SMALL, weight_type, zeros=wanted)
        model = rwkvcpp.Model(path)
        state = model.initial_state()
        for token in range(100):
            model.forward([token], state)
        if weight_type == "Q4_0":
            assert all(abs(layer.share - wanted) < 0.03 for layer in model.zeros())
        else:  # floats are zero only below the threshold: there are fewer
            assert all(wanted - 0.4 < layer.share < wanted + 0.01 for layer in model.zeros())
        # The codes of ffn.value, without its scales.
        codes = SMALL.n_embd * SMALL.n_ffn * (1 / 2 if weight_type == "Q4_0" else 2)
        assert {layer.skippable_bytes for layer in model.zeros()} == {codes}


def test_a_higher_share_of_zeros_takes_a_higher_threshold() -> None:
    cuts = [threshold(share) for share in (0.1, 0.5, 0.87, 0.95)]
    assert cuts == sorted(cuts)
    assert abs(threshold(0.5)) < 0.5


def test_bytes_to_skip_are_those_that_meet_zeros() -> None:
    layers = [
        LayerZeros(100, 25, 1000, True),
        LayerZeros(100, 100, 500, True),
        LayerZeros(0, 0, 700, False),
    ]
    assert bytes_to_skip(layers) == 750
    assert share_of_zeros(layers) == 0.375


def test_types_without_columns_count_and_skip_nothing(tmp_path: Path) -> None:
    sizes = Sizes(n_embd=256, n_layer=2, n_ffn=1024, n_vocab=512)
    make_model(tmp_path / "model.gguf", "7", sizes, "Q6_K", pure=True)
    model = rwkvcpp.Model(tmp_path / "model.gguf")
    model.forward([1], model.initial_state())
    assert [(layer.n_inputs, layer.skippable_bytes) for layer in model.zeros()] == [(1024, 0)] * 2


# ---- what is told ----------------------------------------------------------------------------


def test_info_tells_the_zeros_of_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "story.txt"
    text.write_text("Once upon a time there was a fox, and the fox was hungry.")
    command = ["info", str(rwkvcpp.bundled_model()), "--text", str(text)]
    assert main([*command, "--json"]) == 0
    zeros = json.loads(capsys.readouterr().out)["zeros"]
    assert len(zeros["by_layer"]) == 6
    assert 0.8 < zeros["share"] < 1
    assert zeros["skipping_roof"]["tokens/s"] > zeros["dense_roof"]["tokens/s"]
    assert zeros["skipping_roof"]["reached"] < zeros["dense_roof"]["reached"]
    assert main(command) == 0
    out = capsys.readouterr().out
    for part in ("tokens of story.txt", "zeros into ffn.value", "by layer", "zeros skipped"):
        assert part in out


def test_info_says_when_there_is_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").write_text("")
    for name, problem in (("empty.txt", "no text in it"), ("none.txt", "No such file")):
        text = str(tmp_path / name)
        assert main(["info", str(rwkvcpp.bundled_model()), "--text", text]) == 2
        assert problem in capsys.readouterr().err


def test_bench_tells_both_roofs(capsys: pytest.CaptureFixture[str]) -> None:
    quick = ("--prompt", "16", "--generate", "4", "--batch", "1", "--repeats", "1", "-q")
    assert main(["bench", "--json", *quick]) == 0
    report = json.loads(capsys.readouterr().out)
    zeros, model = report["zeros"], report["model"]
    dense = report["read_roof"]["GB/s"] * 1e9 / model["bytes_read_per_token"]
    assert zeros["dense_roof"]["tokens/s"] == pytest.approx(dense)
    left = model["bytes_read_per_token"] - zeros["bytes_skippable_per_token"]
    assert zeros["skipping_roof"]["tokens/s"] == pytest.approx(
        dense * model["bytes_read_per_token"] / left
    )

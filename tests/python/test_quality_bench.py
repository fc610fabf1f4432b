"""What int8 activations cost is measured rightly; on the trained models it is little."""

import json
import math
from pathlib import Path

import gguf
import numpy as np
import pytest

import rwkvcpp
from bench import quality
from bench.requantize import requantize
from tests.reference.cases import Case
from tests.reference.checkpoints import Sizes
from tests.reference.compare import worst_per_rms

BYTES = Sizes(n_embd=128, n_ffn=448, n_vocab=256)
TEXT = "Once upon a time there was a fox, and a bear, who lived in a wood. " * 8


def log(*probabilities: float) -> np.ndarray:
    """Logits of one window of one position."""
    return np.log(np.array([[probabilities]], np.float32))


# ---- figures ---------------------------------------------------------------------------------


def test_the_divergence_is_that_of_the_reference():
    found = quality.deviation(log(0.5, 0.5), log(0.75, 0.25))
    assert math.isclose(
        found.kl, 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25), rel_tol=1e-6
    )


def test_equal_logits_do_not_deviate():
    found = quality.deviation(log(0.2, 0.8), log(0.2, 0.8))
    assert (found.kl, found.kl_99, found.top_1, found.rms) == (0, 0, 1, 0)


def test_a_shift_of_all_logits_changes_no_probability_but_counts_in_the_rms():
    reference = np.array([[[1.0, -1.0, 1.0, -1.0]]], np.float32)
    found = quality.deviation(reference, reference + 2)
    assert found.kl < 1e-12
    assert math.isclose(found.rms, 2)


def test_top_1_counts_positions():
    reference = np.array([[[1, 0], [1, 0]], [[0, 1], [0, 1]]], np.float32)
    other = np.array([[[1, 0], [0, 1]], [[0, 1], [0, 1]]], np.float32)
    assert quality.deviation(reference, other).top_1 == 0.75


def test_windows_have_means_of_their_own():
    reference = np.tile(np.float32([1, -1]), (2, 3, 1))
    other = reference.copy()
    other[1, :, 0] = 2
    found = quality.deviation(reference, other)
    assert found.kl_of_windows == [0, 2 * found.kl]
    assert found.kl > 0.01


def test_the_loss_is_that_of_each_next_token():
    logits = np.log(np.array([[[0.25, 0.75], [0.5, 0.5]]], np.float32))
    assert math.isclose(quality.loss(logits, [[0, 1]]), -math.log(0.75), rel_tol=1e-6)


def test_the_ratio_has_the_error_of_a_mean_over_windows():
    value, error = quality.ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert (value, error) == (0.5, 0)
    ours = [1.0, 2.0, 3.0, 6.0]
    value, error = quality.ratio(ours, [1.0] * 4)
    assert value == 3
    assert math.isclose(error, np.std(ours, ddof=1) / 2)  # the denominator does not vary


# ---- measuring -------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    quality.main(list(map(str, arguments)))
    return capsys.readouterr().out


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


def test_integer_weights_deviate_and_float_weights_do_not(tmp_path, text_file, capsys):
    files = [Case("7", "bin", kind, BYTES).write(tmp_path) for kind in ("Q8_0", "F16")]
    options = ("--text", text_file, "--windows", 2, "--length", 16, "--json")
    integers, floats = json.loads(run(capsys, "--models", *files, *options))["models"]
    assert floats["deviations"]["rwkvcpp"]["kl"] == 0
    assert 0 < integers["deviations"]["rwkvcpp"]["kl"] < 0.01
    assert (integers["weights"], integers["n_positions"]) == ("RWKV-7 Q8_0", 32)


def test_llama_cpp_stands_beside_on_gguf_files(tmp_path, text_file, capsys, monkeypatch):
    path = requantized_bytes(tmp_path, "Q8_0")

    class Worker:
        """Answers with the float logits, one of them moved."""

        facts = {"engine": "llama.cpp 2"}  # noqa: RUF012

        def __init__(self, python: str, engine: str, model: Path, threads: int) -> None:
            assert (engine, model) == ("llama.cpp", path)

        def ask(self, method: str, windows: list[list[int]], out: str) -> None:
            assert method == "write_logits"
            logits = quality.all_logits(rwkvcpp.Model(path, activations="float32"), windows)
            logits[1, 3, 5] += 100
            logits.tofile(out)

        def close(self) -> None:
            pass

    monkeypatch.setattr(quality, "Worker", Worker)
    monkeypatch.setattr(quality, "check_llama_cpp", lambda python: None)
    options = ("--text", text_file, "--windows", 2, "--length", 16)
    found = json.loads(run(capsys, "--models", path, *options, "--json"))
    theirs = found["models"][0]["deviations"]["llama.cpp"]
    assert theirs["kl_of_windows"][0] == 0
    assert theirs["top_1"] == 31 / 32
    assert "llama.cpp 2" in run(capsys, "--models", path, *options)


def test_a_short_text_is_refused(tmp_path, text_file):
    path = Case("4", "bin", "Q8_0", BYTES).write(tmp_path)
    arguments = ["--models", str(path), "--text", str(text_file), "--length", "1000"]
    with pytest.raises(SystemExit, match="has 536 tokens, expected at least 16 x 1000"):
        quality.main(arguments)


def test_the_table_holds_ours_before_theirs():
    ours = quality.Deviation(1e-4, 4e-4, 0.995, 4e-3, [0.5e-4, 1.5e-4])
    theirs = quality.Deviation(2e-4, 5e-4, 0.99, 5e-3, [1e-4, 3e-4])
    found = quality.Quality(
        "a.gguf", "RWKV-7 Q8_0", 32, 2.5, {"rwkvcpp": ours, "llama.cpp": theirs}
    )
    machine = {"cpu": "a CPU", "date": "today", "text": "t", "engines": ["x", "y"], "command": "c"}
    table = quality.markdown([found], machine)
    assert "a CPU, today, 32 positions of t; x; y." in table
    assert (
        "| a.gguf | RWKV-7 Q8_0 | 2.500 | 1.00e-04 / 2.00e-04 | 0.50 ± 0.00 | 4.0e-04 / 5.0e-04 "
        "| 99.50 % / 99.00 % | 4.00e-03 / 5.00e-03 |" in table
    )


def test_without_a_second_engine_there_is_no_ratio():
    ours = quality.Deviation(1e-4, 4e-4, 0.995, 4e-3, [1e-4])
    row = quality._row(quality.Quality("a.bin", "RWKV-4 Q8_0", 32, 2.5, {"rwkvcpp": ours}))
    assert "| 1.00e-04 | - | 4.0e-04 | 99.50 % | 4.00e-03 |" in row


# ---- requantize ------------------------------------------------------------------------------


def requantized_bytes(folder: Path, weight_type: str, *, version: str = "7") -> Path:
    """A byte model of random weights as GGUF."""
    out = folder / f"{version}-{weight_type}.gguf"
    requantize(Case(version, "bin", "F32", BYTES).write(folder), out, weight_type)
    return out


@pytest.mark.parametrize("version", ["6", "7"])
def test_rewriting_floats_changes_no_logit(version, tmp_path):
    tokens = list(b"Once upon a time")
    source, out = Case(version, "bin", "F32", BYTES).write(tmp_path), tmp_path / "out.gguf"
    requantize(source, out, "F32")
    before, after = (quality.all_logits(rwkvcpp.Model(p), [tokens]) for p in (source, out))
    assert worst_per_rms(after, before) <= 1e-5


def test_matrices_take_the_type_that_llama_quantize_gives_them(tmp_path):
    tensors = gguf.GGUFReader(requantized_bytes(tmp_path, "Q4_0")).tensors
    types = {t.name: t.tensor_type.name for t in tensors}
    assert types["blk.1.time_mix_key.weight"] == "Q4_0"
    assert types["output.weight"] == "Q8_0"  # rows too short for Q6_K
    assert (types["blk.1.time_mix_w1.weight"], types["blk.1.time_mix_a1.weight"]) == ("F32", "F16")


def test_the_vocabulary_goes_along(tmp_path):
    requantize(rwkvcpp.bundled_model(), tmp_path / "out.gguf", "Q4_0")
    before, after = (rwkvcpp.Model(p).tokenizer for p in (None, tmp_path / "out.gguf"))
    assert after.encode(TEXT) == before.encode(TEXT)
    assert after.end_of_text == before.end_of_text


def test_versions_that_gguf_lacks_are_refused(tmp_path):
    source = Case("4", "bin", "F32", BYTES).write(tmp_path)
    with pytest.raises(ValueError, match="RWKV-4 cannot be written as GGUF"):
        requantize(source, tmp_path / "out.gguf", "Q8_0")


# ---- trained models --------------------------------------------------------------------------


def test_a_layer_without_value_residual_can_be_written(shared, tmp_path):
    """The tiny RWKV-7, as official checkpoints, has no v0, v1 and v2 in its first layer."""
    source = shared / "models" / "tiny-rwkv-7v0-834K-FP32.bin"
    requantize(source, tmp_path / "out.gguf", "F32")
    before, after = (quality.all_logits(rwkvcpp.Model(p), [[34, 105, 110]])
                     for p in (source, tmp_path / "out.gguf"))  # fmt: skip
    assert worst_per_rms(after, before) <= 1e-5


@pytest.mark.parametrize(
    ("name", "second"), [("tiny-rwkv-6v0-3m-Q5_1", 0), ("tiny-rwkv-7v0-834K-FP32", ord("n"))]
)
def test_byte_models_read_in_the_encoding_that_they_know(shared, name, second):
    """The tiny RWKV-6 writes characters of 16 bits."""
    model = rwkvcpp.Model(shared / "models" / f"{name}.bin")
    windows = quality.best_windows(model, TEXT, 2, 128)
    assert windows[0][:2] == [ord("O"), second]


def test_int8_activations_cost_the_story_model_little(shared):
    """9.5e-5 nats were recorded over 8,192 positions."""
    windows = [json.loads((shared / "demo" / "expected.json").read_text())["tokens"]]
    reference = quality.all_logits(rwkvcpp.Model(activations="float32"), windows)
    assert 0 < quality.deviation(reference, quality.all_logits(rwkvcpp.Model(), windows)).kl < 2e-4

"""Quantizing: llama-quantize's files tensor for tensor, and what keeps one from being written."""

from __future__ import annotations

import lzma
import re
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import pytest

import rwkvcpp
from rwkvcpp import _core
from rwkvcpp.checkpoints.checkpoint import open_checkpoint
from rwkvcpp.cli import main
from rwkvcpp.convert import convert
from rwkvcpp.errors import RwkvError, UnsupportedError
from rwkvcpp.file_types import file_type
from rwkvcpp.imatrix import Imatrix, Importance
from rwkvcpp.imatrix_directions import common_directions
from rwkvcpp.imatrix_file import write_imatrix
from rwkvcpp.perplexity import score
from rwkvcpp.predictions import ModelPredictor, Plan
from rwkvcpp.quantization import quantize, rounding
from rwkvcpp.quantization.budget import Choice, choose
from rwkvcpp.quantization.candidates import LEGACY
from rwkvcpp.quantization.choosing import choose_types, to_choose
from rwkvcpp.quantization.damage import measure, own_text, parts
from rwkvcpp.quantization.embedding import moving
from rwkvcpp.quantization.error import relative_error, sampled_rows
from rwkvcpp.quantization.matrices import matrices
from rwkvcpp.quantization.report import report_classes
from rwkvcpp.quantization.rounding import Roundings
from tests.data import quantized_digests
from tests.reference.checkpoints import Checkpoint
from tests.reference.compare import worst_per_rms
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
    done = quantize(model, folder / "out.gguf", name, reference=True, imatrix=imatrix)
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
        done = quantize(model, tmp_path / "out.gguf", name, reference=True)
        found = int(gguf.GGUFReader(done.path).fields["general.file_type"].contents())
        assert found == quantized_digests.FILE_TYPES[{"q4_k": "q4_k_m"}.get(name, name)]


def test_neither_threads_nor_pieces_change_a_byte(tmp_path, monkeypatch):
    model = made_model(tmp_path)
    first = quantize(model, tmp_path / "1.gguf", "q5_1", reference=True, threads=1).path
    monkeypatch.setattr(rounding, "WEIGHTS_AT_ONCE", 300)
    other = quantize(model, tmp_path / "2.gguf", "q5_1", reference=True, threads=3).path
    assert other.read_bytes() == first.read_bytes()


def test_every_container_gives_the_same_file(tmp_path):
    source = quantized_digests.made_model("7", tmp_path)
    gguf_file = convert(source, tmp_path / "7.gguf").path
    other = convert(source, tmp_path / "7.safetensors").path
    digests = {
        quantized_digests.digest(quantize(path, tmp_path / "out.gguf", "q4_0", reference=True).path)
        for path in (gguf_file, other)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("version", ["4", "5.2"])
def test_versions_that_llama_cpp_does_not_know_are_quantized_too(version, tmp_path):
    path = tmp_path / "model.bin"
    write_bin(path, Checkpoint(version, quantized_digests.WIDE), "F16")
    done = quantize(path, tmp_path / "out.gguf", "q8_0", measure=False)
    assert rwkvcpp.Model(done.path).weight_type == "Q8_0"


def test_progress_ends_at_the_whole(tmp_path):
    seen: list[tuple[int, int]] = []
    quantize(
        made_model(tmp_path),
        tmp_path / "out.gguf",
        "q4_0",
        reference=True,
        progress=lambda *p: seen.append(p),
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


# ---- our types -------------------------------------------------------------------------------


def types_of(path: Path) -> dict[str, str]:
    return {str(t.name): t.tensor_type.name for t in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("name", ["q4_0", "q5_1", "q8_0", "q3_k", "q4_k_m", "q6_k", "iq4_xs"])
def test_our_file_has_no_more_bytes_than_the_reference(name, tmp_path):
    model = made_model(tmp_path)
    ours = quantize(model, tmp_path / "ours.gguf", name, measure=False)
    reference = quantize(model, tmp_path / "reference.gguf", name, reference=True)
    assert 0.97 * reference.n_bytes < ours.n_bytes <= reference.n_bytes
    assert rwkvcpp.Model(ours.path).version == "7"


@pytest.mark.parametrize("name", ["q4_0", "q5_1", "q8_0"])
def test_legacy_names_hold_legacy_types(name, tmp_path):
    done = quantize(made_model(tmp_path), tmp_path / "out.gguf", name, measure=False)
    types = types_of(done.path)
    assert types.pop("output.weight") in {"Q6_K", "F16", *LEGACY}
    assert set(types.values()) <= {"F32", "F16", *LEGACY}


def test_vectors_stay_floats(tmp_path):
    done = quantize(made_model(tmp_path), tmp_path / "out.gguf", "q4_k_m", measure=False)
    vectors = [t for t in gguf.GGUFReader(done.path).tensors if sum(n > 1 for n in t.shape) == 1]
    assert {t.tensor_type.name for t in vectors} == {"F32"}
    assert len(vectors) > 20


def test_what_is_measured_to_matter_gets_more_bits(tmp_path):
    found = [m for m in matrices(open_checkpoint(made_model(tmp_path)))]
    open_types, wanted = to_choose(found, {}), file_type("q4_k")
    names = [part.name for part in parts(open_types)]

    def bytes_when(dear: str) -> int:
        damages = {name: 100.0 if name == dear else 1.0 for name in names}
        with rounding.Workers(1) as workers:
            plain = rounding.Roundings(None, search=False)
            types = choose_types(open_types, wanted, plain, damages, workers)
        key = next(m for m in found if m.name == "blocks.1.ffn.key.weight")
        return key.n_bytes(types[key.name])

    assert bytes_when("ffn.key, layer 1") > bytes_when("ffn.value, layer 1")


def test_damage_is_measured_part_by_part(tmp_path):
    model = made_model(tmp_path)
    open_types = to_choose(list(matrices(open_checkpoint(model))), {})
    measured, seen = parts(open_types), []
    found = measure(
        partial(rwkvcpp.Model, model),
        measured,
        lambda m: "Q8_0" if m.is_low_rank else "Q4_0",
        list(range(1, 300)),
        progress=lambda *p: seen.append(p),
    )
    assert found.keys() == {part.name for part in measured}
    assert min(found.values()) >= 0
    assert found["low-rank matrices"] < found["head"]
    assert seen[-1] == (len(measured) + 1, len(measured) + 1)


def test_a_model_writes_the_same_text_every_time(tmp_path):
    model = rwkvcpp.Model(made_model(tmp_path))
    first = own_text(model, 512)
    assert len(first) == 512
    assert len(np.unique(first)) > 50
    assert np.array_equal(first, own_text(model, 512))


def test_our_types_do_less_than_half_the_damage(shared, tmp_path):
    model = shared / "demo" / "rwkv7-stories-f16.gguf"
    text = lzma.decompress((shared / "corpus" / "heldout.txt.xz").read_bytes())[:8000]
    original = rwkvcpp.Model(model, activations="float32")
    tokens = original.tokenizer.encode(text)

    def damage(**options: bool) -> float:
        path = quantize(model, tmp_path / "out.gguf", "q4_0", **options).path
        kl = score(
            rwkvcpp.Model(path, activations="float32"),
            tokens,
            Plan(512),
            reference=ModelPredictor(original),
        ).kl
        assert kl is not None
        return float(kl.mean())

    reference = damage(reference=True)
    assert damage(measure=False) < 0.5 * reference
    assert damage(reference_types=True) < reference


# ---- types that the caller says --------------------------------------------------------------


def test_overrides_name_classes_and_single_matrices(tmp_path):
    done = quantize(
        made_model(tmp_path),
        tmp_path / "out.gguf",
        "q4_0",
        tensor_types=["ffn.value=q8_0", "blocks.1.att.key=q5_1"],
        measure=False,
    )
    types = types_of(done.path)
    assert types["blk.0.channel_mix_value.weight"] == "Q8_0"
    assert types["blk.1.channel_mix_value.weight"] == "Q8_0"
    assert types["blk.1.time_mix_key.weight"] == "Q5_1"


def test_pure_files_have_one_type(tmp_path):
    done = quantize(made_model(tmp_path), tmp_path / "out.gguf", "q4_0", pure=True)
    assert set(done.types.values()) == {"Q4_0"}
    assert done.types.keys() >= {"emb.weight", "head.weight", "blocks.0.att.w1"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ffn.value", "expected CLASS=TYPE"),
        ("ffn.gate=q4_0", "there is no ffn.gate in this model"),
        ("ffn.value=q9", "expected one of"),
        ("att.x_rwkvag=q8_0", "expected a matrix"),
        ("att.w2=q4_k", "expected rows of a multiple of 256"),
    ],
)
def test_overrides_that_make_no_sense_are_refused(override, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        quantize(made_model(tmp_path), tmp_path / "out.gguf", "q4_0", tensor_types=[override])
    assert not (tmp_path / "out.gguf").exists()


def test_a_model_loads_with_types_for_some_tensors(tmp_path):
    model = made_model(tmp_path)
    plain = rwkvcpp.Model(model).weight_bytes
    assert rwkvcpp.Model(model, type={"head.weight": "Q4_0"}).weight_bytes < plain
    with pytest.raises(ValueError, match="which this model has not"):
        rwkvcpp.Model(model, type={"tail.weight": "Q4_0"})


# ---- the budget ------------------------------------------------------------------------------


def test_bytes_go_where_they_save_the_most_damage():
    choices = {
        "dear": [Choice("small", 10, 8.0), Choice("large", 20, 1.0)],
        "cheap": [Choice("small", 10, 0.5), Choice("large", 20, 0.1)],
    }
    assert choose(choices, 39) == {"dear": "large", "cheap": "small"}
    assert choose(choices, 40) == {"dear": "large", "cheap": "large"}


def test_choices_that_cost_more_and_help_less_are_never_taken():
    choices = {"a": [Choice("good", 10, 1.0), Choice("bad", 20, 2.0), Choice("best", 30, 0.5)]}
    assert choose(choices, 25) == {"a": "good"}
    assert choose(choices, 30) == {"a": "best"}


def test_a_budget_that_holds_nothing_is_refused():
    with pytest.raises(RwkvError, match="need 4 bytes more"):
        choose({"a": [Choice("small", 10, 1.0)]}, 6)


# ---- how rows are rounded --------------------------------------------------------------------


def squares(matrix, roundings, type_name):
    weights = sampled_rows(matrix.tensor)
    rounding, moves = roundings.of(matrix), matrix.is_embedding
    return relative_error(weights, type_name, rounding, None, up_to_means=moves)


@pytest.mark.parametrize("type_name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"])
def test_our_rounding_leaves_less_error_than_ggmls(type_name, tmp_path):
    found = list(matrices(open_checkpoint(made_model(tmp_path))))
    for matrix in (m for m in found if m.is_quantized):
        ours = squares(matrix, Roundings(None, search=True), type_name)
        assert ours < squares(matrix, Roundings(None, search=False), type_name)


def test_rows_of_the_embedding_are_stored_where_they_round_best():
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((40, 256)).astype(np.float32) + np.float32(0.7)

    def plain(name: str, weights: np.ndarray) -> bytes:
        return _core.quantize(name, weights, np.ones(256, np.float32), closest=True)

    def left(blocks: bytes) -> np.ndarray:
        off = _core.dequantize("Q4_0", blocks, 256) - rows
        return np.square(off - off.mean(axis=1, keepdims=True)).sum(axis=1)

    there, moved = left(plain("Q4_0", rows)), left(moving(plain)("Q4_0", rows))
    assert (moved <= left(plain("Q4_0", rows - rows.mean(axis=1, keepdims=True))) * 1.0001).all()
    assert moved.sum() < 0.9 * there.sum()
    assert moving(plain)("Q4_1", rows) == plain("Q4_1", rows)


def test_a_moved_embedding_changes_no_prediction(shared, tmp_path):
    """Stored in F32 with other means of rows, the model says the same, but for rounding."""
    source = shared / "demo" / "rwkv7-stories-f16.gguf"
    model = convert(source, tmp_path / "moved.gguf", type="f32").path
    tokens = [0, 17, 300, 4000, 99]
    before = rwkvcpp.Model(model)
    logits = before.forward(tokens, before.initial_state(), all_logits=True)
    reader = gguf.GGUFReader(model, "r+")
    embedding = next(t for t in reader.tensors if t.name == "token_embd.weight")
    embedding.data[:] += np.linspace(-0.2, 0.2, len(embedding.data), dtype=np.float32)[:, None]
    reader.data.flush()
    after = rwkvcpp.Model(model)
    moved = after.forward(tokens, after.initial_state(), all_logits=True)
    assert not np.array_equal(moved, logits)
    assert worst_per_rms(moved, logits) < 1e-4


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
        quantize(model, tmp_path / "out.gguf", "q4_0", reference=True, progress=interrupt)
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
        quantize(model, tmp_path / "out.gguf", "q4_k", reference=True)
    assert files(tmp_path) == before


def test_a_quantized_source_is_refused_unless_that_is_wanted(tmp_path):
    first = quantize(made_model(tmp_path), tmp_path / "first.gguf", "q8_0", reference=True).path
    with pytest.raises(UnsupportedError, match=r"Q8_0 already.*--requantize"):
        quantize(first, tmp_path / "out.gguf", "q4_0")
    done = quantize(first, tmp_path / "out.gguf", "q4_0", requantize=True, reference=True)
    assert rwkvcpp.Model(done.path).weight_type == "Q4_0"


def weights_of(path, name):
    return open_checkpoint(path).tensors[name].read()


@pytest.mark.parametrize("type_name", ["q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"])
def test_errors_of_a_row_cancel_where_its_inputs_go_together(type_name, tmp_path):
    """What is lost of outputs falls, and --reference is what it was."""
    model = made_model(tmp_path)
    name = "blocks.1.ffn.key.weight"
    weights = weights_of(model, name)
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(2000, 3)) @ rng.normal(size=(3, weights.shape[1]))
    rows += 0.3 * rng.normal(size=rows.shape)
    rows = rows.astype(np.float32)
    sketch = (rows.T @ (rows @ _core.sketch_signs(rows.shape[1]))).astype(np.float32)
    squares, counts = np.square(rows).sum(axis=0)[None, :], np.array([len(rows)], np.float32)
    common = common_directions(sketch, len(rows))
    errors, references = [], []
    for directions in (None, common):
        importance = Importance(squares, counts, directions)
        imatrix = tmp_path / "i.gguf"
        write_imatrix(imatrix, Imatrix({"blk.1.channel_mix_key.weight": importance}))
        out = tmp_path / "out.gguf"
        quantize(model, out, type_name, reference_types=True, imatrix=imatrix)
        errors.append(np.square(rows @ (weights_of(out, name) - weights).T).sum())
        quantize(model, out, type_name, reference=True, imatrix=imatrix)
        references.append(out.read_bytes())
    assert errors[1] < 0.8 * errors[0]
    assert references[0] == references[1]


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
    assert main(["quantize", str(made_model(tmp_path)), str(out), "Q4_0", "--no-measure"]) == 0
    assert capsys.readouterr().err.endswith(f"\n{out}: {out.stat().st_size:,} bytes\n")


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    assert main(["quantize", str(tmp_path / "none.gguf"), str(tmp_path / "o.gguf"), "q4_0"]) == 2
    assert "none.gguf" in capsys.readouterr().err


# ---- the report ------------------------------------------------------------------------------


def test_the_report_tells_bytes_types_and_errors_of_classes(tmp_path):
    model = made_model(tmp_path)
    done = quantize(
        model, tmp_path / "out.gguf", "q8_0", pure=True, tensor_types=["ffn.value=q4_0"]
    )
    rows = {row.name: row for row in report_classes(model, done.path)}
    assert rows["ffn.value"].types == ("Q4_0",)
    assert rows["ffn.value"].n_bytes == 2 * 256 * 512 // 32 * 18
    assert 0.03 < rows["ffn.value"].error < 0.15
    assert 0.001 < rows["ffn.key"].error < 0.01
    assert report_classes(model, model)[0].error == 0


def test_the_command_reports_how_predictions_have_moved(shared, tmp_path, capsys):
    text, model = tmp_path / "text.txt", shared / "demo" / "rwkv7-stories-f16.gguf"
    text.write_text("Once upon a time there was a fox who lived in the wood. " * 4)
    arguments = ["q4_0", "--reference", "--report", "--text", str(text)]
    assert main(["quantize", str(model), str(tmp_path / "out.gguf"), *arguments]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ffn\.key +[\d,]+ bytes +\d+\.\d+%  Q4_0$", out, flags=re.M)
    kl = re.search(r"^KL divergence +(\S+) nats", out, flags=re.M)
    assert kl is not None
    assert 1e-3 < float(kl[1]) < 1

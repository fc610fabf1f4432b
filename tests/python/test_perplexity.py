"""Perplexity and divergence are those of the formulas, whatever the pieces, windows and files."""

from __future__ import annotations

import io
import json
import lzma
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp import predictions
from rwkvcpp.cli import main
from rwkvcpp.kl_base import KlBase, Predicted, new_kl_base, text_id, vocabulary_id
from rwkvcpp.perplexity import Scores, score, standard_error
from rwkvcpp.predictions import ModelPredictor, Plan, kl_divergence, log_softmax
from tests.reference import rwkv_numpy
from tests.reference.cases import TOKENS, Case
from tests.reference.checkpoints import Sizes
from tests.reference.readers import read_model
from tests.reference.writers import write_bin

BYTES = Case("7", "bin", "F32", Sizes(n_embd=128, n_ffn=448, n_vocab=256))
TEXT = b"Once upon a time there was a fox, and a bear, who lived in a wood."
OWN_DIVERGENCE = 3e-8  # nats, at most, that a base makes of its own model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of models of bytes; elsewhere files of the same names have other vocabularies."""
    return tmp_path_factory.mktemp("bytes")


@pytest.fixture
def model_path(folder: Path) -> Path:
    return BYTES.write(folder)


@pytest.fixture
def model(model_path: Path) -> rwkvcpp.Model:
    return rwkvcpp.Model(model_path)


@pytest.fixture
def other_path(folder: Path) -> Path:
    """The same weights in fewer bits."""
    return replace(BYTES, weight_type="Q4_0").write(folder)


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_bytes(TEXT)
    return tmp_path / "text.txt"


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "MOST_ROWS", 5)
    monkeypatch.setattr("rwkvcpp.perplexity.SOFTMAX_AT_ONCE", 3 * 256)


def losses_of(path: Path, tokens: Sequence[int]) -> np.ndarray:
    """Of tokens[1:], each behind all before it, by the float64 reference."""
    logits, _ = rwkv_numpy.forward(read_model(path).weights, tokens[:-1])
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(p)), tokens[1:]])


# ---- which tokens are scored -----------------------------------------------------------------


def test_the_whole_text_is_read_by_one_state() -> None:
    pieces = Plan().pieces(range(2000), n_vocab=256)
    assert [len(piece.targets) for piece in pieces] == [512, 512, 512, 463]
    assert [piece.context is None for piece in pieces] == [False, True, True, True]


def test_the_logits_of_a_piece_take_64_mib_at_most() -> None:
    pieces = Plan().pieces(range(2000), n_vocab=65536)
    assert max(len(piece.targets) for piece in pieces) * 65536 * 4 == 2**26
    assert [len(piece.targets) for piece in Plan().pieces(range(3), n_vocab=2**30)] == [1, 1]


def test_windows_meet_without_a_gap() -> None:
    pieces = Plan(window=4).pieces(range(10), n_vocab=256)
    assert [piece.inputs.tolist() for piece in pieces] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert [piece.targets.tolist() for piece in pieces] == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]


def test_windows_that_overlap_score_only_what_is_new() -> None:
    pieces = Plan(window=6, stride=2).pieces(range(10), n_vocab=256)
    assert [(p.context.tolist(), p.targets.tolist()) for p in pieces] == [
        ([], [1, 2, 3, 4, 5, 6]),
        ([2, 3, 4, 5], [7, 8]),
        ([4, 5, 6, 7], [9]),
    ]


def test_each_window_begins_with_the_token_that_begins_texts() -> None:
    pieces = Plan(window=4, begin=0).pieces([7, 8, 9, 10, 11], n_vocab=256)
    assert [piece.inputs.tolist() for piece in pieces] == [[0, 7, 8, 9], [0]]
    assert [piece.targets.tolist() for piece in pieces] == [[7, 8, 9, 10], [11]]
    assert [piece.position for piece in pieces] == [0, 4]


@given(
    n=st.integers(0, 70),
    window=st.none() | st.integers(1, 40),
    overlap=st.integers(0, 39),
    begin=st.none() | st.just(255),
    n_rows=st.integers(1, 9),
)
def test_every_token_is_scored_once_behind_what_its_window_read(
    n: int, window: int | None, overlap: int, begin: int | None, n_rows: int
) -> None:
    stride = None if window is None else max(1, window - overlap)
    plan, tokens = Plan(window, stride, begin), list(range(n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions, "MOST_ROWS", n_rows)
        pieces = plan.pieces(tokens, n_vocab=256)
    seen: list[int] = []
    scored = []
    for piece in pieces:
        assert 1 <= len(piece.inputs) == len(piece.targets) <= n_rows
        if piece.context is not None:
            seen = list(piece.context)
        for i, (given_token, target) in enumerate(zip(piece.inputs, piece.targets, strict=True)):
            seen.append(int(given_token))
            scored.append(int(target))
            assert piece.position + i == target
            # A state has read all that is before the target, from the window's beginning on.
            before = list(range(target - len(seen), target))
            assert seen == (before if begin is None else [begin, *before[1:]])
            n_before = target + (begin is not None)
            if window is None or stride is None:
                assert len(seen) == n_before
            else:
                assert min(n_before, window - stride + 1) <= len(seen) <= window
    assert scored == tokens[1 if begin is None else 0 :]
    assert plan.n_predicted(n) == len(scored)


def test_a_part_of_a_text_has_as_many_scored_tokens_as_asked_for() -> None:
    for plan in (Plan(), Plan(begin=0), Plan(4, 2)):
        assert plan.n_predicted(len(plan.first(range(100), 10))) == 10
        assert plan.n_predicted(len(plan.first(range(5), 10))) == plan.n_predicted(5)


@pytest.mark.parametrize(
    ("window", "stride", "problem"),
    [
        (0, None, "window is 0, expected at least 1"),
        (8, 9, "stride is 9, expected 1 to the window, 8"),
        (8, 0, "stride is 0, expected 1 to the window, 8"),
        (None, 4, "stride is 4 without a window"),
    ],
)
def test_windows_that_cannot_be_are_refused(
    window: int | None, stride: int | None, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Plan(window, stride)


# ---- losses ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pieces")
def test_losses_are_those_of_the_formulas(model: rwkvcpp.Model, model_path: Path) -> None:
    found = score(model, list(TEXT))
    expected = losses_of(model_path, list(TEXT))
    assert np.allclose(found.losses, expected, rtol=0, atol=1e-4)
    assert found.n_bytes == len(TEXT) - 1
    figures = found.figures()
    assert figures["tokens"] == len(TEXT) - 1
    assert figures["perplexity"] == pytest.approx(math.exp(expected.mean()), rel=1e-5)
    assert figures["bits_per_byte"] == pytest.approx(expected.mean() / math.log(2), rel=1e-5)


def test_losses_do_not_depend_on_the_pieces(
    model: rwkvcpp.Model, request: pytest.FixtureRequest
) -> None:
    before = score(model, list(TEXT)).losses
    request.getfixturevalue("small_pieces")
    assert np.array_equal(score(model, list(TEXT)).losses, before)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("stride", [None, 7])
def test_windows_start_from_the_initial_state(
    model: rwkvcpp.Model, model_path: Path, stride: int | None
) -> None:
    text, window = list(TEXT[:48]), 16
    expected = np.full(len(text), np.nan)
    for begin in reversed(range(0, len(text) - 1, stride or window)):  # the earliest one counts
        piece = text[begin : begin + window + 1]
        expected[begin + 1 : begin + len(piece)] = losses_of(model_path, piece)
    found = score(model, text, Plan(window, stride)).losses
    assert np.allclose(found, expected[1:], rtol=0, atol=1e-4)


def test_a_token_that_begins_texts_makes_the_first_one_scored(
    model: rwkvcpp.Model, model_path: Path
) -> None:
    found = score(model, list(TEXT), Plan(begin=0))
    assert np.allclose(found.losses, losses_of(model_path, [0, *TEXT]), rtol=0, atol=1e-4)
    assert found.n_bytes == len(TEXT)


def test_bytes_are_those_that_the_scored_tokens_stand_for() -> None:
    model = rwkvcpp.Model()  # tokens of several bytes
    tokens = model.tokenizer.encode(TEXT)
    found = score(model, tokens)
    assert found.n_bytes == len(TEXT) - len(model.tokenizer.token_bytes(tokens[0]))
    nats = found.losses.sum() / found.n_bytes
    assert found.figures()["bits_per_byte"] == pytest.approx(nats / math.log(2))


def test_a_model_without_a_vocabulary_has_no_bits_per_byte(
    model_file: Callable[[Case], Path],
) -> None:
    model = rwkvcpp.Model(model_file(Case("7", "bin", "F32")))
    found = score(model, TOKENS).figures()
    assert (found["tokens"], found["bytes"], "bits_per_byte" in found) == (19, None, False)


@pytest.mark.usefixtures("small_pieces")
def test_progress_is_told_with_the_perplexity_so_far(model: rwkvcpp.Model) -> None:
    told: list[tuple[int, float]] = []
    found = score(model, list(TEXT), progress=lambda n, perplexity: told.append((n, perplexity)))
    numbers = [n for n, _ in told]
    assert numbers == sorted(numbers)
    assert len(numbers) > 10
    assert told[-1] == (len(TEXT) - 1, pytest.approx(found.figures()["perplexity"]))


@pytest.mark.parametrize("tokens", [[], [5]])
def test_a_text_without_a_second_token_is_refused(model: rwkvcpp.Model, tokens: list[int]) -> None:
    with pytest.raises(ValueError, match=f"the text has {len(tokens)} tokens, expected one that"):
        score(model, tokens)


def test_a_logit_that_is_no_number_is_named_with_its_position(tmp_path: Path) -> None:
    checkpoint = dict(BYTES.checkpoint())
    checkpoint["emb.weight"] = checkpoint["emb.weight"].copy()
    checkpoint["emb.weight"][ord("f")] = np.nan
    path = tmp_path / "broken.bin"
    write_bin(path, checkpoint, "F32")
    position = TEXT.index(b"f") + 1
    expected = f"broken.bin: of the logits for token {position} of the text, number 0 is nan"
    for plan in (Plan(), Plan(8), Plan(8, 3), Plan(begin=0)):
        with pytest.raises(rwkvcpp.RwkvError, match=expected):
            score(rwkvcpp.Model(path), list(TEXT), plan)


# ---- figures ---------------------------------------------------------------------------------


def test_probabilities_of_any_logits_sum_to_one() -> None:
    logits = np.array([[0, 1, 2], [1e4, 1e4, -1e4], [-3e38, 3e38, 0]], np.float32)
    log_p = log_softmax(logits)
    assert np.allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-15)
    assert log_p[1, 0] == pytest.approx(-math.log(2))
    assert log_p[2, 1] == 0


def test_the_divergence_is_that_of_the_reference() -> None:
    p, q = np.log([[0.5, 0.5]]), np.log([[0.75, 0.25]])
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert kl_divergence(p, q) == pytest.approx([expected])
    assert kl_divergence(q, p) != pytest.approx([expected])
    assert kl_divergence(p, p) == [0]


def test_figures_are_means_and_quantiles() -> None:
    losses = np.array([1.0, 3.0])
    found = Scores(
        losses,
        n_bytes=8,
        reference_losses=np.array([1.0, 1.0]),
        kl=np.array([0.0, 0.1]),
        same_likeliest=np.array([True, False]),
    ).figures()
    assert found["perplexity"] == pytest.approx(math.exp(2))
    assert found["perplexity_error"] == pytest.approx(math.exp(2))  # sqrt(2) / sqrt(2), times it
    assert found["bits_per_byte"] == pytest.approx(4 / 8 / math.log(2))
    assert found["reference_perplexity"] == pytest.approx(math.e)
    assert (found["kl_mean"], found["kl_max"]) == (pytest.approx(0.05), 0.1)
    assert found["kl_p99"] == pytest.approx(0.099)
    assert found["top1_agreement"] == 0.5


def test_figures_of_one_token_or_of_a_hopeless_model_are_numbers_or_none() -> None:
    found = Scores(np.array([1e6]), n_bytes=1).figures()
    assert math.isfinite(found["perplexity"])
    assert (found["perplexity_error"], found["bits_per_byte_error"]) == (None, None)


def test_the_standard_error_knows_that_neighbours_are_alike() -> None:
    values = np.random.default_rng(1).standard_normal(32 * 100)
    assert standard_error(values) == pytest.approx(1 / math.sqrt(3200), rel=0.3)
    alike = np.repeat(values[:32], 100)
    assert standard_error(alike) == pytest.approx(1 / math.sqrt(32), rel=0.3)


# ---- two models ------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pieces")
def test_a_model_is_compared_with_another(
    model: rwkvcpp.Model, model_path: Path, other_path: Path
) -> None:
    other = rwkvcpp.Model(other_path, activations="float32")
    found = score(other, list(TEXT), Plan(16), reference=ModelPredictor(model))
    state, own = [], []
    for begin in range(0, len(TEXT) - 1, 16):
        inputs = list(TEXT[begin : min(begin + 16, len(TEXT) - 1)])
        state.append(rwkv_numpy.forward(read_model(model_path).weights, inputs)[0])
        own.append(rwkv_numpy.forward(read_model(other_path).weights, inputs)[0])
    p, q = (log_softmax(np.concatenate(logits)) for logits in (state, own))
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    assert kl.mean() > 1e-3
    assert found.kl == pytest.approx(kl, rel=1e-2, abs=1e-6)
    assert np.array_equal(found.same_likeliest, p.argmax(axis=1) == q.argmax(axis=1))
    assert np.allclose(found.reference_losses, score(model, list(TEXT), Plan(16)).losses)


def test_a_model_does_not_differ_from_itself(model: rwkvcpp.Model) -> None:
    found = score(model, list(TEXT), reference=ModelPredictor(model))
    assert not found.kl.any()
    assert found.same_likeliest.all()


def test_models_of_other_vocabularies_are_not_compared(model: rwkvcpp.Model) -> None:
    with pytest.raises(ValueError, match="a vocabulary of 4096 tokens, expected 256"):
        score(model, list(TEXT), reference=ModelPredictor(rwkvcpp.Model()))


# ---- the file --------------------------------------------------------------------------------


def predicted(model: rwkvcpp.Model, text: bytes = TEXT, plan: Plan | None = None) -> Predicted:
    plan = plan or Plan()
    return Predicted(
        n_tokens=plan.n_predicted(len(text)),
        n_vocab=model.n_vocab,
        window=plan.window,
        stride=plan.stride,
        begin=plan.begin,
        text=text_id(text),
        vocabulary=vocabulary_id(model.tokenizer),
        model=model.path.name,
        activations=model.activations,
    )


@pytest.fixture
def base_path(model: rwkvcpp.Model, tmp_path: Path) -> Path:
    path = tmp_path / "text.kl"
    with new_kl_base(path, predicted(model)) as record:
        score(model, list(TEXT), record=record)
    return path


def test_a_base_takes_two_bytes_for_each_token_of_both(base_path: Path) -> None:
    rows = (len(TEXT) - 1) * (8 + 2 * 256)
    assert rows < base_path.stat().st_size < rows + 1000


def test_a_model_hardly_differs_from_its_own_base(model: rwkvcpp.Model, base_path: Path) -> None:
    with KlBase(base_path) as base:
        found = score(model, list(TEXT), reference=base)
    assert 0 < found.kl.max() <= OWN_DIVERGENCE
    assert found.same_likeliest.all()
    assert np.allclose(found.reference_losses, found.losses, rtol=0, atol=1 / 2048)


@pytest.mark.usefixtures("small_pieces")
def test_a_base_says_what_the_model_would_have_said(
    model: rwkvcpp.Model, other_path: Path, base_path: Path
) -> None:
    other = rwkvcpp.Model(other_path)
    by_side = score(other, list(TEXT), reference=ModelPredictor(model))
    with KlBase(base_path) as base:
        by_file = score(other, list(TEXT), reference=base)
        again = score(other, list(TEXT), reference=base)
    assert by_file.kl == pytest.approx(by_side.kl, rel=1e-2)
    assert by_file.kl.mean() == pytest.approx(by_side.kl.mean(), rel=1e-3)
    assert np.array_equal(by_file.same_likeliest, by_side.same_likeliest)
    assert np.array_equal(again.kl, by_file.kl)


def test_probabilities_below_any_code_are_still_small(tmp_path: Path) -> None:
    facts = Predicted(1, 3, None, None, None, text="", vocabulary="", model="", activations="")
    with new_kl_base(tmp_path / "steep.kl", facts) as record:
        record(log_softmax(np.array([[0.0, -40.0, -90.0]])), np.array([0]))
    with KlBase(tmp_path / "steep.kl") as base:
        (row,) = base.predictions(Plan().pieces([0, 0], n_vocab=3))
    log_p = row.log_p(slice(None))[0]
    assert log_p == pytest.approx([0, -32, -32], abs=1e-3)


def test_a_base_of_something_else_is_refused(model: rwkvcpp.Model, base_path: Path) -> None:
    own = predicted(model)
    with KlBase(base_path) as base:
        base.check(own)
        base.check(replace(own, n_tokens=5, model="another.gguf", activations="int8"))
        for name, other in (
            ("text", text_id(b"another")),
            ("vocabulary", vocabulary_id(rwkvcpp.Model().tokenizer)),
            ("window", 16),
            ("stride", 16),
            ("begin", 0),
        ):
            with pytest.raises(ValueError, match=rf"text\.kl: made with another {name}: "):
                base.check(replace(own, **{name: other}))
        with pytest.raises(ValueError, match="holds the predictions of 65 tokens, expected at"):
            base.check(replace(own, n_tokens=66))


def test_a_damaged_prediction_is_named(model: rwkvcpp.Model, base_path: Path) -> None:
    whole = base_path.read_bytes()
    row = 8 + 2 * 256
    begin = len(whole) - (len(TEXT) - 1) * row
    for n, byte in ((0, 0), (0, 5), (7, 8), (64, row - 1)):
        damaged = bytearray(whole)
        damaged[begin + n * row + byte] ^= 1
        base_path.write_bytes(damaged)
        with (
            KlBase(base_path) as base,
            pytest.raises(rwkvcpp.ModelFormatError, match=f"prediction {n} of 65 is damaged"),
        ):
            score(model, list(TEXT), reference=base)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda whole: b"", "begins with b'', expected b'RWKVKL'"),
        (lambda whole: whole[:9], "begins with b'RWKVKL', expected"),
        (lambda whole: b"GGUF" + whole[4:], "begins with b'GGUFKL'"),
        (lambda whole: whole[:-1], r"has \d+ bytes, expected \d+ for 65 predictions over 256 tok"),
        (lambda whole: whole + b"\0", r"has \d+ bytes, expected \d+"),
        (lambda whole: whole[:8] + b"\xff\xff\xff\xff" + whole[12:], "header has 4294967295 bytes"),
        (lambda whole: whole[:12] + b"[" + whole[13:], "the header is damaged"),
        (lambda whole: whole.replace(b'"n_vocab": 256', b'"n_vocab": -25'), "n_vocab is -25"),
        (lambda whole: whole.replace(b'"n_tokens": 65', b'"n_tokens": {}'), "n_tokens is {}"),
        (lambda whole: whole.replace(b'"n_tokens"', b'"n_makens"'), "the header is damaged"),
        (lambda whole: whole[:8] + struct.pack("<I", 2) + b"[]", "the header is damaged"),
    ],
)
def test_a_file_that_is_no_base_is_refused(
    change: Callable[[bytes], bytes], problem: str, base_path: Path
) -> None:
    base_path.write_bytes(change(base_path.read_bytes()))
    with pytest.raises(rwkvcpp.ModelFormatError, match=rf"text\.kl: .*{problem}"):
        KlBase(base_path)


def test_a_base_of_a_later_version_is_unsupported(base_path: Path) -> None:
    base_path.write_bytes(b"RWKVKL02" + base_path.read_bytes()[8:])
    with pytest.raises(rwkvcpp.UnsupportedError, match=r"text\.kl: is of version b'02'"):
        KlBase(base_path)


def test_an_interrupted_run_leaves_the_base_that_was_there(
    model: rwkvcpp.Model, base_path: Path
) -> None:
    before = base_path.read_bytes()

    def interrupt(n_scored: int, perplexity: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_kl_base(base_path, predicted(model)) as record:
        score(model, list(TEXT), record=record, progress=interrupt)
    assert base_path.read_bytes() == before
    assert [path.name for path in base_path.parent.iterdir()] == [base_path.name]


# ---- the command -----------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["perplexity", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["perplexity", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line.removeprefix("rwkvcpp: error: ")


def test_json_is_one_flat_object_and_nothing_else(
    model_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["perplexity", "-m", str(model_path), "-f", str(text_file), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert not any(isinstance(value, (dict, list)) for value in found.values())
    expected = losses_of(model_path, list(TEXT))
    assert found["tokens"] == len(TEXT) - 1
    assert found["perplexity"] == pytest.approx(math.exp(expected.mean()), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(expected.mean() / math.log(2), rel=1e-5)
    assert found["tokens_per_second"] > 0
    assert "kl_mean" not in found


def test_a_base_and_a_reference_model_tell_the_same(
    model_path: Path, other_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("-f", text_file, "--window", 16, "--stride", 8)
    base = text_file.with_name("base.kl")
    told(capsys, "-m", model_path, *options, "--save-kl-base", base)
    compared = ("-m", other_path, *options, "--json")
    by_file = json.loads(told(capsys, *compared, "--kl-base", base))
    by_side = json.loads(told(capsys, *compared, "--reference-model", model_path))
    assert by_side["kl_mean"] > 1e-3
    assert by_file["kl_mean"] == pytest.approx(by_side["kl_mean"], rel=1e-3)
    assert by_file["kl_p99"] == pytest.approx(by_side["kl_p99"], rel=1e-2)
    assert by_file["top1_agreement"] == by_side["top1_agreement"] < 1
    expected = by_side["reference_perplexity"]
    assert by_file["reference_perplexity"] == pytest.approx(expected, rel=1 / 2048)


def test_activations_are_float32_unless_asked_for(
    other_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("-m", other_path, "-f", text_file, "--reference-model", other_path, "--json")
    assert json.loads(told(capsys, *options))["kl_max"] == 0
    found = json.loads(told(capsys, *options, "--activations", "int8"))
    assert found["activations"] == "int8"
    assert 0 < found["kl_mean"] < 0.01


def test_as_many_tokens_are_scored_as_asked_for(
    model_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("-m", model_path, "-f", text_file)
    assert json.loads(told(capsys, *own, "--limit", 10, "--json"))["tokens"] == 10
    base = text_file.with_name("base.kl")
    told(capsys, *own, "--limit", 20, "--save-kl-base", base)
    for options, expected in (((), 20), (("--limit", "5"), 5)):
        found = json.loads(told(capsys, *own, "--kl-base", base, "--json", *options))
        assert (found["tokens"], found["kl_max"] <= OWN_DIVERGENCE) == (expected, True)
    problem = refused(capsys, *own, "--kl-base", base, "--limit", 21)
    assert problem == f"{base}: holds the predictions of 20 tokens, expected at least 21"
    assert "--limit is 0, expected at least 1" in refused(capsys, *own, "--limit", 0)


def test_people_get_a_table(
    model_path: Path, other_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("-m", other_path, "-f", text_file, "--reference-model", model_path)
    out = told(capsys, *options, "--window", 32)
    parts = ("65 tokens, 65 bytes of text.txt, in windows of 32, 32 apart", "bits per byte", "±",
             "KL divergence", "nats per token", "same likeliest token", "tokens/s")  # fmt: skip
    assert [part for part in parts if part not in out] == []


def test_the_text_may_come_through_a_pipe(
    model_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"any \xff\x00 bytes")))
    found = json.loads(told(capsys, "-m", model_path, "-f", "-", "--json"))
    assert found["bytes"] == len(b"any \xff\x00 bytes") - 1


def test_texts_that_cannot_be_scored_are_one_sentence(
    model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("-m", model_path)
    empty, single = tmp_path / "empty.txt", tmp_path / "single.txt"
    empty.write_bytes(b"")
    single.write_bytes(b"x")
    assert "No such file" in refused(capsys, *own, "-f", tmp_path / "none.txt")
    assert refused(capsys, *own, "-f", empty).startswith(f"{empty}: no text in it, expected some")
    assert "the text is one token, expected two or more" in refused(capsys, *own, "-f", single)
    assert "no token that parts texts" in refused(capsys, *own, "-f", single, "--begin-of-text")
    found = json.loads(told(capsys, "-q", "-f", single, "--begin-of-text", "--json"))
    assert (found["tokens"], found["perplexity_error"]) == (1, None)


def test_a_base_of_another_text_is_one_sentence(
    model_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = text_file.with_name("base.kl")
    told(capsys, "-m", model_path, "-f", text_file, "--save-kl-base", base)
    text_file.write_bytes(TEXT + b" ")
    problem = refused(capsys, "-m", model_path, "-f", text_file, "--kl-base", base)
    assert problem.startswith(f"{base}: made with another text: ")


# ---- trained models --------------------------------------------------------------------------


def test_q8_0_of_the_story_model_loses_a_ten_thousandth_of_a_nat(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "heldout.txt"
    with lzma.open(shared / "corpus" / "heldout.txt.xz") as heldout:
        text.write_bytes(heldout.read(100_000))
    demo = shared / "demo"
    found = json.loads(
        told(capsys, "-m", demo / "rwkv7-stories-q8_0.gguf", "-f", text, "--json", "--limit", 4096,
             "--window", 512, "--reference-model", demo / "rwkv7-stories-f16.gguf")
    )  # fmt: skip
    assert found["tokens"] == 4096
    assert 10 < found["perplexity"] < 30
    assert 0.5e-4 < found["kl_mean"] < 2e-4
    assert found["top1_agreement"] > 0.99

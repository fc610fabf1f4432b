"""Strategy strings: every form that others write, what becomes of the weights, and what is told."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp import StrategyWarning
from rwkvcpp.cli import main
from rwkvcpp.cli.model_options import add_model_options, make_model
from rwkvcpp.file_types import file_type
from rwkvcpp.strategy import Part, Strategy, parse_strategy
from tests.python.test_checkpoints import logits_of, rounded
from tests.python.test_lora import ALPHA, adapter
from tests.reference.checkpoints import VERSIONS, Sizes
from tests.reference.pth_writer import write_pth
from tests.reference.writers import write_bin, write_gguf

CPU16 = Part("cpu", float_type="F16")
CUDA16 = Part("cuda", float_type="F16")
GPU = Part("webgpu", float_type="F16")


def quantized(
    device: str, name: str, n_layers: int | None = None, *, streams: bool = False
) -> Part:
    return Part(device, None, "F16", name, n_layers, streams)


# ---- the forms -------------------------------------------------------------------------------

FORMS = [
    ("cpu fp32", (Part("cpu", float_type="F32"),)),
    ("cpu bf16", (Part("cpu", float_type="BF16"),)),
    ("cpu fp32i8", (Part("cpu", None, "F32", "q8_0"),)),
    ("cuda fp16", (CUDA16,)),
    ("mps fp32", (Part("mps", float_type="F32"),)),
    ("dml fp32", (Part("dml", float_type="F32"),)),
    ("cuda:1 fp16", (Part("cuda", 1, "F16"),)),
    ("cuda fp16i8", (quantized("cuda", "q8_0"),)),
    ("cuda fp16i4", (quantized("cuda", "q4_k"),)),
    ("cuda fp16i3", (quantized("cuda", "q3_k"),)),
    ("cuda fp16i8 *10 -> cuda fp16", (quantized("cuda", "q8_0", 10), CUDA16)),
    ("cuda:0 fp16 -> cuda:1 fp16", (Part("cuda", 0, "F16"), Part("cuda", 1, "F16"))),
    ("cuda fp16i8 *10+", (quantized("cuda", "q8_0", 10, streams=True),)),
    (
        "cuda fp16i8 *6 -> cuda fp16 *0+ -> cpu fp32 *1",
        (
            quantized("cuda", "q8_0", 6),
            Part("cuda", None, "F16", None, 0, True),
            Part("cpu", None, "F32", None, 1),
        ),
    ),
    ("  CUDA   FP16I8 *2->cpu fp16 ", (quantized("cuda", "q8_0", 2), CPU16)),
    ("vulkan fp16", (Part("vulkan", float_type="F16"),)),
    ("cpu", (Part("cpu"),)),
    ("vulkan", (Part("vulkan"),)),
]

# WebGPU quantizes layers and never the head; the others have settings.
OTHER_FORMS = [
    ("fp16", (GPU,), False, {}),
    ("fp16i8", (quantized("webgpu", "q8_0"),), False, {}),
    ("fp16i4", (quantized("webgpu", "q4_k"),), False, {}),
    ("fp16i8 layer24", (quantized("webgpu", "q8_0", 24), GPU), False, {}),
    ("fp16i4 layer24 chunk32", (quantized("webgpu", "q4_k", 24), GPU), False, {"chunk": 32}),
    ("fp16 chunk128", (GPU,), False, {"chunk": 128}),
    ("NF4", (Part("webgpu", quantized="q4_k"),), False, {}),
    ("fp16nf4", (quantized("webgpu", "q4_k"),), False, {}),
    ("Int8", (Part("webgpu", quantized="q8_0"),), False, {}),
    ("SF4", (Part("webgpu", quantized="q4_k"),), False, {}),
    ("cpu 8192", (Part("cpu"),), True, {"context": 8192}),
    ("vulkan 4096", (Part("vulkan"),), True, {"context": 4096}),
    ("albatross", (Part("cuda"),), True, {}),
    ("albatross workers=1 batch=32", (Part("cuda"),), True, {"workers": 1, "batch": 32}),
]


@pytest.mark.parametrize(("text", "parts"), FORMS)
def test_parts_are_read(text: str, parts: tuple[Part, ...]) -> None:
    assert parse_strategy(text) == Strategy(text, parts)


@pytest.mark.parametrize(("text", "parts", "with_head", "settings"), OTHER_FORMS)
def test_other_programs_forms_are_read(
    text: str, parts: tuple[Part, ...], with_head: bool, settings: dict[str, int]
) -> None:
    assert parse_strategy(text) == Strategy(text, parts, with_head, settings)


PARTS = "the form is DEVICE TYPE [*N[+]] [-> DEVICE TYPE ...]"
WEBGPU = "the form is TYPE [layerN] [chunkN]"
LLAMA_CPP = "the form is cpu [CONTEXT] or vulkan [CONTEXT]"
ALBATROSS = "the form is albatross [workers=N] [batch=N]"

WRONG = [
    ("", "found nothing, expected a device", PARTS),
    ("   ", "found nothing, expected a device", PARTS),
    ("->", "found '->', expected a device: cpu, cuda, mps, dml or cuda:N", PARTS),
    ("gpu fp16", "found 'gpu', expected a device", PARTS),
    ("cuda", "found nothing behind 'cuda', expected fp16, fp32 or bf16", PARTS),
    ("cuda fp17", "found 'fp17', expected fp16, fp32 or bf16", PARTS),
    ("cuda fp16i5", "found 'fp16i5', expected fp16", PARTS),
    ("cuda fp16i8*10", "found 'fp16i8*10', expected fp16", PARTS),
    ("cuda fp16 *", "found '*', expected *N", PARTS),
    ("cuda fp16 *-1", "found '*-1', expected *N", PARTS),
    ("cuda fp16 *1++", "found '*1++', expected *N", PARTS),
    ("cuda fp16 *1 cpu", "found 'cpu', expected *N, *N+, or -> and another part", PARTS),
    ("cuda fp16 ->", "found nothing behind '->', expected a device", PARTS),
    ("cuda fp16 -> -> cpu fp32", "found '->', expected a device", PARTS),
    ("cuda:x fp16", "found 'cuda:x', expected a device", PARTS),
    ("cpu:1 fp32", "found 'cpu:1', expected a device", PARTS),
    ("cpu -8192", "found '-8192', expected fp16", PARTS),
    ("cuda 8192", "found '8192', expected fp16", PARTS),
    ("cpu 0", "found '0', expected the length of a context", LLAMA_CPP),
    ("cpu 8192 2", "found '2', expected nothing more", LLAMA_CPP),
    ("cpu ²", "found '²', expected the length of a context", LLAMA_CPP),
    ("fp16 layer", "found 'layer', expected layerN or chunkN, each once", WEBGPU),
    ("fp16 chunk1 chunk2", "found 'chunk2', expected layerN or chunkN, each once", WEBGPU),
    ("albatross workers", "found 'workers', expected workers=N", ALBATROSS),
    ("albatross batch=1 batch=1", "found 'batch=1', expected workers=N or batch=N", ALBATROSS),
    ("cuda fp16 *" + 5000 * "9", "found '*" + 59 * "9" + "…', expected *N", PARTS),
    (5000 * "x", "strategy '" + 60 * "x" + "…': found", PARTS),
]


@pytest.mark.parametrize(("text", "found", "form"), WRONG, ids=lambda value: value[:30])
def test_a_wrong_word_is_shown_with_the_form(text: str, found: str, form: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        parse_strategy(text)
    assert found in str(error.value)
    assert form in str(error.value)
    assert len(str(error.value)) < 400


WORDS = (
    "-> cpu cuda cuda:0 mps vulkan webgpu albatross fp16 fp32 bf16 fp16i8 fp32i4 nf4 int8 "
    "*0 *1 *10 *3+ *+ layer3 chunk32 workers=1 batch=2 8192 * + - : = \u00b2 \u0130 \0"
)
word_lists = st.lists(st.sampled_from(WORDS.split()), max_size=8)


@given(st.one_of(st.text(max_size=40), word_lists.map(" ".join)))
def test_any_text_is_a_strategy_or_a_value_error(text: str) -> None:
    try:
        strategy = parse_strategy(text)
    except ValueError:
        return
    for n_layer in (0, 1, 2, 24):
        layers = strategy.layers(n_layer)
        assert len(layers) == len(strategy.parts)
        covered = [layer for part in layers for layer in part]
        assert covered == list(range(len(covered)))
        assert len(covered) <= n_layer + strategy.with_head
    assert strategy.types([]) == {}
    assert all(strategy.warnings(Path("model"), []))


def test_what_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="strategy is int, expected a string"):
        rwkvcpp.Model(strategy=8)  # type: ignore[arg-type]


# ---- which layers ----------------------------------------------------------------------------

# Of a model of 24 layers; the 25th is ln_out and the head.
LAYERS = [
    ("cuda fp16", [(0, 25)]),
    ("cuda fp16i8 *10 -> cuda fp16", [(0, 10), (10, 25)]),
    ("cuda:0 fp16 -> cuda:1 fp16", [(0, 12), (12, 25)]),
    ("cuda fp16 *20 -> cpu fp32", [(0, 20), (20, 25)]),
    ("cuda fp16i8 -> cpu fp32 *10", [(0, 15), (15, 25)]),
    ("cuda fp16 -> cpu fp32 *10 -> cuda fp16", [(0, 7), (7, 17), (17, 25)]),
    ("cuda fp16i8 *10", [(0, 10)]),
    ("cuda fp16i8 *10+", [(0, 25)]),
    ("cuda fp16i8 *6 -> cuda fp16 *0+ -> cpu fp32 *1", [(0, 6), (6, 24), (24, 25)]),
    ("cuda fp16 *99 -> cpu fp32", [(0, 25), (25, 25)]),
    ("cuda fp16 *25 -> cpu fp32 *5", [(0, 25), (25, 25)]),
    ("fp16i8", [(0, 24)]),
    ("fp16i8 layer10", [(0, 10), (10, 24)]),
    ("fp16i8 layer99", [(0, 24), (24, 24)]),
]


@pytest.mark.parametrize(("text", "layers"), LAYERS)
def test_layers_are_shared_out(text: str, layers: list[tuple[int, int]]) -> None:
    assert parse_strategy(text).layers(24) == [range(*each) for each in layers]


# ---- what becomes of a model -----------------------------------------------------------------

SIZES = Sizes(n_embd=256, n_layer=3, head_size=64, n_ffn=512, n_vocab=75)


@pytest.fixture(scope="module")
def float_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each version."""
    folder = tmp_path_factory.mktemp("strategy")
    paths = {version: folder / f"{version}.bin" for version in VERSIONS}
    for version, path in paths.items():
        write_bin(path, rounded(version, "F16", SIZES), "F16")
    return paths


def types_of(path: Path, strategy: str | None = None) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StrategyWarning)
        info = rwkvcpp.model_info(path, strategy=strategy)
    return {tensor["name"]: tensor["type"] for tensor in info["tensors"]}


def changed(path: Path, strategy: str) -> dict[str, str]:
    before = types_of(path)
    return {
        name: found for name, found in types_of(path, strategy).items() if found != before[name]
    }


def matrices(path: Path, type_name: str, layers: range) -> dict[str, str]:
    """What --type would make of these layers."""
    rule = file_type(type_name)
    prefixes = tuple(f"blocks.{layer}." for layer in layers)
    wanted = {
        tensor["name"]: rule.type_of(tensor["name"], tensor["shape"])
        for tensor in rwkvcpp.model_info(path)["tensors"]
        if tensor["name"].startswith(prefixes)
    }
    return {name: found for name, found in wanted.items() if found is not None}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_layers_are_quantized_and_the_others_stay(
    version: str, float_files: dict[str, Path]
) -> None:
    path = float_files[version]
    types = changed(path, "cpu fp16i8 *2 -> cpu fp16")
    assert types == matrices(path, "q8_0", range(2))
    assert len(types) >= 2 * 6
    assert set(types.values()) == {"Q8_0"}


def test_ln_out_and_the_head_are_the_layer_after_the_last(float_files: dict[str, Path]) -> None:
    path = float_files["7"]
    layers = matrices(path, "q8_0", range(3))
    assert changed(path, "cpu fp32i8 *3 -> cpu fp32") == layers
    assert changed(path, "cpu fp32i8 *4 -> cpu fp32") == layers | {"head.weight": "Q8_0"}
    assert changed(path, "cpu fp32i8") == layers | {"head.weight": "Q8_0"}
    assert changed(path, "cpu fp32i8 *1+") == layers | {"head.weight": "Q8_0"}
    assert changed(path, "fp16i8 layer32") == layers
    assert changed(path, "cpu fp32 *3 -> cpu fp32i8") == {"head.weight": "Q8_0"}


@pytest.mark.parametrize(
    ("text", "name"),
    [("fp16i4", "q4_k"), ("NF4", "q4_k"), ("cuda fp16i4 *3", "q4_k"), ("cpu fp32i3 *3", "q3_k")],
)
def test_four_and_three_bits_are_the_k_types(
    text: str, name: str, float_files: dict[str, Path]
) -> None:
    path = float_files["7"]
    assert changed(path, text) == matrices(path, name, range(3))


@pytest.mark.parametrize("text", ["cpu fp32", "cuda bf16", "fp16 layer2", "cpu 8192", "albatross"])
def test_without_i_the_weights_stay(text: str, float_files: dict[str, Path]) -> None:
    assert changed(float_files["6"], text) == {}


@pytest.mark.filterwarnings("ignore::rwkvcpp.StrategyWarning")
def test_a_model_computes_with_those_types(float_files: dict[str, Path]) -> None:
    path = float_files["7"]
    types = matrices(path, "q4_k", range(1))
    expected = logits_of(path, type=types)
    assert not np.array_equal(expected, logits_of(path))
    assert np.array_equal(logits_of(path, strategy="cuda fp16i4 *1 -> cpu fp32"), expected)


def test_two_quantizing_parts_may_differ(float_files: dict[str, Path]) -> None:
    path = float_files["7"]
    types = changed(path, "cpu fp16i8 *1 -> cpu fp16i4 *1 -> cpu fp16")
    assert types == matrices(path, "q8_0", range(1)) | matrices(path, "q4_k", range(1, 2))


@pytest.mark.filterwarnings("ignore::rwkvcpp.StrategyWarning")
def test_merged_adapters_are_rounded_unless_they_are_quantized(tmp_path: Path) -> None:
    path = write_pth(tmp_path / "base.pth", rounded("7", "F16"), "F16")
    lora = [(adapter(tmp_path), ALPHA)]
    plain = logits_of(path, lora=lora)
    assert np.array_equal(logits_of(path, lora=lora, strategy="cuda fp16"), plain)
    types = matrices(path, "q8_0", range(SIZES.n_layer))
    by_name = logits_of(path, lora=lora, type=types)
    assert not np.array_equal(by_name, plain)
    assert np.array_equal(logits_of(path, lora=lora, strategy="fp16i8"), by_name)


# ---- what is told ----------------------------------------------------------------------------

ABSENT = "the strategy names {}, which this build does not have: computing on the CPU"
STREAMS = "the strategy streams layers to a device: here all of them stay in memory"
TOLD = [
    ("cpu fp16i8 *2 -> cpu fp16", []),
    ("cpu", []),
    ("cuda fp16", [ABSENT.format("cuda")]),
    ("cuda fp16i8 *2 -> cuda fp16", [ABSENT.format("cuda")]),
    ("cuda:0 fp16 -> cuda:1 fp16", [ABSENT.format("cuda:0"), ABSENT.format("cuda:1")]),
    ("mps fp32 *2 -> cpu fp32", [ABSENT.format("mps")]),
    ("cpu fp32i8 *2+", [STREAMS]),
    ("cuda fp32i8 *2+", [ABSENT.format("cuda"), STREAMS]),
    (
        "fp16i8 layer2 chunk32",
        [
            ABSENT.format("webgpu"),
            "the strategy names chunks of 32 tokens, and the model cuts prompts by itself: "
            "it has no effect",
        ],
    ),
    (
        "cpu 8192",
        ["the strategy names a context of 8192 tokens, of which RWKV needs none: it has no effect"],
    ),
    (
        "albatross workers=1 batch=32",
        [
            ABSENT.format("cuda"),
            "the strategy names 1 workers, and one engine answers all requests: it has no effect",
            "the strategy names a batch of 32, and the engine has a setting of its own for that: "
            "it has no effect",
        ],
    ),
]


@pytest.mark.parametrize(("text", "told"), TOLD)
def test_what_is_otherwise_is_told(
    text: str, told: list[str], float_files: dict[str, Path]
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = rwkvcpp.Model(float_files["7"], strategy=text)
    assert model.strategy_warnings == tuple(told)
    assert [str(warning.message) for warning in caught] == told
    assert all(warning.category is StrategyWarning for warning in caught)
    assert all(warning.filename == __file__ for warning in caught)


def test_quantized_files_stay_as_they_are_and_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    write_gguf(path, rounded("7", "F16", SIZES), "Q8_0")
    with pytest.warns(StrategyWarning) as caught:
        model = rwkvcpp.Model(path, strategy="cpu fp16i4 *2 -> cpu fp16")
    assert [str(warning.message) for warning in caught] == [
        "small.gguf: 12 tensors are Q8_0 already and stay so, the strategy asks for Q4_K: "
        "that needs the F16, BF16 or F32 file"
    ]
    assert model.strategy_warnings == (str(caught[0].message),)
    assert np.array_equal(logits_of(path), logits_of(path, strategy="cpu fp32"))
    assert types_of(path, "cpu fp16i4") == types_of(path)


def test_a_file_that_is_quantized_as_asked_is_no_news(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    write_gguf(path, rounded("7", "F16", SIZES), "Q8_0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rwkvcpp.Model(path, strategy="cpu fp16i8 *3").strategy_warnings == ()


def test_without_a_strategy_nothing_is_told() -> None:
    assert rwkvcpp.Model().strategy_warnings == ()


def test_type_and_strategy_exclude_each_other(float_files: dict[str, Path]) -> None:
    for load in (rwkvcpp.Model, rwkvcpp.model_info):
        with pytest.raises(ValueError, match="type and strategy both say what weights become"):
            load(float_files["7"], type="q8_0", strategy="cpu fp32")


def test_mapped_weights_cannot_be_quantized(float_files: dict[str, Path]) -> None:
    path = float_files["7"]
    with pytest.raises(ValueError, match="mmap leaves weights as the file has them and strategy"):
        rwkvcpp.Model(path, strategy="cpu fp32i8", mmap=True)
    assert rwkvcpp.Model(path, strategy="cpu fp32", mmap=True).mmap


# ---- commands --------------------------------------------------------------------------------


def test_info_shows_the_types_and_tells(
    float_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(float_files["7"]), "--strategy", "cuda fp16i8 *2 -> cuda fp16"]) == 0
    shown = capsys.readouterr()
    assert shown.err == f"rwkvcpp: {ABSENT.format('cuda')}\n"
    assert "Q8_0, 8 tensors" in shown.out
    assert "Q8_0, 4 tensors" in shown.out


def test_commands_load_with_a_strategy(
    float_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    given = ["-m", str(float_files["7"]), "--strategy", "cuda fp16i8"]
    model = make_model(parser.parse_args(given))
    assert model.weight_type == "Q8_0"
    assert capsys.readouterr().err == f"rwkvcpp: {ABSENT.format('cuda')}\n"
    make_model(parser.parse_args([*given, "-q"]))
    assert capsys.readouterr().err == ""


def test_a_wrong_strategy_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "-q", "-p", "x", "--strategy", "cuda fp17"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rwkvcpp: error: strategy 'cuda fp17': found 'fp17'")
    assert error.count("\n") == 1

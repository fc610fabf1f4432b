"""LoRA adapters: merged as their formats say, into any float model, before it is quantized."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp.checkpoints.checkpoint import open_checkpoint
from rwkvcpp.checkpoints.tensor import decode, encode
from rwkvcpp.cli import main
from rwkvcpp.convert import convert
from rwkvcpp.quantization import quantize
from rwkvcpp.quantization.damage import Part
from rwkvcpp.server.setting_kinds import file_and_alpha
from tests.python.test_checkpoints import CASES, SIZES, Write, case_id, logits_of, rounded
from tests.reference import hf_layouts
from tests.reference.layouts import Tensor
from tests.reference.pth_writer import write_pth
from tests.reference.writers import write_gguf

RANK = 8
ALPHA = 12.0
TARGETS = ("blocks.0.att.key", "blocks.1.ffn.value")


def factors() -> dict[str, Tensor]:
    """A and B of each target, as RWKV-PEFT saves them."""
    rng = np.random.default_rng(11)
    shapes = {
        "blocks.0.att.key": (SIZES.n_embd, SIZES.n_embd),
        "blocks.1.ffn.value": (SIZES.n_embd, SIZES.n_ffn),
    }
    found: dict[str, Tensor] = {}
    for target, (n_out, n_in) in shapes.items():
        found[f"{target}.lora_A"] = _halves(rng, (RANK, n_in))
        found[f"{target}.lora_B"] = _halves(rng, (n_out, RANK))
    return found


def _halves(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Few enough bits that sums of products are exact in float32, whatever their order."""
    return (rng.integers(-4, 5, shape) / 32).astype(np.float32)


def merged(tensors: Mapping[str, Tensor], strength: float) -> dict[str, Tensor]:
    """W + strength / r B A, in float64."""
    whole = dict(tensors)
    own = factors()
    for target in TARGETS:
        product = own[f"{target}.lora_B"].astype(np.float64) @ own[f"{target}.lora_A"]
        name = f"{target}.weight"
        whole[name] = (tensors[name] + strength / RANK * product).astype(np.float32)
    return whole


def adapter(folder: Path, tensors: Mapping[str, Tensor] | None = None) -> Path:
    return write_pth(folder / "lora.pth", tensors or factors(), "F32")


def web_adapter(folder: Path, more: Mapping[str, Tensor] | None = None) -> Path:
    renamed = hf_layouts.web_rwkv({**factors(), **(more or {})}, "7")
    return hf_layouts.write_safetensors(folder / "lora.st", renamed, "F16")


@pytest.fixture
def base(tmp_path: Path) -> dict[str, Tensor]:
    return rounded("7", "F16")


@pytest.fixture
def base_file(base: dict[str, Tensor], tmp_path: Path) -> Path:
    return write_pth(tmp_path / "base.pth", base, "F32")


def test_a_lora_is_merged_with_the_alpha_of_its_training(
    base: dict[str, Tensor], base_file: Path, tmp_path: Path
) -> None:
    expected = write_pth(tmp_path / "merged.pth", merged(base, ALPHA), "F32")
    found = logits_of(base_file, lora=[(adapter(tmp_path), ALPHA)])
    assert np.array_equal(found, logits_of(expected))
    assert not np.array_equal(found, logits_of(base_file))


def test_the_names_of_peft_end_in_weight_too(
    base: dict[str, Tensor], base_file: Path, tmp_path: Path
) -> None:
    renamed = {f"{key}.weight": tensor for key, tensor in factors().items()}
    expected = write_pth(tmp_path / "merged.pth", merged(base, ALPHA), "F32")
    found = logits_of(base_file, lora=[(adapter(tmp_path, renamed), ALPHA)])
    assert np.array_equal(found, logits_of(expected))


@pytest.mark.parametrize("strength", [None, 0.5])
def test_the_alpha_of_web_rwkv_is_a_strength(
    strength: float | None, base: dict[str, Tensor], base_file: Path, tmp_path: Path
) -> None:
    path = web_adapter(tmp_path)
    expected = write_pth(tmp_path / "merged.pth", merged(base, strength or 1.0), "F32")
    assert np.array_equal(logits_of(base_file, lora=[(path, strength)]), logits_of(expected))


def test_several_loras_add_up(base: dict[str, Tensor], base_file: Path, tmp_path: Path) -> None:
    pair = [(adapter(tmp_path), 4.0), (web_adapter(tmp_path), 8.0)]
    expected = write_pth(tmp_path / "merged.pth", merged(base, 12.0), "F32")
    assert np.array_equal(logits_of(base_file, lora=pair), logits_of(expected))


def test_other_tensors_of_a_training_replace_the_models(
    base: dict[str, Tensor], base_file: Path, tmp_path: Path
) -> None:
    own = {
        "blocks.1.att.x_k": np.full((1, 1, SIZES.n_embd), 0.25, np.float32),
        "blocks.1.att.w1": np.full((SIZES.n_embd, SIZES.decay_rank), 0.125, np.float32),
    }
    path = adapter(tmp_path, {**factors(), **own})
    expected = write_pth(tmp_path / "merged.pth", merged(base, ALPHA) | own, "F32")
    assert np.array_equal(logits_of(base_file, lora=[(path, ALPHA)]), logits_of(expected))


def test_other_tensors_of_web_rwkv_are_blended_or_added(
    base: dict[str, Tensor], base_file: Path, tmp_path: Path
) -> None:
    vector, matrix = "blocks.1.att.x_k", "blocks.1.att.w1"
    own = {
        vector: np.full((1, 1, SIZES.n_embd), 0.25, np.float32),
        matrix: np.arange(base[matrix].size, dtype=np.float32).reshape(base[matrix].shape) / 2048,
    }
    path = web_adapter(tmp_path, own)
    whole = merged(base, 0.5)
    whole[vector] = base[vector] * np.float32(0.5) + own[vector] * np.float32(0.5)
    whole[matrix] = base[matrix] + own[matrix] * np.float32(0.5)
    expected = write_pth(tmp_path / "merged.pth", whole, "F32")
    assert np.array_equal(logits_of(base_file, lora=[(path, 0.5)]), logits_of(expected))


def test_merging_comes_before_quantizing(
    base: dict[str, Tensor], base_file: Path, tmp_path: Path
) -> None:
    expected = write_pth(tmp_path / "merged.pth", merged(base, ALPHA), "F32")
    half = write_pth(tmp_path / "half.pth", base, "F16")
    for file in (base_file, half):
        found = logits_of(file, lora=[(adapter(tmp_path), ALPHA)], type="q5_1")
        assert np.array_equal(found, logits_of(expected, type="q5_1"))


def test_a_merged_matrix_keeps_its_type(base: dict[str, Tensor], tmp_path: Path) -> None:
    path = write_pth(tmp_path / "half.pth", base, "F16")
    model = rwkvcpp.Model(path, lora=[(adapter(tmp_path), ALPHA)])
    assert model.weight_type == "F16"
    whole = merged(base, ALPHA)
    for target in TARGETS:
        name = f"{target}.weight"
        whole[name] = decode("F16", encode("F16", whole[name]))
    expected = write_pth(tmp_path / "merged.pth", whole, "F16")
    assert np.array_equal(logits_of(path, lora=[(adapter(tmp_path), ALPHA)]), logits_of(expected))


@pytest.mark.parametrize(
    ("write", "version"), [case for case in CASES if case[1] == "7"], ids=case_id
)
def test_a_lora_fits_its_model_from_every_container(
    write: Write, version: str, base: dict[str, Tensor], tmp_path: Path
) -> None:
    path = write(tmp_path, base, "F16", version)
    other = write_pth(tmp_path / "other.pth", base, "F16")
    lora = [(adapter(tmp_path), ALPHA)]
    assert np.array_equal(logits_of(path, lora=lora), logits_of(other, lora=lora))


# ---- what cannot be merged -----------------------------------------------------------------------


def test_a_training_without_its_alpha_is_an_error_that_names_the_rank(
    base_file: Path, tmp_path: Path
) -> None:
    path = adapter(tmp_path)
    with pytest.raises(ValueError, match="its rank is 8") as error:
        rwkvcpp.Model(base_file, lora=[(path, None)])
    assert str(path) in str(error.value)


def test_a_quantized_base_is_refused_with_the_file_to_use(
    base: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "base.gguf"
    write_gguf(path, base, "Q8_0")
    with pytest.raises(rwkvcpp.UnsupportedError) as error:
        rwkvcpp.Model(path, lora=[(adapter(tmp_path), ALPHA)])
    sentence = str(error.value)
    assert f"{path}: tensor blocks.0.att.key.weight is Q8_0" in sentence
    assert "F16, BF16 or F32 file" in sentence


def changed(key: str, tensor: Tensor | None) -> dict[str, Tensor]:
    found = factors()
    if tensor is None:
        del found[key]
    else:
        found[key] = tensor
    return found


ZEROS = np.zeros((4, 48), np.float32)
MISFITS = {
    "another width": (
        changed("blocks.0.att.key.lora_A", np.zeros((RANK, 48), np.float32)),
        "blocks.0.att.key.lora_A is [8, 48] and blocks.0.att.key.lora_B is [64, 8], "
        "expected [r, 64] and [64, r] for blocks.0.att.key.weight [64, 64]",
    ),
    "two ranks": (
        changed("blocks.0.att.key.lora_A", np.zeros((4, 64), np.float32)),
        "expected [r, 64] and [64, r]",
    ),
    "half a pair": (changed("blocks.0.att.key.lora_B", None), "its other half"),
    "another model": (
        {"blocks.7.att.key.lora_A": ZEROS, "blocks.7.att.key.lora_B": ZEROS},
        "blocks.7.att.key.weight, which",
    ),
    "a vector of another size": (
        changed("blocks.0.att.x_k", np.zeros((1, 1, 32), np.float32)),
        "blocks.0.att.x_k is [1, 1, 32], expected [1, 1, 64]",
    ),
    "a tensor of no model": (changed("blocks.0.att.zz", ZEROS), "blocks.0.att.zz belongs to"),
    "no LoRA": ({"emb.weight": ZEROS}, "has no LoRA"),
    "DiSHA": ({"blocks.0.att.key.disha": ZEROS}, "DiSHA"),
    "PiSSA": (changed("blocks.0.att.key.init_lora_A", ZEROS), "PiSSA"),
    "both layouts": (changed("blocks.0.att.value.lora.0", ZEROS), "more than one layout"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_an_adapter_that_does_not_fit_is_refused(
    misfit: str, base_file: Path, tmp_path: Path
) -> None:
    tensors, words = MISFITS[misfit]
    path = adapter(tmp_path, tensors)
    with pytest.raises(rwkvcpp.RwkvError) as error:
        rwkvcpp.Model(base_file, lora=[(path, ALPHA)])
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_alpha_is_a_number(alpha: float, base_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="alpha is"):
        rwkvcpp.Model(base_file, lora=[(adapter(tmp_path), alpha)])


# ---- on the command line -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("lora.pth:16", (Path("lora.pth"), 16.0)),
        ("a:b.pth:0.5", (Path("a:b.pth"), 0.5)),
        ("lora.st", (Path("lora.st"), None)),
        ("C:lora", (Path("C:lora"), None)),
    ],
)
def test_file_and_alpha_share_an_argument(argument: str, expected: object) -> None:
    assert file_and_alpha(argument) == expected


def test_quantizing_merges_in_float32(base_file: Path, tmp_path: Path) -> None:
    """The same blocks as of the merged floats in a file of their own."""
    lora = [(adapter(tmp_path), ALPHA)]
    done = quantize(base_file, tmp_path / "a.gguf", "q8_0", reference=True, lora=lora)
    merged = convert(base_file, tmp_path / "b.gguf", type="f32", lora=lora).path
    apart = quantize(merged, tmp_path / "c.gguf", "q8_0", reference=True)
    plain = quantize(base_file, tmp_path / "d.gguf", "q8_0", reference=True)
    ours, expected, without = (open_checkpoint(each.path).tensors for each in (done, apart, plain))
    differing = 0
    for name in done.types:
        assert np.array_equal(ours[name].read(), expected[name].read()), name
        differing += not np.array_equal(ours[name].read(), without[name].read())
    assert differing > 0


def test_damage_is_measured_on_the_merged_model(base_file: Path, tmp_path: Path) -> None:
    seen: list[object] = []
    lora = [(adapter(tmp_path), ALPHA)]

    def measured(
        load: Callable[..., rwkvcpp.Model], found: Sequence[Part], *_: object, **__: object
    ):
        model, own = load(activations="float32"), rwkvcpp.Model(base_file, lora=lora)
        tokens = [1, 2, 3]
        logits = (m.forward(tokens, m.initial_state()) for m in (model, own))
        seen.append(np.array_equal(*logits))
        return dict.fromkeys((part.name for part in found), 1.0)

    module = importlib.import_module("rwkvcpp.quantization.quantize")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "measure_damage", measured)
        quantize(base_file, tmp_path / "a.gguf", "q8_0", lora=lora)
    assert seen == [True]


def test_info_tells_of_the_model_as_it_would_load(base_file: Path, tmp_path: Path) -> None:
    lora = [(adapter(tmp_path), ALPHA)]
    for options in ({}, {"type": "q8_0"}, {"lora": lora}, {"type": "q4_0", "lora": lora}):
        info = rwkvcpp.model_info(base_file, **options)
        assert info["weight_bytes"] == rwkvcpp.Model(base_file, **options).weight_bytes
    types = {t["name"]: t["type"] for t in rwkvcpp.model_info(base_file, type="q8_0")["tensors"]}
    assert types["blocks.0.att.key.weight"] == "Q8_0"
    with pytest.raises(ValueError, match="expected one of"):
        rwkvcpp.model_info(base_file, type="q9")


def test_commands_take_loras_and_types(
    base_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary = tmp_path / "vocabulary.txt"
    lines = [f"{i} {bytes([64 + i % 60, 64 + i // 60])!r} 2\n" for i in range(1, SIZES.n_vocab)]
    vocabulary.write_text("".join(lines))
    path = adapter(tmp_path)
    common = ["generate", "-m", str(base_file), "--tokenizer", str(vocabulary), "--max-tokens", "4"]
    assert main([*common, "-p", "A@", "--lora", f"{path}:{ALPHA}", "--type", "q8_0"]) == 0
    assert main([*common, "-p", "A@", "--lora", str(path)]) == 2
    assert "its rank is 8" in capsys.readouterr().err
    loaded = ["--lora", f"{path}:{ALPHA}", "--type", "q8_0"]
    assert main(["info", str(base_file), "--json", *loaded]) == 0
    weights = json.loads(capsys.readouterr().out)["weights"]
    assert "Q8_0" in {row["type"] for row in weights}
    out = str(tmp_path / "out.gguf")
    options = ["--no-measure", "--report", "--lora", f"{path}:{ALPHA}"]
    assert main(["quantize", str(base_file), out, "q8_0", *options]) == 0
    assert "att.key" in capsys.readouterr().out

"""rwkvcpp convert: what each container gets, there and back, and what is left when it fails."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import rwkvcpp
from rwkvcpp import ModelFormatError, RwkvError, UnsupportedError, _core
from rwkvcpp.checkpoints import open_checkpoint
from rwkvcpp.checkpoints.tensor import encode
from rwkvcpp.cli import main
from rwkvcpp.convert import convert
from tests.reference import rwkv_numpy
from tests.reference.cases import NARROW, TOKENS, native_quantize
from tests.reference.checkpoints import VERSIONS, Checkpoint, Sizes
from tests.reference.compare import worst_per_rms
from tests.reference.layouts import to_bin
from tests.reference.writers import FLOAT_TYPES, gguf_type, write_bin, write_gguf

TINY = Sizes(
    n_embd=64, n_layer=2, head_size=32, n_ffn=96, n_vocab=20, lerp_rank=32, decay_rank=32,
    rate_rank=32, value_rank=32, gate_rank=32,
)  # fmt: skip
FLOAT32_TOLERANCE = 1e-4  # as in test_models.py
GGUF_VERSIONS = ("6", "7")  # that llama.cpp knows


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[Any]], type_name: str) -> Path:
    """The format by its description: a JSON header, then the tensors in its order."""
    header: dict[str, Any] = {}
    data = b""
    for name, tensor in tensors.items():
        raw = encode(type_name, np.asarray(tensor, np.float32)).tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": type_name, "shape": tensor.shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@cache
def weights(version: str, sizes: Sizes = TINY) -> dict[str, NDArray[np.float32]]:
    return dict(Checkpoint(version, sizes))


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """An official checkpoint of random weights, as safetensors."""

    def make(version: str, type_name: str = "BF16", sizes: Sizes = TINY) -> Path:
        path = tmp_path / f"v{version}-{type_name}.safetensors"
        return write_safetensors(path, weights(version, sizes), type_name)

    return make


# The value residual of layer 0, which no model reads: GGUF files have something else there.
UNUSED = {f"blocks.0.att.v{i}" for i in range(3)}


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of every tensor that is used, under the official names."""
    return {
        name: (tensor.type, tuple(tensor.shape), tensor.raw_rows(0, tensor.shape[0]))
        for name, tensor in open_checkpoint(path).tensors.items()
        if name not in UNUSED
    }


def logits(path: Path) -> NDArray[np.float32]:
    model = rwkvcpp.Model(path, activations="float32")
    return model.forward(TOKENS_OF_TINY, model.initial_state(), all_logits=True)


TOKENS_OF_TINY = [token % TINY.n_vocab for token in TOKENS]


# ---- there and back --------------------------------------------------------------------------


def is_exact(suffix: str, version: str, type_name: str) -> bool:
    """Whether a container can hold these weights without rounding one."""
    if suffix == ".st":  # F16 only; web-rwkv has no 5.0, and makes 5.2 of 5.1
        return type_name == "F16" and version not in ("5.0", "5.1")
    if suffix == ".bin":  # no bfloat16; decays of the older versions go through exp()
        return type_name != "BF16" and version in ("6", "7")
    return True


@st.composite
def journeys(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    version, type_name = draw(st.sampled_from(VERSIONS)), draw(st.sampled_from(FLOAT_TYPES))
    suffixes = [".gguf", ".safetensors", ".st", ".bin"]
    exact = [suffix for suffix in suffixes if is_exact(suffix, version, type_name)]
    return version, type_name, draw(st.lists(st.sampled_from(exact), min_size=1, max_size=4))


@given(journeys())
@settings(max_examples=60, deadline=None)
def test_weights_come_back_byte_for_byte_through_any_containers(tmp_path_factory, journey):
    version, type_name, suffixes = journey
    folder = tmp_path_factory.mktemp("journey")
    start = here = write_safetensors(folder / "0.safetensors", weights(version), type_name)
    for i, suffix in enumerate(suffixes, start=1):
        here = convert(here, folder / f"{i}{suffix}").path
    end = convert(here, folder / "end.safetensors", type=type_name.lower()).path
    assert contents(end) == contents(start)
    assert open_checkpoint(end).version == version


def test_bits_that_are_no_number_come_back_too(source, tmp_path):
    """A signalling NaN would not survive the way through float32."""
    start = source("7", "BF16")
    nan = b"\x81\x7f"
    start.write_bytes(start.read_bytes()[:-2] + nan)  # the last weight of head.weight, the last
    end = convert(convert(start, tmp_path / "a.gguf").path, tmp_path / "b.safetensors").path
    assert contents(end)["head.weight"][2].endswith(nan)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_container_of_the_same_weights_gives_the_same_logits(version, source, tmp_path):
    start = source(version, "F32")
    expected, _ = rwkv_numpy.forward(Checkpoint(version, TINY).float64(), TOKENS_OF_TINY)
    found = {}
    for suffix in (".gguf", ".bin", ".safetensors"):
        found[suffix] = logits(convert(start, tmp_path / f"out{suffix}", type="f32").path)
        assert worst_per_rms(found[suffix], expected) <= FLOAT32_TOLERANCE
    assert np.array_equal(found[".gguf"], found[".safetensors"])
    assert np.array_equal(found[".gguf"], found[".bin"])


@pytest.mark.parametrize("version", [v for v in VERSIONS if v != "5.0"])
def test_web_rwkv_files_give_the_logits_of_f16(version, source, tmp_path):
    start = source(version, "F16")
    file = convert(start, tmp_path / "out.st").path
    assert np.array_equal(logits(file), logits(convert(start, tmp_path / "out.safetensors").path))


# ---- GGUF ------------------------------------------------------------------------------------


def gguf_contents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(keys, tensors), by the gguf package."""
    reader = gguf.GGUFReader(path)
    keys = {key: field.contents() for key, field in reader.fields.items() if "GGUF." not in key}
    tensors = {
        tensor.name: (tensor.tensor_type.name, tensor.shape.tolist(), tensor.data.tobytes())
        for tensor in reader.tensors
    }
    return keys, tensors


@pytest.mark.parametrize("type_name", [*FLOAT_TYPES, "Q8_0"])
@pytest.mark.parametrize("version", GGUF_VERSIONS)
def test_gguf_has_the_tensors_that_llama_cpps_converter_gives_it(
    version, type_name, source, tmp_path
):
    ours = convert(source(version, "F32", NARROW), tmp_path / "a.gguf", type=type_name.lower())
    write_gguf(tmp_path / "b.gguf", weights(version, NARROW), type_name)
    keys, tensors = gguf_contents(ours.path)
    expected_keys, expected_tensors = gguf_contents(tmp_path / "b.gguf")
    expected_tensors |= layer_0_dummies(expected_tensors)
    assert tensors.keys() == expected_tensors.keys()
    assert {name for name in tensors if tensors[name] != expected_tensors[name]} == set()
    assert {key for key in expected_keys if keys.get(key) != expected_keys[key]} == set()


def layer_0_dummies(tensors: Mapping[str, Any]) -> dict[str, Any]:
    stem = "blk.0.time_mix_"
    found = {i: tensors.get(f"{stem}a{i}.weight") for i in range(3)}
    return {f"{stem}v{i}.weight": tensor for i, tensor in found.items() if tensor}


def test_q8_0_of_rows_that_are_no_whole_blocks_is_f16(source, tmp_path):
    sizes = Sizes(**{**vars(TINY), "gate_rank": 24})
    path = convert(source("7", "F32", sizes), tmp_path / "a.gguf", type="q8_0").path
    _, tensors = gguf_contents(path)
    assert tensors["blk.1.time_mix_g2.weight"][0] == "F16"
    assert tensors["blk.1.time_mix_g1.weight"][0] == "Q8_0"


def test_without_a_type_every_matrix_keeps_its_own(source, tmp_path):
    for type_name in FLOAT_TYPES:
        keys, tensors = gguf_contents(convert(source("7", type_name), tmp_path / "a.gguf").path)
        assert tensors["blk.0.channel_mix_key.weight"][0] == type_name
        assert tensors["blk.0.time_mix_w1.weight"][0] == "F32"
        assert keys["general.file_type"] == {"F32": 0, "F16": 1, "BF16": 32}[type_name]


@pytest.mark.parametrize(("version", "names"), [
    ("4", {"time_mix_first": "F32", "time_mix_decay": "F32", "time_mix_lerp_r": "F32",
           "channel_mix_receptance": "BF16", "time_mix_output": "BF16"}),
    ("5.0", {"time_mix_first_log": "F32", "time_mix_decay": "F32", "time_mix_lerp_r": "F32"}),
    ("5.2", {"time_mix_first": "F32", "time_mix_decay": "F32", "time_mix_gate": "BF16"}),
])  # fmt: skip
def test_versions_4_and_5_have_names_in_llama_cpps_manner(version, names, source, tmp_path):
    keys, tensors = gguf_contents(convert(source(version), tmp_path / "a.gguf").path)
    assert keys["general.architecture"] == f"rwkv{version[0]}"
    found = {name: tensors[f"blk.1.{name}.weight"][0] for name in names}
    assert found == names


def test_the_stories_become_the_published_file(shared, tmp_path):
    """Names, types, shapes, bytes, vocabulary: made in llama.cpp's manner, by another program."""
    demo = shared / "demo"
    vocabulary = demo / "rwkv_vocab_stories.txt"
    made = convert(
        demo / "rwkv7-stories.pth", tmp_path / "a.gguf", type="f16", tokenizer=vocabulary
    ).path
    keys, tensors = gguf_contents(made)
    expected_keys, expected_tensors = gguf_contents(demo / "rwkv7-stories-f16.gguf")
    assert tensors == expected_tensors
    different = {key for key in expected_keys if keys.get(key) != expected_keys[key]}
    assert different == {"general.name"}  # no .pth has a name
    prompt = "Once upon a time"
    published = rwkvcpp.Model(demo / "rwkv7-stories-f16.gguf").tokenizer
    assert rwkvcpp.Model(made).tokenizer.encode(prompt) == published.encode(prompt)


def test_a_halved_model_comes_out_whole(tmp_path):
    checkpoint = weights("6")
    write_gguf(tmp_path / "halved.gguf", checkpoint, "F32", rescale_every=1)
    whole = convert(tmp_path / "halved.gguf", tmp_path / "whole.gguf").path
    keys, _ = gguf_contents(whole)
    assert keys["rwkv6.rescale_every_n_layers"] == 0
    start = write_safetensors(tmp_path / "start.safetensors", checkpoint, "F32")
    end = convert(whole, tmp_path / "end.safetensors").path
    assert contents(end) == contents(start)


@pytest.mark.parametrize(
    ("name", "eps"),
    [
        ("tiny-rwkv-4v0-660K-FP32", 64e-5),
        ("tiny-rwkv-5v1-730K-FP32", 1e-5),
        ("tiny-rwkv-5v2-730K-FP32", 1e-5),
        ("tiny-rwkv-6v0-3m-Q5_1", 64e-5),
        ("tiny-rwkv-7v0-834K-FP16", 64e-5),
    ],
)
def test_trained_bin_files_say_the_same_as_gguf(name, eps, shared, tmp_path):
    """Decays that were stored after exp() are taken back, to a rounding."""
    start = shared / "models" / f"{name}.bin"
    end = convert(start, tmp_path / "a.gguf").path
    found = []
    for path in (start, end):
        model = rwkvcpp.Model(path, activations="float32", group_norm_eps=eps)
        tokens = model.tokenizer.encode("in the beginning")
        found.append(model.forward(tokens, model.initial_state(), all_logits=True))
    assert worst_per_rms(found[1], found[0]) <= FLOAT32_TOLERANCE


# ---- rwkv.cpp --------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["F32", "F16"])
@pytest.mark.parametrize("version", GGUF_VERSIONS)
def test_bin_is_what_rwkv_cpps_converter_writes(version, base, source, tmp_path):
    ours = convert(source(version, base, NARROW), tmp_path / "a.bin")
    rounded = {n: t.astype("<f2" if base == "F16" else "<f4").astype(np.float32)
               for n, t in weights(version, NARROW).items()}  # fmt: skip
    write_bin(tmp_path / "b.bin", rounded, base)
    assert ours.path.read_bytes() == (tmp_path / "b.bin").read_bytes()


@pytest.mark.parametrize("version", GGUF_VERSIONS)
def test_bin_is_quantized_as_rwkv_cpps_quantizer_does(version, source, tmp_path):
    ours = convert(source(version, "F32", NARROW), tmp_path / "a.bin", type="q8_0")
    write_bin(tmp_path / "b.bin", weights(version, NARROW), "Q8_0")
    assert ours.path.read_bytes() == (tmp_path / "b.bin").read_bytes()


@pytest.mark.parametrize("version", ["4", "5.0", "5.1", "5.2"])
def test_decays_in_bin_are_the_nearest_to_their_exponentials(version, source, tmp_path):
    ours = convert(source(version, "F32"), tmp_path / "a.bin").path
    exact = {name: tensor.astype(np.float64) for name, tensor in weights(version).items()}
    stored = bin_tensors(ours)
    for name, expected in to_bin(exact):
        assert stored[name].shape == expected.shape
        assert np.array_equal(stored[name], expected.astype(np.float32)), name


def bin_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Of an F32 file, in the file's own shapes."""
    data, position, tensors = path.read_bytes(), 24, {}
    while position < len(data):
        n_dims, n_name, _ = struct.unpack_from("<3i", data, position)
        shape = struct.unpack_from(f"<{n_dims}i", data, position + 12)[::-1]
        position += 12 + 4 * n_dims
        name = data[position : position + n_name].decode()
        values = np.frombuffer(data, "<f4", math.prod(shape), position + n_name)
        tensors[name] = values.reshape(shape)
        position += n_name + values.nbytes
    return tensors


def test_bfloat16_becomes_f16_in_bin(source, tmp_path):
    file = rwkvcpp.model_info(convert(source("7", "BF16"), tmp_path / "a.bin").path)
    types = {tensor["name"]: tensor["type"] for tensor in file["tensors"]}
    assert (types["blocks.0.ffn.key.weight"], types["blocks.0.att.w1"]) == ("F16", "F16")
    assert types["blocks.0.ln1.weight"] == "F32"


# ---- safetensors -----------------------------------------------------------------------------


@pytest.mark.parametrize("type_name", ["F32", "F16"])
def test_safetensors_has_the_official_names_and_shapes(type_name, source, tmp_path):
    library = pytest.importorskip("safetensors.numpy", reason="needs the extra [files]")
    path = convert(source("7", type_name), tmp_path / "a.safetensors").path
    found = library.load_file(path)
    expected = {n: t.astype("<f4" if type_name == "F32" else "<f2")
                for n, t in weights("7").items()}  # fmt: skip
    assert found.keys() == expected.keys()
    assert all(found[name].dtype == expected[name].dtype for name in found)
    assert all(np.array_equal(found[name], expected[name]) for name in found)


def test_the_widest_tensors_come_first_so_that_all_are_aligned(source, tmp_path):
    mixed = convert(source("7", "F16"), tmp_path / "a.gguf").path  # vectors are F32 there
    data = convert(mixed, tmp_path / "a.safetensors").path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    entries = json.loads(data[8 : 8 + length])
    del entries["__metadata__"]
    order = sorted(entries.values(), key=lambda entry: entry["data_offsets"])
    types = [entry["dtype"] for entry in order]
    assert length % 8 == 0
    assert types == sorted(types, reverse=True)
    assert set(types) == {"F32", "F16"}


def test_web_rwkv_gets_its_own_names_and_ranks_first(source, tmp_path):
    library = pytest.importorskip("safetensors.numpy", reason="needs the extra [files]")
    sizes = Sizes(**{**vars(TINY), "lerp_rank": 8})
    found = library.load_file(convert(source("6", "F32", sizes), tmp_path / "a.st").path)
    official = weights("6", sizes)
    half = {name: tensor.astype(np.float16) for name, tensor in official.items()}
    att = "blocks.1.att."
    assert {tensor.dtype for tensor in found.values()} == {np.dtype(np.float16)}
    assert np.array_equal(found[att + "time_mix_x"], half[att + "time_maa_x"])
    assert np.array_equal(found[att + "time_first"], half[att + "time_faaaa"])
    assert np.array_equal(found[att + "time_mix_w1"], half[att + "time_maa_w1"].T)
    assert np.array_equal(found[att + "time_mix_w2"], half[att + "time_maa_w2"].swapaxes(1, 2))
    assert np.array_equal(found[att + "time_decay_w2"], half[att + "time_decay_w2"].T)
    assert np.array_equal(found[att + "key.weight"], half[att + "key.weight"])
    assert not [name for name in found if "maa" in name or "faaaa" in name]


def test_web_rwkv_has_a_decay_per_channel_of_5_1_and_no_5_0(source, tmp_path):
    file = convert(source("5.1", "F16"), tmp_path / "a.st").path
    assert open_checkpoint(file).version == "5.2"
    with pytest.raises(UnsupportedError, match=r"RWKV-5\.0, which web-rwkv cannot run"):
        convert(source("5.0", "F16"), tmp_path / "b.st")
    assert not (tmp_path / "b.st").exists()


# ---- quantized sources -----------------------------------------------------------------------


@pytest.mark.parametrize("version", GGUF_VERSIONS)
@pytest.mark.parametrize("every_matrix", [False, True])
def test_quantized_tensors_move_to_another_container_as_they_are(version, every_matrix, tmp_path):
    start = tmp_path / "a.bin"
    write_bin(start, weights(version), "Q5_1", every_matrix=every_matrix)
    there = convert(start, tmp_path / "b.gguf").path
    back = convert(there, tmp_path / "c.bin").path
    assert rwkvcpp.model_info(there)["container"] == "GGUF v3"
    assert blocks(there) == blocks(start) == blocks(back) != {}
    assert np.array_equal(logits(there), logits(start))


def blocks(path: Path) -> dict[str, bytes]:
    file = _core.ModelFile(str(path))
    return {
        name: file.read(name, 0, shape[0])
        for name, type_name, shape in file.tensors
        if type_name not in FLOAT_TYPES and name not in UNUSED
    }


@pytest.mark.parametrize(("out", "type"), [
    ("b.gguf", "f16"), ("b.gguf", "q8_0"), ("b.bin", "f32"), ("b.safetensors", None),
    ("b.st", None),
])  # fmt: skip
def test_quantized_tensors_do_not_change_their_type(out, type, tmp_path):
    write_bin(tmp_path / "a.bin", weights("7"), "Q4_0")
    with pytest.raises(UnsupportedError, match=r"a\.bin: tensor .* is Q4_0, expected a float type"):
        convert(tmp_path / "a.bin", tmp_path / out, type=type)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin"]


def test_a_type_that_rwkv_cpp_has_no_number_for_is_named(tmp_path):
    def type_of(name: str, tensor: NDArray[Any]) -> str:
        is_key = name.endswith("channel_mix_key.weight")
        return "IQ4_NL" if is_key else gguf_type(name, tensor, "F16", every_matrix=False)

    write_gguf(tmp_path / "a.gguf", weights("7"), "F16", type_of=type_of, quantize=native_quantize)
    with pytest.raises(UnsupportedError, match=r"a\.gguf: tensor .* is IQ4_NL, which rwkv\.cpp"):
        convert(tmp_path / "a.gguf", tmp_path / "b.bin")
    again = convert(tmp_path / "a.gguf", tmp_path / "b.gguf").path
    assert blocks(again) == blocks(tmp_path / "a.gguf") != {}


# ---- LoRA ------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", [None, "q8_0"])
def test_a_lora_is_merged_as_a_model_merges_it(type, source, tmp_path):
    numbers = np.random.default_rng(7)
    stem = "blocks.1.ffn.key"
    factors = {"lora_A": numbers.normal(size=(4, 64)), "lora_B": numbers.normal(size=(96, 4))}
    tensors = {f"{stem}.{end}": factor.astype(np.float32) for end, factor in factors.items()}
    adapter = write_safetensors(tmp_path / "lora.safetensors", tensors, "F32")
    start = source("7", "F16")
    merged = convert(start, tmp_path / "a.gguf", type=type, lora=[(adapter, 8.0)]).path
    plain = convert(start, tmp_path / "b.gguf", type=type).path
    changed = {name for name, tensor in contents(merged).items() if tensor != contents(plain)[name]}
    assert changed == {f"{stem}.weight"}
    if type is None:
        model = rwkvcpp.Model(start, lora=[(adapter, 8.0)], activations="float32")
        expected = model.forward(TOKENS_OF_TINY, model.initial_state(), all_logits=True)
        assert np.array_equal(logits(merged), expected)


# ---- values that do not fit ------------------------------------------------------------------


@pytest.mark.parametrize(("out", "type", "value", "advice"), [
    ("a.gguf", "f16", 65520.0, ": use --type bf16"),
    ("a.gguf", "f16", -1e9, ": use --type bf16"),
    ("a.gguf", "q8_0", 1e7, ": use --type bf16"),
    ("a.safetensors", "f16", 1e9, ": use --type bf16"),
    ("a.safetensors", "bf16", 3.4e38, ""),
    ("a.bin", "f16", 1e9, ": use --type f32"),
    ("a.st", None, 1e9, ", the only type of these files"),
])  # fmt: skip
def test_a_value_too_large_for_the_type_is_named(out, type, value, advice, tmp_path):
    tensors = {**weights("7"), "head.weight": weights("7")["head.weight"].copy()}
    tensors["head.weight"][3, 5] = value
    write_safetensors(tmp_path / "big.safetensors", tensors, "F32")
    with pytest.raises(UnsupportedError) as caught:
        convert(tmp_path / "big.safetensors", tmp_path / out, type=type)
    message = str(caught.value)
    assert f"holds {np.float32(value):g}, expected less than" in message
    name = "output.weight" if out == "a.gguf" else "head.weight"
    assert message.startswith(f"{tmp_path / 'big.safetensors'}: tensor {name} holds ")
    assert advice in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.safetensors"]


def test_the_largest_value_of_f16_fits_and_infinity_stays(tmp_path):
    tensors = {**weights("7"), "head.weight": weights("7")["head.weight"].copy()}
    tensors["head.weight"][0, :3] = 65519.0, np.inf, np.nan
    write_safetensors(tmp_path / "a.safetensors", tensors, "F32")
    file = convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", type="f16").path
    row = open_checkpoint(file).tensors["head.weight"].read_rows(0, 1)[0]
    assert (row[0], row[1]) == (65504.0, np.inf)
    assert np.isnan(row[2])


# ---- where a model comes from ----------------------------------------------------------------


def test_what_a_gguf_says_of_its_model_goes_along(tmp_path):
    start = tmp_path / "a.gguf"
    write_gguf(start, weights("7"), "F16", vocabulary=[b""] + [bytes([i]) for i in range(1, 20)])
    named = tmp_path / "named.gguf"
    add_keys(start, named, {"general.name": "Tiny", "general.license": "mit",
                            "tokenizer.chat_template": "{{ messages }}"})  # fmt: skip
    keys, _ = gguf_contents(convert(named, tmp_path / "b.gguf", type="bf16").path)
    before, _ = gguf_contents(named)
    assert keys["general.file_type"] == 32
    assert (keys["general.name"], keys["general.license"]) == ("Tiny", "mit")
    tokenizer = {key for key in before if key.startswith("tokenizer.")}
    assert len(tokenizer) > 5
    assert {key for key in tokenizer if keys.get(key) != before[key]} == set()


def test_a_file_without_a_vocabulary_stays_without_one(source, tmp_path):
    first = convert(source("7"), tmp_path / "a.gguf")
    second = convert(first.path, tmp_path / "b.gguf")
    assert "the file holds no vocabulary" in first.notes[0] == second.notes[0]
    keys, _ = gguf_contents(second.path)
    assert (keys["tokenizer.ggml.model"], keys["rwkv7.vocab_size"]) == ("none", TINY.n_vocab)


def add_keys(start: Path, end: Path, texts: Mapping[str, str]) -> None:
    """A GGUF with more keys, by its description: they are counted, and come before the tensors."""
    data = start.read_bytes()
    _, n_keys = struct.unpack_from("<QQ", data, 8)
    added = b""
    for key, value in texts.items():
        for part, kind in ((key, b""), (value, struct.pack("<I", 8))):
            added += kind + struct.pack("<Q", len(part.encode())) + part.encode()
    reader = gguf.GGUFReader(start)
    padding = -(reader.data_offset + len(added)) % 32
    head = (
        data[:16] + struct.pack("<Q", n_keys + len(texts)) + added + data[24 : reader.data_offset]
    )
    end.write_bytes(head + bytes(padding) + data[reader.data_offset :])


CARD = """---
license: apache-2.0
language:
  - en
  - zh
base_model: RWKV/rwkv-7-base
model_name: Finch's cousin
---
# A model
license: none of these
"""


def test_a_folders_card_is_quoted_and_nothing_is_made_up(source, tmp_path):
    folder = tmp_path / "RWKV7-Goose-1.5B"
    folder.mkdir()
    source("7").rename(folder / "model.safetensors")
    (folder / "config.json").write_text('{"norm_eps": 1e-5, "model_type": "rwkv7"}')
    keys, _ = gguf_contents(convert(folder, tmp_path / "bare.gguf").path)
    general = {key for key in keys if key.startswith("general.")}
    assert general == {f"general.{key}" for key in
                       ("architecture", "type", "file_type", "quantization_version")}  # fmt: skip

    (folder / "README.md").write_text(CARD)
    (folder / "chat_template.jinja").write_text("{{ bos_token }}")
    keys, _ = gguf_contents(convert(folder, tmp_path / "card.gguf").path)
    assert keys["general.license"] == "apache-2.0"
    assert keys["general.languages"] == ["en", "zh"]
    assert keys["general.name"] == "Finch's cousin"
    assert keys["general.base_model.count"] == 1
    assert keys["general.base_model.0.name"] == "rwkv-7-base"
    assert keys["general.base_model.0.organization"] == "RWKV"
    assert keys["tokenizer.chat_template"] == "{{ bos_token }}"

    (folder / "README.md").write_text("---\n- [\n---\n")
    with pytest.raises(ModelFormatError, match=r"README\.md: no YAML"):
        convert(folder, tmp_path / "broken.gguf")


# ---- what cannot be --------------------------------------------------------------------------


def test_an_unknown_suffix_lists_the_known_ones(source, tmp_path):
    for name in ("model.pth", "model", "gguf"):
        with pytest.raises(UnsupportedError) as caught:
            convert(source("7"), tmp_path / name)
        listed = [".gguf", ".safetensors", ".st", ".bin"]
        assert [suffix for suffix in listed if suffix not in str(caught.value)] == []


@pytest.mark.parametrize(("out", "type"), [
    ("a.safetensors", "q8_0"), ("a.st", "f32"), ("a.st", "bf16"), ("a.bin", "bf16"),
])  # fmt: skip
def test_a_type_that_the_container_lacks_is_refused(out, type, source, tmp_path):
    with pytest.raises(UnsupportedError, match=f"files hold .*, not {type.upper()}"):
        convert(source("7"), tmp_path / out, type=type)


def test_a_type_that_is_none_is_refused(source, tmp_path):
    with pytest.raises(ValueError, match="type is 'q4_0', expected one of f32, f16, bf16, q8_0"):
        convert(source("7"), tmp_path / "a.gguf", type="q4_0")


def test_the_input_is_never_overwritten(source, tmp_path):
    path = source("7")
    before = path.read_bytes()
    (tmp_path / "link.safetensors").symlink_to(path)
    for target in (path, tmp_path / "link.safetensors", tmp_path / "." / path.name):
        with pytest.raises(RwkvError, match="is what is read"):
            convert(path, target)
    folder = tmp_path / "hf"
    folder.mkdir()
    shard = folder / "model.safetensors"
    shard.write_bytes(before)
    with pytest.raises(RwkvError, match="is what is read"):
        convert(folder, shard)
    assert path.read_bytes() == shard.read_bytes() == before


def test_an_initial_state_is_not_lost_in_silence(tmp_path):
    state = np.random.default_rng(7).normal(size=(2, 32, 32)).astype(np.float16)
    tensors = {**weights("6"), **{f"blocks.{i}.att.time_state": state + i for i in range(2)}}
    start = write_safetensors(tmp_path / "a.safetensors", tensors, "F16")
    for name in ("b.gguf", "b.bin"):
        with pytest.raises(UnsupportedError, match=r"has an initial state \(blocks\.0"):
            convert(start, tmp_path / name)
    there = convert(start, tmp_path / "b.st").path
    assert contents(convert(there, tmp_path / "c.safetensors").path) == contents(start)
    library = pytest.importorskip("safetensors.numpy", reason="needs the extra [files]")
    turned = library.load_file(there)["blocks.0.att.time_state"]  # web-rwkv's [head][key][value]
    assert np.array_equal(turned, state.swapaxes(1, 2))


def test_a_tensor_without_a_name_in_gguf_is_named(tmp_path):
    odd = {**weights("7"), "blocks.1.att.novelty": np.ones(64, np.float32)}
    start = write_safetensors(tmp_path / "a.safetensors", odd, "F32")
    with pytest.raises(UnsupportedError, match=r"blocks\.1\.att\.novelty"):
        convert(start, tmp_path / "b.gguf")


def test_a_vocabulary_is_only_for_gguf(source, tmp_path):
    with pytest.raises(UnsupportedError, match=r"rwkv\.cpp files hold no vocabulary"):
        convert(source("7"), tmp_path / "a.bin", tokenizer=tmp_path / "vocabulary.txt")


# ---- in whole or not at all ------------------------------------------------------------------


def test_an_error_on_the_way_leaves_what_was_there(source, tmp_path):
    path, target = source("7"), tmp_path / "out.gguf"
    target.write_bytes(b"older")

    def fail(done: int, total: int) -> None:
        if done > total // 2:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        convert(path, target, progress=fail)
    assert target.read_bytes() == b"older"
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "out.gguf"}


def test_progress_ends_with_every_byte(source, tmp_path):
    seen: list[tuple[int, int]] = []
    convert(source("7"), tmp_path / "a.gguf", progress=lambda *now: seen.append(now))
    done = [now for now, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_folder_that_is_not_there_is_named(source, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        convert(source("7"), tmp_path / "nowhere" / "a.gguf")
    assert caught.value.filename == str(tmp_path / "nowhere")


def test_the_file_is_as_open_to_others_as_any(source, tmp_path):
    path = convert(source("7"), tmp_path / "a.gguf").path
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


# ---- memory ----------------------------------------------------------------------------------

PEAK = """
import re, sys
from rwkvcpp.convert import convert

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024

before = peak()
convert(*sys.argv[1:], type="f16")
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_model(tmp_path):
    """Two matrices of 256 MiB: what is held are pieces of them."""
    n_vocab = 2**18
    sizes = Sizes(**{**vars(TINY), "n_vocab": n_vocab, "n_embd": 256})
    tensors = dict(Checkpoint("7", Sizes(**{**vars(sizes), "n_vocab": 16})))
    tensors |= {
        name: np.zeros((n_vocab, 256), np.float32) for name in ("emb.weight", "head.weight")
    }
    path = write_large(tmp_path / "a.safetensors", tensors)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(tmp_path / "b.gguf")],
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert int(done.stdout) < 150


def write_large(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> Path:
    begin, header = 0, {}
    for name, tensor in tensors.items():
        offsets = [begin, begin := begin + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            tensor.tofile(file)
    return path


# ---- the command -----------------------------------------------------------------------------


def test_the_command_says_what_it_wrote(source, tmp_path, capsys):
    target = tmp_path / "out.gguf"
    assert main(["convert", str(source("7")), str(target), "--type", "q8_0"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{target}: {target.stat().st_size:,} bytes" in told.err
    assert "the file holds no vocabulary" in told.err
    assert "--tokenizer FILE" in told.err
    assert main(["convert", str(target), str(tmp_path / "b.bin"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_command_refuses_in_one_line(source, tmp_path, capsys):
    assert main(["convert", str(source("7")), str(tmp_path / "out.onnx")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("rwkvcpp: error: ")
    assert err.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["convert", str(tmp_path / "a"), str(tmp_path / "b.gguf"), "--type", "q4_0"])


WITH_A_BAR = """
import sys
import rwkvcpp.cli.progress
from rwkvcpp.cli import main

rwkvcpp.cli.progress.PATIENCE = 0
sys.exit(main(["convert", *sys.argv[1:]]))
"""


def test_a_bar_in_a_narrow_terminal_takes_one_line(source, tmp_path):
    command = [sys.executable, "-c", WITH_A_BAR, str(source("7")), str(tmp_path / "a.bin")]
    ours, theirs = os.openpty()
    try:
        narrow = {**os.environ, "COLUMNS": "20", "TERM": "xterm"}
        subprocess.run(command, stderr=theirs, check=True, timeout=60, env=narrow)
        shown = os.read(ours, 2**16)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"converting" in shown
    assert b"%" in shown
    assert b"B\x1b" not in shown  # no bytes
    drawn = shown.split(b"\x1b[?25h")[0]
    assert drawn.count(b"\n") <= 1


def test_a_terminal_sees_a_bar_and_a_file_does_not(source, tmp_path):
    command = [sys.executable, "-c", WITH_A_BAR, str(source("7")), str(tmp_path / "a.bin")]
    piped = subprocess.run(command, stderr=subprocess.PIPE, check=True, timeout=60).stderr
    ours, theirs = os.openpty()
    try:
        subprocess.run(command, stderr=theirs, check=True, timeout=60)
        shown = os.read(ours, 2**16)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"converting" in shown
    assert piped.decode().splitlines() == [
        f"{tmp_path / 'a.bin'}: {(tmp_path / 'a.bin').stat().st_size:,} bytes"
    ]

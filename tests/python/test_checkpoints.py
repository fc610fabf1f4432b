"""Checkpoints of every container: the same names, the same numbers, the same logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp.checkpoints import open_checkpoint
from rwkvcpp.checkpoints.tensor import decode, encode
from rwkvcpp.cli.info import describe
from tests.data import checkpoint_files
from tests.python.test_models import FLOAT32_TOLERANCE
from tests.reference import hf_layouts, pth_writer, rwkv_numpy
from tests.reference.checkpoints import VERSIONS, Checkpoint, Sizes
from tests.reference.compare import worst_per_rms
from tests.reference.layouts import Tensor
from tests.reference.pth_writer import View, write_legacy_pth, write_pth, write_views
from tests.reference.trained import story
from tests.reference.writers import write_bin, write_gguf

SIZES = Sizes(
    n_embd=64, n_layer=2, head_size=32, n_ffn=160, n_vocab=75,
    lerp_rank=8, decay_rank=24, rate_rank=8, value_rank=16, gate_rank=40,
)  # fmt: skip
TOKENS = [0, 74, 7, 7, 64, 3, 1, 17, 60, 45, 2]

Tensors = Mapping[str, Tensor]


def rounded(version: str, type_name: str, sizes: Sizes = SIZES) -> dict[str, Tensor]:
    """A checkpoint of numbers that the type holds exactly."""
    checkpoint = Checkpoint(version, sizes)
    return {name: decode(type_name, encode(type_name, a)) for name, a in checkpoint.items()}


def logits_of(path: Path, **options: object) -> Tensor:
    model = rwkvcpp.Model(path, **options)
    return model.forward(TOKENS, model.initial_state(), all_logits=True)


def exact_decays(tensors: Tensors) -> dict[str, Tensor]:
    """For write_bin, whose exp() then rounds once: float64 where rwkv.cpp stores an exp()."""
    wide = ("time_decay", "time_first")
    return {k: t.astype(np.float64) if k.endswith(wide) else t for k, t in tensors.items()}


# ---- how each container is written, and by which tool --------------------------------------------

Write = Callable[[Path, dict[str, Tensor], str, str], Path]  # (folder, tensors, type, version)


def pth(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    return write_pth(folder / "model.pth", tensors, type_name)


def legacy_pth(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    return write_legacy_pth(folder / "model.pth", tensors, type_name)


def safetensors(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    return hf_layouts.write_safetensors(folder / "model.safetensors", tensors, type_name)


def web_rwkv(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    renamed = hf_layouts.web_rwkv(tensors, version)
    return hf_layouts.write_safetensors(folder / "model.st", renamed, type_name)


def transformers(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    config = {"model_type": "rwkv", "layer_norm_epsilon": 1e-5}
    renamed = hf_layouts.transformers(tensors)
    return hf_layouts.write_folder(folder / "hf", renamed, type_name, config, shards=3)


def pytorch_folder(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    (folder / "hf").mkdir()
    write_pth(folder / "hf" / "pytorch_model.bin", hf_layouts.transformers(tensors), type_name)
    return folder / "hf"


def fla(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    renamed = {"6": hf_layouts.fla_6, "7": hf_layouts.fla_7}[version](tensors)
    return hf_layouts.write_folder(folder / "fla", renamed, type_name, {"norm_eps": 1e-5})


def old_fla(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    renamed = hf_layouts.fla_7(tensors, fused_lerps=True)
    return hf_layouts.write_folder(folder / "fla", renamed, type_name, {"norm_eps": 1e-5})


def rwkv_for_causal_lm(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    renamed = hf_layouts.rwkv_for_causal_lm(tensors)
    config = {"model_type": "rwkv", "architecture_version": "rwkv7"}
    return hf_layouts.write_folder(folder / "hf", renamed, type_name, config, shards=2)


def gguf(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    write_gguf(folder / "model.gguf", tensors, type_name)
    return folder / "model.gguf"


def rwkv_cpp(folder: Path, tensors: Tensors, type_name: str, version: str) -> Path:
    write_bin(folder / "model.bin", exact_decays(tensors), type_name)
    return folder / "model.bin"


CONTAINERS: dict[Write, tuple[str, ...]] = {
    pth: VERSIONS,
    legacy_pth: VERSIONS,
    safetensors: VERSIONS,
    web_rwkv: ("4", "5.1", "5.2", "6", "7"),
    transformers: ("4", "5.2", "6"),
    pytorch_folder: ("4", "5.2", "6"),
    fla: ("6", "7"),
    old_fla: ("7",),
    rwkv_for_causal_lm: ("7",),
    gguf: ("6", "7"),
    rwkv_cpp: ("4", "5.0", "5.2", "6", "7"),
}
CASES = [(write, version) for write, versions in CONTAINERS.items() for version in versions]
UNUSED = ("blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2")


def case_id(value: object) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", "")


@pytest.mark.parametrize(("write", "version"), CASES, ids=case_id)
def test_a_checkpoint_has_official_names_shapes_and_numbers(
    write: Write, version: str, tmp_path: Path
) -> None:
    expected = rounded(version, "F16")
    found = open_checkpoint(write(tmp_path, expected, "F16", version))
    if write is web_rwkv and version == "5.1":
        version = "5.2"  # its converter gives every channel its head's decay
        expected = {
            k: np.repeat(t[:, None], SIZES.head_size, 1) if t.shape == (SIZES.n_head,) else t
            for k, t in expected.items()
        }
    assert found.version == version
    assert set(found.tensors) | set(UNUSED) == set(expected) | set(UNUSED)
    for name, tensor in found.tensors.items():
        assert tensor.shape == expected[name].shape, name
        if write is rwkv_cpp and version[0] in "45" and name.endswith(("_decay", "_first")):
            assert np.allclose(tensor.read(), expected[name], rtol=1e-5, atol=1e-5), name
            continue
        assert np.array_equal(tensor.read(), expected[name]), name
        half = tensor.shape[0] // 2
        assert np.array_equal(tensor.read_rows(half, tensor.shape[0]), expected[name][half:]), name
        if tensor.type == "F16":
            bits = encode("F16", expected[name])
            assert tensor.raw_rows(0, tensor.shape[0]) == bits.tobytes(), name


@pytest.mark.parametrize(("write", "version"), CASES, ids=case_id)
@pytest.mark.parametrize("type_name", [None, "q5_1"])
def test_logits_are_the_same_bits_from_every_container(
    write: Write, version: str, type_name: str | None, tmp_path: Path
) -> None:
    tensors = rounded(version, "F16")
    path = write(tmp_path, tensors, "F16", version)
    other = write_pth(tmp_path / "other.pth", tensors, "F16")
    assert np.array_equal(logits_of(path, type=type_name), logits_of(other, type=type_name))


@pytest.mark.parametrize("version", VERSIONS)
def test_bfloat16_stays_bfloat16(version: str, tmp_path: Path) -> None:
    tensors = rounded(version, "BF16")
    path = write_pth(tmp_path / "model.pth", tensors, "BF16")
    checkpoint = open_checkpoint(path)
    assert {tensor.type for tensor in checkpoint.tensors.values()} == {"BF16"}
    assert rwkvcpp.Model(path).weight_type == "BF16"
    exact = write_pth(tmp_path / "exact.pth", tensors, "F32")
    assert np.array_equal(logits_of(path), logits_of(exact))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checkpoint_gives_the_reference(version: str, tmp_path: Path) -> None:
    tensors = rounded(version, "BF16")
    path = write_pth(tmp_path / "model.pth", tensors, "BF16")
    weights = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    expected, _ = rwkv_numpy.forward(weights, TOKENS)
    assert worst_per_rms(logits_of(path), expected) <= FLOAT32_TOLERANCE


def test_a_trained_checkpoint_gives_the_reference(shared: Path) -> None:
    path = shared / "demo" / "rwkv7-stories.pth"
    weights = {
        name: tensor.read().astype(np.float64)
        for name, tensor in open_checkpoint(path).tensors.items()
    }
    tokens = story(shared)["tokens"]
    expected, _ = rwkv_numpy.forward(weights, tokens)
    model = rwkvcpp.Model(path)
    assert model.weight_type == "BF16"
    logits = model.forward(tokens, model.initial_state(), all_logits=True)
    assert worst_per_rms(logits, expected) <= FLOAT32_TOLERANCE


# ---- files that torch wrote ----------------------------------------------------------------------


@pytest.mark.parametrize("name", checkpoint_files.FILES)
def test_files_of_torch_hold_the_numbers_that_it_was_given(name: str) -> None:
    expected = checkpoint_files.expected(name)
    found = open_checkpoint(checkpoint_files.path(name))
    assert found.version == checkpoint_files.FILES[name].version
    assert set(found.tensors) == set(expected)
    for key, tensor in found.tensors.items():
        assert tensor.type == checkpoint_files.FILES[name].type
        assert np.array_equal(tensor.read(), expected[key]), key


@pytest.mark.parametrize("name", checkpoint_files.FILES)
def test_files_of_torch_run_as_the_same_weights_in_safetensors(name: str, tmp_path: Path) -> None:
    same = hf_layouts.write_safetensors(
        tmp_path / "same.safetensors", checkpoint_files.expected(name), "F32"
    )
    tokens = [0, 39, 5, 5, 21]

    def logits(path: Path) -> Tensor:
        model = rwkvcpp.Model(path)
        return model.forward(tokens, model.initial_state(), all_logits=True)

    assert np.array_equal(logits(checkpoint_files.path(name)), logits(same))


def test_views_of_one_storage_are_read_where_they_lie() -> None:
    """torch.save keeps shared storages, transpositions and slices as they are."""
    tensors = open_checkpoint(checkpoint_files.path("views.pth")).tensors
    expected = checkpoint_files.views()
    assert set(tensors) == set(expected)
    for key, tensor in tensors.items():
        assert tensor.shape == expected[key].shape
        assert np.array_equal(tensor.read(), expected[key]), key
        begin, end = 1, tensor.shape[0]
        assert np.array_equal(tensor.read_rows(begin, end), expected[key][begin:end]), key


def test_large_transposed_views_are_read_in_pieces(tmp_path: Path) -> None:
    """Larger than a piece, so that the view is gathered from several reads."""
    n_rows, n_columns = 3000, 4000
    stored = (np.arange(n_rows * n_columns) % 60001).astype(np.float32).reshape(n_rows, n_columns)
    view = View("0", "FloatStorage", stored.size, (n_columns, n_rows), (1, n_columns))
    path = write_views(tmp_path / "t.pth", {"t": view}, {"0": stored.tobytes()})
    tensor = open_checkpoint(path).tensors["t"]
    assert np.array_equal(tensor.read_rows(5, 900), stored.T[5:900])
    assert np.array_equal(tensor.read(), stored.T)


def test_archives_larger_than_4_gib_are_read(tmp_path: Path) -> None:
    """ZIP64, on a file that is almost all hole."""
    hole, values = 2**32, np.arange(16, dtype=np.float32)
    view = View("0", "FloatStorage", hole // 4 + 16, (4, 4), offset=hole // 4)
    pickle = pth_writer.pickle(pth_writer.dictionary({"a": pth_writer.tensor(view)}))
    entries = {"archive/data.pkl": pickle, "archive/data/0": values.tobytes()}
    path = pth_writer.write_sparse_zip64(tmp_path / "m.pth", entries, hole=hole)
    assert path.stat().st_size > 2**32
    assert np.array_equal(open_checkpoint(path).tensors["a"].read(), values.reshape(4, 4))


# ---- what comes with the weights -----------------------------------------------------------------


@pytest.mark.parametrize("version", ["5.2", "6", "7"])
@pytest.mark.parametrize("write", [pth, web_rwkv], ids=case_id)
def test_a_merged_time_state_is_the_initial_state(
    version: str, write: Write, tmp_path: Path
) -> None:
    tensors = rounded(version, "F16")
    rng = np.random.default_rng(5)
    shape = (SIZES.n_head, SIZES.head_size, SIZES.head_size)
    tuned = {
        f"blocks.{i}.att.time_state": rng.integers(-8, 8, shape).astype(np.float32) / 4
        for i in range(SIZES.n_layer)
    }
    plain = rwkvcpp.Model(write_pth(tmp_path / "plain.pth", tensors, "F16"))
    model = rwkvcpp.Model(write(tmp_path, tensors | tuned, "F16", version))
    state = model.initial_state()
    arrays = state.to_numpy()
    for i in range(SIZES.n_layer):
        stored = tuned[f"blocks.{i}.att.time_state"]  # [head][value][key]
        own = stored if version == "7" else stored.swapaxes(-1, -2)
        assert np.array_equal(arrays[f"blocks.{i}.att.wkv"], own)
        assert not arrays[f"blocks.{i}.att.x"].any()
    assert state.n_tokens == 0
    by_hand = rwkvcpp.State.from_numpy(arrays, plain)
    assert np.array_equal(model.forward(TOKENS, state), plain.forward(TOKENS, by_hand))
    fresh = plain.forward(TOKENS, plain.initial_state())
    assert not np.array_equal(fresh, model.forward(TOKENS, model.initial_state()))


def test_a_time_state_of_another_size_is_refused(tmp_path: Path) -> None:
    tensors = rounded("7", "F16")
    tensors["blocks.1.att.time_state"] = np.zeros((2, 32, 16), np.float32)
    path = write_pth(tmp_path / "model.pth", tensors, "F16")
    with pytest.raises(rwkvcpp.ModelFormatError) as error:
        rwkvcpp.Model(path)
    expected = "blocks.1.att.time_state is [2, 32, 16], expected [2, 32, 32]"
    assert str(error.value) == f"{path}: tensor {expected}"


def test_a_folder_may_hold_its_own_vocabulary(tmp_path: Path) -> None:
    folder = fla(tmp_path, rounded("7", "F16"), "F16", "7")
    lines = [f"{i} {bytes([64 + i % 60, 64 + i // 60])!r} 2\n" for i in range(1, SIZES.n_vocab)]
    (folder / "rwkv_vocab_v20230424.txt").write_text("".join(lines))
    model = rwkvcpp.Model(folder)
    assert model.tokenizer.n_vocab == SIZES.n_vocab
    assert model.tokenizer.token_bytes(3) == b"C@"
    found = rwkvcpp.model_info(folder)
    assert found["tokenizer_file"] == str(folder / "rwkv_vocab_v20230424.txt")
    assert describe(found)["tokenizer"] == "rwkv_vocab_v20230424.txt, beside the weights"


def test_without_a_vocabulary_the_error_asks_for_one(tmp_path: Path) -> None:
    model = rwkvcpp.Model(pth(tmp_path, rounded("7", "F16"), "F16", "7"))
    with pytest.raises(rwkvcpp.UnsupportedError, match="--tokenizer FILE"):
        _ = model.tokenizer


def test_the_epsilon_of_a_config_is_used(tmp_path: Path) -> None:
    tensors = hf_layouts.fla_7(rounded("7", "F16"))
    official = hf_layouts.write_folder(tmp_path / "a", tensors, "F16", {"norm_eps": 1e-5})
    other = hf_layouts.write_folder(tmp_path / "b", tensors, "F16", {"norm_eps": 1e-2})
    assert not np.array_equal(logits_of(official), logits_of(other))


def test_info_knows_every_container(tmp_path: Path) -> None:
    tensors = rounded("7", "F16")
    info = rwkvcpp.model_info(pth(tmp_path, tensors, "F16", "7"))
    assert info["container"] == "PyTorch"
    assert (info["version"], info["n_layer"], info["n_vocab"]) == ("7", 2, SIZES.n_vocab)
    assert (info["head_size"], info["n_head"]) == (32, 2)
    folder = rwkvcpp.model_info(rwkv_for_causal_lm(tmp_path, tensors, "F16", "7"))
    assert folder["container"] == "folder of 2 shards of safetensors"
    assert folder["weight_bytes"] == info["weight_bytes"]


def test_weights_may_stay_in_the_file(tmp_path: Path) -> None:
    """mmap: low-rank matrices, which are transposed, are packed; the rest is used in place."""
    path = pth(tmp_path, rounded("7", "BF16"), "BF16", "7")
    assert np.array_equal(logits_of(path, mmap=True), logits_of(path))
    mapped, packed = rwkvcpp.Model(path, mmap=True), rwkvcpp.Model(path)
    assert 0 < mapped.weight_bytes < packed.weight_bytes / 2


# ---- what is recognised and refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("blocks.0.qkv.qq.weight", "RWKV-7b"),
        ("blocks.0.ffn.s_emb.weight", "RWKV-7a"),
        ("blocks.0.ffn.enn.weight", "RWKV-8"),
    ],
)
def test_research_versions_are_refused_by_name(mark: str, name: str, tmp_path: Path) -> None:
    tensors = rounded("7", "F16") | {mark: np.zeros((4, 4), np.float32)}
    path = write_pth(tmp_path / "model.pth", tensors, "F16")
    for refused in (rwkvcpp.Model, open_checkpoint):
        with pytest.raises(rwkvcpp.UnsupportedError) as error:
            refused(path)
        assert name in str(error.value)
        assert mark in str(error.value)


def test_what_is_no_model_says_what_it_is(tmp_path: Path) -> None:
    state = write_pth(
        tmp_path / "state.pth", {"blocks.0.att.time_state": np.zeros((2, 4, 4))}, "F32"
    )
    lora = write_pth(tmp_path / "lora.pth", {"blocks.0.att.key.lora_A": np.zeros((2, 4))}, "F32")
    other = write_pth(tmp_path / "other.pth", {"layer.weight": np.zeros((2, 4))}, "F32")
    expected = {state: "tuned state", lora: "LoRA adapter", other: "no tensor emb.weight"}
    for path, words in expected.items():
        with pytest.raises(rwkvcpp.RwkvError, match=words):
            rwkvcpp.Model(path)
        assert open_checkpoint(path).version is None

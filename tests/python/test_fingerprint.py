"""Which weights a state belongs to: the same in every file of them, another for any others."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from rwkvcpp import Model, ModelIdentity, State, StateError
from rwkvcpp.checkpoints.tensor import decode, encode
from rwkvcpp.convert import convert
from tests.python.test_checkpoints import (
    CASES,
    CONTAINERS,
    SIZES,
    TOKENS,
    case_id,
    gguf,
    legacy_pth,
    pth,
    rounded,
    rwkv_cpp,
    web_rwkv,
)
from tests.reference.checkpoints import VERSIONS, Checkpoint, Sizes
from tests.reference.layouts import Tensor
from tests.reference.pth_writer import write_pth

WIDE = Sizes(n_embd=256, n_layer=2, head_size=64, n_ffn=256, n_vocab=75)
# Of the token shifts, by version.
SHIFTS = {
    "4": ("att.time_mix_k", "ffn.time_mix_r"),
    "5": ("att.time_mix_v", "ffn.time_mix_k"),
    "6": ("att.time_maa_x", "att.time_maa_g", "ffn.time_maa_r"),
    "7": ("att.x_a", "ffn.x_k"),
}
# Around and below 2^-14 = 6.1e-5, where float16 has few digits, or none.
TINY = np.array([6.2e-5, 6.0e-5, 4e-5, -1.2e-5, 3e-8, -1e-20, 0.0, -0.0], np.float32)


def weights(version: str, type_name: str = "BF16", sizes: Sizes = SIZES) -> dict[str, Tensor]:
    """A checkpoint of numbers that were born in a type, tiny ones among its token shifts."""
    tensors = {name: tensor.copy() for name, tensor in rounded(version, type_name, sizes).items()}
    for name in SHIFTS[version[0]]:
        shift = tensors[f"blocks.1.{name}"].reshape(-1)
        shift[: len(TINY)] = decode(type_name, encode(type_name, TINY))
    return tensors


def identity(path: Path, **options: object) -> ModelIdentity:
    return Model(path, threads=1, **options).identity


def expected_fingerprint(version: str, tensors: dict[str, Tensor], sizes: Sizes) -> str:
    """From the definition: architecture, sizes, and all token shifts by name."""
    n_vocab, n_embd = tensors["emb.weight"].shape
    n_ffn = len(tensors["blocks.0.ffn.key.weight"])
    head_size = 0 if version == "4" else sizes.head_size
    head = f"RWKV {version[0]} {n_vocab} {n_embd} {sizes.n_layer} {n_ffn} {head_size}".encode()
    marks = (".time_mix_", ".time_maa_", ".x_")
    names = [n for n in tensors if any(m in n for m in marks) and not n.endswith(("_w1", "_w2"))]
    for name in sorted(names):
        values = tensors[name].reshape(-1).astype(np.float32)
        bits = values.view(np.uint32)
        halves = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        halves[(halves & 0x7FFF) < 0x3880] = 0  # 2^-14
        head += b"\n" + name.encode() + b" " + halves.tobytes()
    return hashlib.sha256(head).hexdigest()


@pytest.mark.parametrize(("write", "version"), CASES, ids=case_id)
def test_every_container_has_the_fingerprint_of_its_weights(write, version, tmp_path):
    tensors = weights(version)
    types = ["F16"] if write is web_rwkv else ["F32", "F16"]
    for type_name in types + (["BF16"] if write in (pth, legacy_pth) else []):
        folder = tmp_path / type_name
        folder.mkdir()
        found = identity(write(folder, tensors, type_name, version)).fingerprint
        assert found == expected_fingerprint(version, tensors, SIZES)


@pytest.mark.parametrize("type_name", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_born_in_a_type_has_one_fingerprint_in_wider_ones(version, type_name, tmp_path):
    tensors = weights(version, type_name)
    narrow = identity(write_pth(tmp_path / "narrow.pth", tensors, type_name))
    wide = identity(write_pth(tmp_path / "wide.pth", tensors, "F32"))
    assert narrow.fingerprint == wide.fingerprint


@pytest.mark.parametrize("write", [gguf, rwkv_cpp])
@pytest.mark.parametrize("type_name", ["Q8_0", "Q5_1", "Q4_0"])
def test_quantized_files_keep_the_fingerprint(write, type_name, tmp_path):
    tensors = weights("7", sizes=WIDE)
    assert identity(write(tmp_path, tensors, type_name, "7")).fingerprint == expected_fingerprint(
        "7", tensors, WIDE
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_quantizing_while_loading_changes_the_exact_one_only(version, tmp_path):
    path = write_pth(tmp_path / "model.pth", weights(version, sizes=WIDE), "BF16")
    plain, *quantized = [identity(path, type=t) for t in (None, "q8_0", "q4_k_m")]
    assert {identity.fingerprint for identity in quantized} == {plain.fingerprint}
    assert len({identity.exact_fingerprint for identity in (plain, *quantized)}) == 3


@pytest.mark.parametrize("suffix", ["gguf", "safetensors", "st"])
@pytest.mark.parametrize("version", ["4", "5.2", "6", "7"])
def test_our_own_conversions_keep_the_fingerprint(version, suffix, tmp_path):
    source = write_pth(tmp_path / "model.pth", weights(version), "BF16")
    target = tmp_path / f"converted.{suffix}"
    convert(source, target)
    assert identity(target).fingerprint == identity(source).fingerprint


# What tells them apart


def test_other_weights_have_another_fingerprint(tmp_path):
    seen = set()
    # 5.1 is not among them: of one seed, it has the token shifts of 5.2.
    versions = ("4", "5.0", "5.2", "6", "7")
    for version in versions:
        for seed in (1, 2):
            folder = tmp_path / f"{version}-{seed}"
            folder.mkdir()
            tensors = dict(Checkpoint(version, SIZES, seed=seed).items())
            seen.add(identity(write_pth(folder / "model.pth", tensors, "F32")).fingerprint)
    assert len(seen) == 2 * len(versions)


@pytest.mark.parametrize("version", VERSIONS)
def test_one_number_of_any_token_shift_changes_it(version, tmp_path):
    plain = weights(version)
    seen = {identity(write_pth(tmp_path / "plain.pth", plain, "F32")).fingerprint}
    for name in SHIFTS[version[0]]:
        changed = {key: tensor.copy() for key, tensor in plain.items()}
        changed[f"blocks.0.{name}"].reshape(-1)[-1] += 0.125
        seen.add(identity(write_pth(tmp_path / "changed.pth", changed, "F32")).fingerprint)
    assert len(seen) == 1 + len(SHIFTS[version[0]])


def exact_of(folder: Path, tensors: dict[str, Tensor], **options: object) -> str:
    folder.mkdir(exist_ok=True)
    path = write_pth(folder / "model.pth", tensors, "F32")
    return identity(path, **options).exact_fingerprint


def test_the_exact_one_depends_on_weights_and_not_on_where_they_lie(tmp_path):
    tensors = weights("7")
    one = exact_of(tmp_path / "one", tensors)
    assert exact_of(tmp_path / "two", dict(reversed(tensors.items()))) == one
    assert exact_of(tmp_path / "one", tensors, mmap=True) == one


@pytest.mark.parametrize("name", ["blocks.1.ffn.value.weight", "head.weight", "blocks.0.att.w2"])
def test_the_exact_one_changes_with_a_matrix(name, tmp_path):
    tensors = weights("7")
    changed = {**tensors, name: tensors[name] * np.float32(1.01)}
    assert exact_of(tmp_path / "one", tensors) != exact_of(tmp_path / "two", changed)


@pytest.mark.parametrize("name", ["ln_out.bias", "blocks.1.att.k_k", "blocks.0.ln0.weight"])
def test_the_exact_one_changes_with_a_vector(name, tmp_path):
    tensors = weights("7")
    changed = {**tensors, name: tensors[name] + np.float32(0.01)}
    assert exact_of(tmp_path / "one", tensors) != exact_of(tmp_path / "two", changed)


@pytest.mark.parametrize("options", [{"activations": "float32"}, {"group_norm_eps": 1e-5}])
def test_the_exact_one_knows_how_the_model_is_run(options, tmp_path):
    tensors = weights("7")
    assert exact_of(tmp_path / "one", tensors) != exact_of(tmp_path / "one", tensors, **options)


def test_a_lora_is_seen(tmp_path):
    tensors = weights("7")
    path = write_pth(tmp_path / "model.pth", tensors, "BF16")
    name = "blocks.1.att.key"
    rng = np.random.default_rng(1)
    adapter = {
        f"{name}.lora_A": rng.standard_normal((4, SIZES.n_embd)).astype(np.float32),
        f"{name}.lora_B": rng.standard_normal((SIZES.n_embd, 4)).astype(np.float32),
    }
    lora = write_pth(tmp_path / "lora.pth", adapter, "F32")
    plain, merged = identity(path), identity(path, lora=[(lora, 8.0)])
    assert merged.fingerprint == plain.fingerprint
    assert merged.exact_fingerprint != plain.exact_fingerprint
    assert identity(path, lora=[(lora, 4.0)]).exact_fingerprint != merged.exact_fingerprint


# What it is for


def test_models_with_one_fingerprint_take_each_others_states(tmp_path):
    tensors = weights("7")
    models = []
    for write in CONTAINERS:
        if "7" in CONTAINERS[write] and write is not legacy_pth:
            folder = tmp_path / write.__name__
            folder.mkdir()
            models.append(Model(write(folder, tensors, "F16", "7"), threads=1))
    state = models[0].initial_state()
    for model in models:
        model.forward(TOKENS, state)
    assert state.n_tokens == len(models) * len(TOKENS)


def test_models_with_another_do_not(tmp_path):
    one, other = (
        Model(write_pth(tmp_path / f"{seed}.pth", rounded_seed(seed), "F32"), threads=1)
        for seed in (1, 2)
    )
    state = one.initial_state()
    with pytest.raises(StateError, match="belongs to other weights"):
        other.forward(TOKENS, state)
    with pytest.raises(StateError, match=r"belongs to the weights of 1\.pth "):
        other.state_from_bytes(state.to_bytes())
    with pytest.raises(StateError, match="cannot be blended"):
        State.blend([(state, 0.5), (other.initial_state(), 0.5)])


def rounded_seed(seed: int) -> dict[str, Tensor]:
    return dict(Checkpoint("7", SIZES, seed=seed).items())


@pytest.mark.parametrize("stem", ["4v0-660K", "5v2-730K", "7v0-834K"])
def test_trained_files_of_one_model_agree(stem, shared):
    files = sorted((shared / "models").glob(f"tiny-rwkv-{stem}-*.bin"))
    assert len(files) >= 2
    assert len({identity(file).fingerprint for file in files}) == 1
    assert len({identity(file).exact_fingerprint for file in files}) == len(files)


def test_the_bundled_model_and_its_checkpoint_agree(shared):
    files = [shared / "demo" / f"rwkv7-stories{end}" for end in (".pth", "-f16.gguf", "-q8_0.gguf")]
    assert {identity(file).fingerprint for file in files} == {Model().identity.fingerprint}

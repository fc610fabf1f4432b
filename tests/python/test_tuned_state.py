"""Tuned states: from every file that has them, turned as each version needs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rwkvcpp import Model, ModelFormatError, State, StateError
from tests.data import tuned_goldens
from tests.data.tuned_goldens import SIZES, TOKENS, VERSIONS
from tests.reference import hf_layouts
from tests.reference.cases import Case
from tests.reference.compare import worst_per_rms
from tests.reference.pth_writer import write_pth
from tests.reference.writers import write_bin

# Of the logits' rms: what float32 sums of other orders differ by (docs/testing.md).
TOLERANCE = 1e-4

Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    folder = tmp_path_factory.mktemp("tuned")
    models: dict[str, Model] = {}

    def load(version: str) -> Model:
        if version not in models:
            path = folder / f"rwkv{version}.bin"
            write_bin(path, tuned_goldens.checkpoint(version), "F32")
            models[version] = Model(path, threads=1)
        return models[version]

    return load


def logits_after(model: Model, state: State) -> np.ndarray:
    return model.forward(TOKENS, state, all_logits=True)


def safetensors_of_web_rwkv(path: Path, tensors: Tensors, version: str) -> Path:
    library = pytest.importorskip("safetensors.numpy")
    library.save_file(hf_layouts.web_rwkv(tensors, version), path)
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_logits_are_those_of_the_torch_package(version, model_of):
    model = model_of(version)
    state = model.load_tuned_state(tuned_goldens.path(version))
    assert state.n_tokens == 0
    assert worst_per_rms(logits_after(model, state), tuned_goldens.logits(version)) <= TOLERANCE


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_transposition_would_be_seen(version, model_of):
    model = model_of(version)
    arrays = model.load_tuned_state(tuned_goldens.path(version)).to_numpy()
    turned = {k: a.swapaxes(-1, -2) if k.endswith(".wkv") else a for k, a in arrays.items()}
    logits = logits_after(model, State.from_numpy(turned, model))
    assert worst_per_rms(logits, tuned_goldens.logits(version)) > 0.1


@pytest.mark.parametrize("suffix", ["safetensors", "st", "state"])
@pytest.mark.parametrize("version", VERSIONS)
def test_files_of_web_rwkv_give_the_same_state(version, suffix, model_of, tmp_path):
    model = model_of(version)
    time_states = tuned_goldens.time_states(version)
    path = safetensors_of_web_rwkv(tmp_path / f"tuned.{suffix}", time_states, version)
    expected = model.load_tuned_state(tuned_goldens.path(version)).to_numpy()
    found = model.load_tuned_state(path).to_numpy()
    assert all((found[name] == array).all() for name, array in expected.items())


def test_the_legacy_layout_of_torch_gives_the_same_state(model_of):
    model = model_of("7")
    one = model.load_tuned_state(tuned_goldens.path("7"))
    other = model.load_tuned_state(tuned_goldens.path("7", legacy=True))
    assert one.to_bytes() == other.to_bytes()


@pytest.mark.parametrize("container", ["pth", "st"])
def test_a_model_with_a_state_in_it_lends_it_to_others(container, model_of, tmp_path):
    model = model_of("6")
    merged = dict(tuned_goldens.checkpoint("6").items()) | tuned_goldens.time_states("6")
    path = tmp_path / f"merged.{container}"
    if container == "pth":
        write_pth(path, merged, "F32")
    else:
        safetensors_of_web_rwkv(path, merged, "6")
    expected = model.load_tuned_state(tuned_goldens.path("6"))
    assert model.load_tuned_state(path).to_bytes() == expected.to_bytes()
    assert Model(path).initial_state().to_bytes()[-4096:] == expected.to_bytes()[-4096:]


# Several of them


def test_several_are_kept_by_name_and_sessions_begin_with_any(model_of, tmp_path):
    model = model_of("7")
    halves = {name: array / 2 for name, array in tuned_goldens.time_states("7").items()}
    write_pth(tmp_path / "half-1.6B.pth", halves, "F32")
    whole = model.load_tuned_state(tuned_goldens.path("7"), name="whole")
    half = model.load_tuned_state(tmp_path / "half-1.6B.pth")
    assert {"whole", "half-1.6B"} <= model.tuned_states.keys()
    for name, state in (("whole", whole), ("half-1.6B", half), ("whole", whole)):
        session = model.session(name)
        session.feed(TOKENS)
        assert (session.logits == model.forward(TOKENS, state.clone())).all()
    assert model.session("whole").state.tokens_hash != model.session("half-1.6B").state.tokens_hash


def test_a_session_does_not_change_the_state_it_begins_with(model_of):
    model = model_of("7")
    model.load_tuned_state(tuned_goldens.path("7"), name="kept")
    before = model.tuned_states["kept"].to_bytes()
    model.session("kept").feed(TOKENS)
    model.load_tuned_state(tuned_goldens.path("7"), name="kept").assign(
        model.initial_state().to_numpy()
    )
    assert model.tuned_states["kept"].to_bytes() == before


def test_a_name_that_is_not_loaded_is_refused_with_those_that_are(model_file):
    model = Model(model_file(Case("7", "bin", "F32", SIZES)), threads=1)
    with pytest.raises(ValueError, match="'poet' is not loaded; those that are: none"):
        model.session("poet")
    model.load_tuned_state(tuned_goldens.path("7"), name="cook")
    with pytest.raises(ValueError, match="those that are: 'cook'"):
        model.session("poet")


# What is refused


def refused(model: Model, path: Path, tensors: Tensors) -> str:
    write_pth(path, tensors, "F32")
    with pytest.raises(StateError) as caught:
        model.load_tuned_state(path)
    return str(caught.value)


def test_another_size_is_refused_by_tensor_found_and_expected(model_of, tmp_path):
    tensors = {f"blocks.{i}.att.time_state": np.zeros((4, 8, 8), np.float32) for i in range(2)}
    path = tmp_path / "tuned.pth"
    assert refused(model_of("7"), path, tensors) == (
        f"{path}: tensor blocks.0.att.time_state is [4, 8, 8], expected [2, 16, 16]"
    )


def test_more_or_fewer_layers_are_refused(model_of, tmp_path):
    tensors = tuned_goldens.time_states("7")
    more = tensors | {"blocks.2.att.time_state": tensors["blocks.0.att.time_state"]}
    assert "blocks.2.att.time_state belongs to no matrix" in refused(
        model_of("7"), tmp_path / "more.pth", more
    )
    del tensors["blocks.1.att.time_state"]
    assert "has no tensor blocks.1.att.time_state among its 1" in refused(
        model_of("7"), tmp_path / "fewer.pth", tensors
    )


def test_version_4_has_none(tmp_path, model_file):
    model = Model(model_file(Case("4", "bin", "F32", SIZES)), threads=1)
    message = refused(model, tmp_path / "tuned.pth", tuned_goldens.time_states("6"))
    assert message.endswith("belongs to no matrix of this RWKV-4 model")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(value, model_of, tmp_path):
    tensors = tuned_goldens.time_states("7")
    tensors["blocks.1.att.time_state"][1, 2, 3] = value
    message = refused(model_of("7"), tmp_path / "tuned.pth", tensors)
    assert message.endswith(f"blocks.1.att.time_state holds {value}, expected finite numbers")


def test_a_file_with_other_tensors_is_no_tuned_state(model_of, tmp_path):
    tensors = {"blocks.0.att.key.lora_A": np.zeros((4, 4), np.float32)}
    write_pth(tmp_path / "lora.pth", tensors, "F32")
    with pytest.raises(ModelFormatError, match=r"has tensor blocks\.0\.att\.key\.lora_A, exp"):
        model_of("7").load_tuned_state(tmp_path / "lora.pth")


def test_a_file_that_is_nothing_is_refused(model_of, tmp_path):
    (tmp_path / "noise").write_bytes(b"\0" * 99)
    with pytest.raises(StateError, match=r"begins with '\\x00.*, expected a state that was saved"):
        model_of("7").load_tuned_state(tmp_path / "noise")
    (tmp_path / "noise").write_bytes(b"")
    with pytest.raises(StateError, match="begins with nothing: it is empty, expected a state"):
        model_of("7").session_from(tmp_path / "noise")
    with pytest.raises(FileNotFoundError):
        model_of("7").load_tuned_state(tmp_path / "missing")


# Blending


def test_a_blend_lies_between(model_of):
    model = model_of("7")
    tuned = model.load_tuned_state(tuned_goldens.path("7"))
    fed = model.initial_state()
    model.forward(TOKENS, fed)
    blend = State.blend([(tuned, 0.25), (fed, 0.75)])
    one, other = (state.to_numpy() for state in (tuned, fed))
    for name, array in blend.to_numpy().items():
        expected = 0.25 * one[name].astype(np.float64) + 0.75 * other[name].astype(np.float64)
        assert (array == expected.astype(np.float32)).all(), name
    assert blend.n_tokens == 0
    assert len({blend.tokens_hash, tuned.tokens_hash, fed.tokens_hash}) == 3
    model.session(blend).feed(TOKENS)


@pytest.mark.parametrize("version", ["4", *VERSIONS])
def test_one_state_of_weight_one_stays_what_it_is(version, model_file):
    model = Model(model_file(Case(version, "bin", "F32", SIZES)), threads=1)
    state = model.initial_state()
    model.forward(TOKENS, state)
    for blend in (State.blend([(state, 1.0)]), State.blend([(state, 0.5), (state, 0.5)])):
        for name, array in blend.to_numpy().items():
            assert (array == state.to_numpy()[name]).all(), name


def test_version_4_blends_averages_and_not_their_scales(model_file):
    model = Model(model_file(Case("4", "bin", "F32", SIZES)), threads=1)
    states = [model.initial_state() for _ in range(2)]
    for state, tokens in zip(states, ([1, 2, 3], [30, 31]), strict=True):
        model.forward(tokens, state)
    blend = State.blend([(states[0], 0.3), (states[1], 0.7)]).to_numpy()
    one, other = (state.to_numpy() for state in states)
    for i in range(SIZES.n_layer):
        pp = f"blocks.{i}.att.pp"
        for part in (f"blocks.{i}.att.aa", f"blocks.{i}.att.bb"):
            sums = [
                a[part].astype(np.float64) * np.exp(a[pp].astype(np.float64)) for a in (one, other)
            ]
            expected = 0.3 * sums[0] + 0.7 * sums[1]
            found = blend[part] * np.exp(blend[pp].astype(np.float64))
            assert np.allclose(found, expected, rtol=1e-6, atol=0)


def test_blends_that_make_no_sense_are_refused(model_of, model_file):
    state = model_of("7").initial_state()
    other = model_of("6").initial_state()
    four = Model(model_file(Case("4", "bin", "F32", SIZES)), threads=1).initial_state()
    with pytest.raises(ValueError, match="no states to blend"):
        State.blend([])
    with pytest.raises(ValueError, match="weight of a state is nan, expected a finite number"):
        State.blend([(state, float("nan"))])
    with pytest.raises(StateError, match=r"rwkv6\.bin .* cannot be blended with .* rwkv7\.bin "):
        State.blend([(state, 0.5), (other, 0.5)])
    with pytest.raises(ValueError, match="the weights 2, -1 were given for states of RWKV 4"):
        State.blend([(four, 2.0), (four, -1.0)])

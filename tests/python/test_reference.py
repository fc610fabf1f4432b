"""The NumPy reference and its tools, against the torch package and other people's models.

Nothing here runs the engine: these tests say that what the engine is measured with is right.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data import goldens
from tests.reference import rwkv_numpy
from tests.reference.cases import GGUF_VERSIONS, NARROW, TOKENS, WIDE, Case
from tests.reference.checkpoints import VERSIONS, Checkpoint, Sizes
from tests.reference.compare import rms, worst, worst_per_rms
from tests.reference.readers import read_model
from tests.reference.trained import TRAINED_FILES, TrainedFile


@pytest.mark.parametrize("version", goldens.VERSIONS)
def test_reference_agrees_with_the_torch_package(version: str) -> None:
    golden = goldens.load(version)
    weights = goldens.checkpoint(version).float64()
    logits, state = rwkv_numpy.forward(weights, golden.tokens)
    # torch computes in float32: some 1e-6 for each of a few hundred sums.
    assert worst(golden.logits, logits) <= 1e-4
    assert state.keys() == golden.state.keys()
    for name, array in state.items():
        assert worst(golden.state[name], array) <= 1e-4 * max(1.0, rms(array)), name


TINY_FILES = [file for file in TRAINED_FILES if not file.is_story_model]
STORY_FILES = [file for file in TRAINED_FILES if file.is_story_model]


@pytest.mark.parametrize("file", TINY_FILES, ids=lambda file: file.path)
def test_reference_agrees_with_trained_models(shared: Path, file: TrainedFile) -> None:
    logits = file.reference_logits(shared)[-1:]
    # The expected ones are the float model's, computed in float32.
    assert worst(logits, file.expected_logits(shared)) <= file.weight_loss + 1e-4


@pytest.mark.parametrize("file", STORY_FILES, ids=lambda file: file.path)
def test_reference_agrees_with_the_story_model(shared: Path, file: TrainedFile) -> None:
    expected = file.expected_logits(shared)
    # Both were computed in float64; the stored ones were rounded to float32: half a unit in the
    # last place, and what the order of float64 sums may add.
    rounding = 0.5 * np.abs(np.spacing(expected)) + 1e-11
    assert np.all(np.abs(file.reference_logits(shared) - expected) <= rounding)


@pytest.mark.parametrize("version", VERSIONS)
def test_version_is_detected_from_names_and_shapes(version: str) -> None:
    assert rwkv_numpy.detect_version(Checkpoint(version, NARROW)) == version


@pytest.mark.parametrize("version", VERSIONS)
def test_prompt_may_be_fed_in_pieces(version: str) -> None:
    weights = Checkpoint(version, NARROW).float64()
    whole, last = rwkv_numpy.forward(weights, TOKENS)
    state, rows = None, []
    for begin, end in [(0, 1), (1, 7), (7, 20)]:
        logits, state = rwkv_numpy.forward(weights, TOKENS[begin:end], state)
        rows.append(logits)
    assert worst(np.concatenate(rows), whole) <= 1e-11
    assert state is not None
    assert all(worst(state[name], last[name]) <= 1e-11 for name in last)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_tensor_of_a_random_checkpoint_matters(version: str) -> None:
    """A tenth of noise on any tensor shows at ten times the tolerance that the engine has."""
    weights = Checkpoint(version, NARROW).float64()
    logits, _ = rwkv_numpy.forward(weights, TOKENS)
    unused = {f"blocks.0.att.v{i}" for i in (0, 1, 2)}
    rng = np.random.default_rng(5)
    for name in (name for name in weights if name not in unused):
        noise = 0.1 * weights[name].std() * rng.standard_normal(weights[name].shape)
        changed, _ = rwkv_numpy.forward({**weights, name: weights[name] + noise}, TOKENS)
        assert worst_per_rms(changed, logits) >= 1e-3, name


@pytest.mark.parametrize("version", [v for v in VERSIONS if v != "4"])
@pytest.mark.parametrize("sizes", [NARROW, WIDE], ids=["narrow", "wide"])
def test_a_wrong_group_norm_epsilon_shows(version: str, sizes: Sizes) -> None:
    weights = Checkpoint(version, sizes).float64()
    right, _ = rwkv_numpy.forward(weights, TOKENS)
    for wrong_eps in (1e-5, 10e-5, 64e-5 / 8, 64e-5 * 64 / sizes.head_size * 1.1):
        wrong, _ = rwkv_numpy.forward(weights, TOKENS, group_norm_eps=wrong_eps)
        assert worst_per_rms(wrong, right) >= 1e-3, wrong_eps


@pytest.mark.parametrize("version", VERSIONS)
def test_random_logits_are_of_unit_scale(version: str) -> None:
    for sizes in (NARROW, WIDE):
        logits, _ = rwkv_numpy.forward(Checkpoint(version, sizes).float64(), TOKENS)
        assert 0.5 <= rms(logits) <= 2.0


def _containers() -> list[tuple[str, str]]:
    return [(v, "bin") for v in VERSIONS] + [(v, "gguf") for v in GGUF_VERSIONS]


@pytest.mark.parametrize(("version", "container"), _containers())
def test_float_file_gives_the_checkpoint_back(
    version: str, container: str, model_file: Callable[[Case], Path]
) -> None:
    case = Case(version, container, "F32")
    found, wanted = read_model(model_file(case)).weights, case.checkpoint()
    unused = {f"blocks.0.att.v{i}" for i in (0, 1, 2)}  # GGUF has copies of a0, a1, a2 here
    assert found.keys() == wanted.keys()
    for name in wanted.keys() - unused:
        shape = wanted[name].reshape(found[name].shape)
        # Exact but for the decays that rwkv.cpp stores after exp(), rounded to float32.
        tolerance = 2e-5 if container == "bin" and "time_" in name else 0.0
        assert worst(found[name], shape) <= tolerance, name


@pytest.mark.parametrize("rescale_every", [1, 2])
def test_rescaled_file_means_the_same_model(
    rescale_every: int, model_file: Callable[[Case], Path]
) -> None:
    plain = Case("6", "gguf", "F32")
    halved = Case("6", "gguf", "F32", options=(("rescale_every", rescale_every),))
    wanted, _ = rwkv_numpy.forward(read_model(model_file(plain)).weights, TOKENS)
    model = read_model(model_file(halved))
    assert model.rescale_every == rescale_every
    found, _ = rwkv_numpy.forward(model.weights, TOKENS, rescale_every=rescale_every)
    # Layer norm's epsilon is not scaled with the stream: about 1e-5 of its variance.
    assert worst_per_rms(found, wanted) <= 1e-3


def test_both_generations_of_rwkv6_files_hold_the_same_weights(
    model_file: Callable[[Case], Path],
) -> None:
    fused = read_model(model_file(Case("6", "gguf", "Q8_0"))).weights
    single = Case("6", "gguf", "Q8_0", options=(("fused_lerps", False),))
    separate = read_model(model_file(single)).weights
    assert fused.keys() == separate.keys()
    assert all(np.array_equal(fused[name], separate[name]) for name in fused)

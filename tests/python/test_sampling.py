"""Sampling: all orders against a slow NumPy reference, penalties, frequencies, bad input."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rwkvcpp.sampling import ORDERS, Sampler, SamplerMemory, SamplingParams, sample

Row = NDArray[np.float32]


def random_logits(n: int, spread: float = 3.0, seed: int = 0) -> Row:
    return np.random.default_rng(seed).normal(0.0, spread, n).astype(np.float32)


# The reference: the definitions, with sorting, in float64.


def softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.exp(z - z.max())
    return np.asarray(p / p.sum())


def nucleus(p: NDArray[np.float64], top_p: float) -> NDArray[np.bool_]:
    """Every token at least as probable as the first, in order, at which the sum reaches top_p."""
    ordered = np.sort(p)[::-1]
    reached = np.flatnonzero(np.cumsum(ordered) >= top_p)
    return np.asarray(p >= ordered[reached[0] if len(reached) else -1])


def largest(p: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    keep = np.zeros(len(p), bool)
    keep[np.argsort(-p, kind="stable")[:k]] = True
    return keep


def in_part(p: NDArray[np.float64], top_p: float) -> NDArray[np.float64]:
    """The nucleus, in which the tokens at its edge have what is left of top_p."""
    inside = nucleus(p, top_p)
    at_edge = p == p[inside].min()
    left = top_p - p[p > p[inside].min()].sum()
    return np.where(at_edge, np.minimum(p, left / at_edge.sum()), np.where(inside, p, 0.0))


def reference(logits: Row, params: SamplingParams) -> NDArray[np.float64]:
    z = logits.astype(np.float64)
    for token, bias in params.logit_bias.items():
        z[token] += bias
    z[list(params.banned_tokens)] = -math.inf
    if params.temperature == 0 or params.top_p == 0:
        return (np.arange(len(z)) == np.argmax(z)).astype(np.float64)
    k = params.top_k or len(z)
    if params.order == "rapid":
        p = softmax(z / params.temperature)
        p = np.where(largest(p, k), in_part(p, params.top_p), 0.0)
    elif params.order == "openai":
        p = softmax(z / params.temperature)
        p = np.where(largest(p, k), p, 0.0)
        p /= p.sum()
        p = np.where(nucleus(p, params.top_p), p, 0.0)
    else:
        p = softmax(z)
        p = np.where(nucleus(p, params.top_p) & largest(p, k), p, 0.0)
        p = (p / p.max()) ** (1.0 / params.temperature)
    return np.asarray(p / p.sum())


def probabilities(logits: Row, **params: Any) -> Row:
    return Sampler(SamplingParams(**params)).probabilities(logits)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("temperature", [0, 0.3, 1, 1.7])
@pytest.mark.parametrize("top_p", [0, 0.05, 0.5, 0.95, 1])
@pytest.mark.parametrize("top_k", [0, 1, 7, 40, 2000])
def test_probabilities_follow_the_definition_of_each_order(order, temperature, top_p, top_k):
    for n, spread in [(1, 1.0), (5, 1.0), (513, 0.01), (1500, 3.0), (5000, 8.0)]:
        logits = random_logits(n, spread, seed=n)
        params = SamplingParams(order=order, temperature=temperature, top_p=top_p, top_k=top_k)
        actual, expected = Sampler(params).probabilities(logits), reference(logits, params)
        assert actual.dtype == np.float32
        assert actual.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
        # Exponents of up to 60 here, to 2e-7 + 1e-7 |x|, raised to 1 / 0.3. What is left for the
        # edge in part is a difference of two sums, each 36 additions of half a unit of 2^-23 deep.
        atol = 2 * 36 * 2**-24 if order == "rapid" else 1e-30
        np.testing.assert_allclose(actual, expected, rtol=5e-5, atol=atol)


def test_the_orders_differ_where_temperature_moves_the_nucleus():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    # Untempered, 0.5 + 0.3 reach 0.7. Flattened by T = 4 it takes three tokens.
    assert np.count_nonzero(probabilities(logits, top_p=0.7, temperature=4.0)) == 2
    flat = probabilities(logits, top_p=0.7, temperature=4.0, order="openai")
    assert np.count_nonzero(flat) == 3


def test_top_p_is_a_share_of_all_tokens_in_one_order_and_of_top_k_in_the_other():
    logits = np.log(np.array([0.4, 0.2, 0.2, 0.2], np.float32))
    # Of all four 0.4 is less than 0.5; of the two that top_k leaves it is 2 / 3.
    assert np.count_nonzero(probabilities(logits, top_p=0.5, top_k=2)) == 2
    assert np.count_nonzero(probabilities(logits, top_p=0.5, top_k=2, order="openai")) == 1


def test_the_edge_of_the_nucleus_counts_in_part_in_rapid_sampling():
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    # 0.5 holds the first token and a third of the second: 0.4 and 0.1.
    row = probabilities(logits, top_p=0.5, order="rapid")
    np.testing.assert_allclose(row, [0.8, 0.2, 0, 0], rtol=1e-5)
    # Equal tokens share what is left: 0.4, and 0.05 for each of two.
    logits = np.log(np.array([0.25, 0.4, 0.25, 0.1], np.float32))
    row = probabilities(logits, top_p=0.5, order="rapid")
    np.testing.assert_allclose(row, [0.1, 0.8, 0.1, 0], rtol=1e-5)
    # One that has more than top_p alone is the only one.
    assert probabilities(logits, top_p=0.3, order="rapid").tolist() == [0, 1, 0, 0]


def test_top_k_and_top_p_cut_the_same_distribution_in_rapid_sampling():
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    # Of all tokens two are 0.7, less than top_p: top_k alone cuts.
    row = probabilities(logits, top_p=0.8, top_k=2, order="rapid")
    np.testing.assert_allclose(row, [4 / 7, 3 / 7, 0, 0], rtol=1e-5)


def chi_square_bound(freedom: int) -> float:
    """What an honest sampler exceeds once in 30,000 times: 4 sigma, by Wilson and Hilferty."""
    if freedom == 0:
        return 0.0
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + 4 * math.sqrt(spread)) ** 3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probabilities_say(order, top_k, temperature):
    logits = random_logits(30, spread=1.5, seed=4)
    n = 20_000
    for top_p in (0.3, 0.9, 1.0):
        params = SamplingParams(
            order=order, top_k=top_k, top_p=top_p, temperature=temperature, seed=11
        )
        sampler = Sampler(params)
        counts = np.bincount([sampler.sample(logits) for _ in range(n)], minlength=30)
        expected = n * reference(logits, params)
        possible = expected > 0
        assert counts[~possible].sum() == 0
        chi_square = float(((counts - expected)[possible] ** 2 / expected[possible]).sum())
        assert chi_square <= chi_square_bound(int(possible.sum()) - 1)


def test_tokens_come_from_every_part_of_a_wide_vocabulary():
    logits = random_logits(2000, spread=0.3, seed=7)  # several partial sums
    n = 60_000
    sampler = Sampler(SamplingParams(top_p=1, seed=12))
    counts = np.bincount([sampler.sample(logits) for _ in range(n)], minlength=2000)
    expected = n * softmax(logits.astype(np.float64))
    assert float(((counts - expected) ** 2 / expected).sum()) <= chi_square_bound(1999)


# Penalties


def expected_counts(tokens: list[int], decay: float) -> dict[int, float]:
    """How much each token counts after `tokens`: a sum of powers, by its definition."""
    counts: dict[int, float] = {}
    for age, token in enumerate(reversed(tokens)):
        counts[token] = counts.get(token, 0.0) + decay**age
    return counts


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.996, 1.0])
def test_penalties_fade_with_each_token_and_presence_does_not(decay):
    logits = random_logits(40, seed=2)
    penalties = {"presence_penalty": 0.3, "frequency_penalty": 0.7, "penalty_decay": decay}
    sampler = Sampler(SamplingParams(top_p=1, seed=5, **penalties))
    tokens: list[int] = []
    for _ in range(60):
        z = logits.astype(np.float64)
        for token, count in expected_counts(tokens, decay).items():
            z[token] -= 0.3 + 0.7 * count
        np.testing.assert_allclose(sampler.probabilities(logits), softmax(z), rtol=2e-5)
        tokens.append(sampler.sample(logits))
    assert len(set(tokens)) < len(tokens)  # some came again


def rapid_penalties(
    tokens: list[int], presence: float, frequency: float, decay: float
) -> NDArray[np.float64]:
    """By the definition of Rapid-Sampling, step by step over a whole vocabulary."""
    penalties = np.zeros(40)
    for token in tokens:
        grown = presence if penalties[token] == 0 else frequency
        penalties *= decay
        penalties[token] += grown
    return penalties


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.988, 1.0])
@pytest.mark.parametrize(("presence", "frequency"), [(1.0, 0.1), (0.5, 0.0), (0.0, 0.7), (-1, 0.5)])
def test_in_rapid_sampling_the_penalties_themselves_fade(presence, frequency, decay):
    logits = random_logits(40, seed=2)
    params = SamplingParams(
        top_p=1,
        presence_penalty=presence,
        frequency_penalty=frequency,
        penalty_decay=decay,
        temperature=0.7,
        order="rapid",
        seed=5,
    )
    sampler = Sampler(params)
    tokens: list[int] = []
    for _ in range(60):
        z = logits - rapid_penalties(tokens, presence, frequency, decay)
        # Exponents of up to 30 here, to 2e-7 + 1e-7 |x|, and penalties to float32.
        np.testing.assert_allclose(sampler.probabilities(logits), softmax(z / 0.7), rtol=2e-5)
        tokens.append(sampler.sample(logits))
    assert len(set(tokens)) < len(tokens)  # some came again


def test_a_rapid_sampler_goes_on_from_its_memory():
    logits = random_logits(40, seed=9)
    params = SamplingParams(presence_penalty=-1, frequency_penalty=0.3, order="rapid", seed=3)
    sampler = Sampler(params)
    for _ in range(20):
        sampler.sample(logits)
    again = Sampler.recall(params, sampler.memory())
    assert [again.sample(logits) for _ in range(20)] == [sampler.sample(logits) for _ in range(20)]


def test_an_observed_token_counts_as_a_sampled_one():
    logits = random_logits(20, seed=3)
    params = SamplingParams(top_p=1, frequency_penalty=1.5, presence_penalty=0.5, seed=8)
    drawn, told = Sampler(params), Sampler(params)
    for _ in range(10):
        told.observe(drawn.sample(logits))
    np.testing.assert_array_equal(drawn.probabilities(logits), told.probabilities(logits))


def test_a_negative_penalty_asks_for_repetition():
    sampler = Sampler(SamplingParams(temperature=0, presence_penalty=-2))
    sampler.observe(1)
    assert sampler.sample([0.5, 0.0]) == 1


# Bias, bans, seeds


def test_bias_is_added_and_banned_tokens_never_come():
    logits = random_logits(30, seed=6)
    params = SamplingParams(top_p=1, logit_bias={3: 2.5, 4: -1}, banned_tokens=[0, 7])
    np.testing.assert_allclose(
        Sampler(params).probabilities(logits), reference(logits, params), rtol=2e-5
    )


@given(seed=st.integers(0, 2**64 - 1))
def test_a_seed_decides_every_token(seed):
    logits = random_logits(100, spread=0.5)
    one, same = (Sampler(SamplingParams(top_p=0.9, seed=seed)) for _ in range(2))
    assert [one.sample(logits) for _ in range(8)] == [same.sample(logits) for _ in range(8)]
    assert one.seed == seed


def test_without_a_seed_samplers_differ():
    logits = np.zeros(65536, np.float32)
    runs = {
        tuple(s.sample(logits) for _ in range(4)) for s in (Sampler(), Sampler(), Sampler())
    }  # the same by chance: once in 2^64
    assert len(runs) == 3


def test_a_clone_goes_on_as_the_original_would_and_on_its_own():
    logits = random_logits(300, spread=1.0)
    original = Sampler(SamplingParams(top_p=1, frequency_penalty=0.5, seed=2))
    for _ in range(5):
        original.sample(logits)
    clone = original.clone()
    ahead = [clone.sample(logits) for _ in range(10)]
    assert [original.sample(logits) for _ in range(10)] == ahead


def test_a_memory_goes_on_as_the_original_would():
    logits = random_logits(300, spread=1.0)
    params = SamplingParams(top_p=0.9, presence_penalty=0.3, frequency_penalty=0.5)
    original = Sampler(params)
    for _ in range(50):
        original.sample(logits)
    recalled = Sampler.recall(params, original.memory())
    assert recalled.seed == original.seed
    assert recalled.memory() == original.memory()
    ahead = [recalled.sample(logits) for _ in range(50)]
    assert [original.sample(logits) for _ in range(50)] == ahead


@pytest.mark.parametrize(
    ("tokens", "counts", "message"),
    [
        ([1, 2], [1.0], "there are 1 counts, expected 2"),
        ([1, 2, 1], [1.0, 1.0, 1.0], "token 1 is counted twice"),
        ([2**31], [1.0], "token 2147483648 was counted, expected an id below"),
        ([1], [math.nan], "the count of token 1 is nan, expected 0 or more"),
        ([1], [-1.0], "the count of token 1 is -1.000000, expected 0 or more"),
    ],
)
def test_a_memory_that_no_sampler_has_is_refused(tokens, counts, message):
    with pytest.raises(ValueError, match=message):
        Sampler.recall(SamplingParams(), SamplerMemory(1, 2, tokens, counts))


def test_threads_may_share_a_sampler():
    logits = random_logits(5000)
    params = SamplingParams(top_p=0.9, seed=3, frequency_penalty=0.0)
    alone, shared = Sampler(params), Sampler(params)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: shared.sample(logits), range(400)))
    assert sorted(together) == sorted(alone.sample(logits) for _ in range(400))


# On its own


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_any_row_of_numbers_can_be_sampled(dtype):
    row = np.array([0, 3, 1], dtype)
    assert sample(row, SamplingParams(temperature=0)) == 1
    assert sample(row[::-1], SamplingParams(temperature=0)) == 1
    assert sample([0.0, 3.0, 1.0], SamplingParams(temperature=0)) == 1
    assert row.tolist() == [0, 3, 1]


def test_by_default_a_token_comes_from_the_likelier_half():
    assert sample(np.log(np.array([0.1, 0.6, 0.3], np.float32))) == 1


@pytest.mark.parametrize("logits", [np.zeros((2, 3), np.float32), np.float32(1), []])
def test_what_is_no_row_is_refused(logits):
    with pytest.raises(ValueError, match="one row"):
        sample(logits)


def test_what_is_no_number_is_refused():
    with pytest.raises(TypeError, match="numbers"):
        sample(np.array(["a", "b"]))  # type: ignore[arg-type, unused-ignore]


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ([0, math.nan, math.nan], r"logits\[1\] is nan \(2 of 3 are\)"),
        ([0, 0, math.inf], r"logits\[2\] is inf"),
        ([-math.inf, -math.inf], "all of the 2 logits are -inf"),
    ],
)
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_cannot_be_sampled_are_refused(logits, message, temperature):
    with pytest.raises(ValueError, match=message):
        sample(logits, SamplingParams(temperature=temperature))


def test_banning_every_token_is_refused():
    with pytest.raises(ValueError, match="all of the 2 logits"):
        sample([0.0, 1.0], SamplingParams(banned_tokens=[0, 1]))


@pytest.mark.parametrize("params", [{"logit_bias": {9: 1.0}}, {"banned_tokens": [9]}])
def test_a_token_outside_the_vocabulary_is_refused(params):
    with pytest.raises(IndexError, match="token 9, but there are 3 logits"):
        sample([0.0, 1.0, 2.0], SamplingParams(**params))


def test_observing_a_negative_token_is_refused():
    with pytest.raises(IndexError, match="-1"):
        Sampler(SamplingParams(presence_penalty=1)).observe(-1)


# Parameters


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name",
    ["temperature", "top_p", "presence_penalty", "frequency_penalty", "penalty_decay"],
)
def test_parameters_that_are_not_finite_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}, expected"):
        SamplingParams(**{name: value})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1, expected at least 0"),
        ({"top_p": 1.1}, "top_p is 1.1, expected 0 to 1"),
        ({"penalty_decay": -1}, "penalty_decay is -1, expected 0 to 1"),
        ({"top_k": -1}, "top_k is -1, expected 0 to"),
        ({"seed": -1}, "seed is -1, expected 0 to"),
        ({"seed": 2**64}, "seed is 18446744073709551616, expected 0 to"),
        ({"logit_bias": {1: math.nan}}, "logit_bias of token 1 is nan"),
        ({"logit_bias": {-1: 0.5}}, "token of logit_bias is -1"),
        ({"banned_tokens": [-5]}, "token of banned_tokens is -5"),
        ({"order": "opanai"}, "order is 'opanai', expected one of rwkv, openai, rapid"),
    ],
)
def test_parameters_out_of_their_range_are_refused_by_name(params, message):
    with pytest.raises(ValueError, match=message):
        SamplingParams(**params)


def test_parameters_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        SamplingParams().temperature = 2  # type: ignore[misc]


def test_every_parameter_has_a_help_text():
    assert all(field.metadata["help"] for field in fields(SamplingParams))

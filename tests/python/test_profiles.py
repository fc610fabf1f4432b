"""Profiles: the published numbers, a name for each mode of each template, fields overridden."""

from __future__ import annotations

import argparse

import pytest

from rwkvcpp.cli.sampling_options import add_sampling_options, sampling_params
from rwkvcpp.profiles import PROFILES, profile
from rwkvcpp.sampling import SamplingParams
from rwkvcpp.templates import TEMPLATES

# T, top_p, top_k, presence, frequency, decay
PUBLISHED = {
    "standard": (1, 0.3, 0, 0, 1, 0.996),
    "mechanical": (0, 0, 0, 0, 0, 0.996),
    "open-think": (0.96, 0.76, 32, 1.0, 0.1, 0.988),
    "fake-think": (1.0, 0.28, 32, 0, 0, 0.996),
    "tools": (0.96, 0.76, 32, 0, 0, 0.996),
    "chat-default": (1, 0.5, 500, 2, 0.2, 0.99),
    "chat-creative": (1, 0.6, 500, 2, 0.2, 0.99),
    "chat-conservative": (0.4, 0.4, 500, 1, 0.1, 0.99),
    "chat-fixed": (0.2, 0, 500, 0, 0, 0.99),
    "chat-comprehensive": (1, 0.3, 500, 2, 0.2, 0.99),
}


def numbers(params: SamplingParams) -> tuple[float, ...]:
    return (
        params.temperature,
        params.top_p,
        params.top_k,
        params.presence_penalty,
        params.frequency_penalty,
        params.penalty_decay,
    )


def test_the_profiles_are_those_that_were_published():
    assert {name: numbers(found.sampling) for name, found in PROFILES.items()} == PUBLISHED
    orders = {name: found.sampling.order for name, found in PROFILES.items()}
    assert orders.pop("standard") == orders.pop("mechanical") == "rwkv"
    assert set(orders.values()) == {"rapid"}
    assert profile("standard").max_tokens == 500


def test_every_profile_says_what_it_is_for():
    assert all("\n" not in p.description and 5 < len(p.description) < 60 for p in PROFILES.values())


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=lambda t: t.name)
def test_every_mode_of_a_template_names_a_profile(template):
    profiles = {name: mode.profile for name, mode in template.modes.items()}
    assert set(profiles.values()) <= set(PROFILES)
    if template.name == "functions":
        assert set(profiles.values()) == {"tools"}
        return
    expected = {"chat": "standard", "fake-think": "fake-think", "call": "tools"}
    for name, found in profiles.items():
        assert found == expected.get(name, "open-think")


def test_any_field_of_a_profile_can_be_another():
    changed = profile("open-think").params(top_p=0.5, seed=1)
    assert numbers(changed) == (0.96, 0.5, 32, 1.0, 0.1, 0.988)
    assert (changed.order, changed.seed) == ("rapid", 1)
    with pytest.raises(ValueError, match="top_p is 2, expected 0 to 1"):
        profile("open-think").params(top_p=2)
    with pytest.raises(ValueError, match="no profile 'wild', only standard, mechanical"):
        profile("wild")


def options(*words: str) -> SamplingParams:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_sampling_options(parser)
    return sampling_params(parser.parse_args(words))


def test_options_override_the_profile_and_the_profile_the_defaults():
    assert options() == SamplingParams()
    assert options("--profile", "open-think") == profile("open-think").sampling
    mixed = options("--top-p", "0.5", "--profile", "open-think", "--order", "openai")
    assert mixed == profile("open-think").params(top_p=0.5, order="openai")
    assert options("--profile", "tools", "--temperature", "1").temperature == 1
    with pytest.raises(argparse.ArgumentError, match="--profile: invalid choice: 'wild'"):
        options("--profile", "wild")

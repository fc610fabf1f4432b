"""Profiles: sampling parameters that somebody published for a use, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from rwkvcpp.sampling import SamplingParams


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Sampling parameters with a name."""

    name: str
    description: str
    sampling: SamplingParams
    max_tokens: int | None = None  # None: as many as elsewhere

    def params(self, **changes: Any) -> SamplingParams:
        """Its parameters, those named in `changes` with other values."""
        return replace(self.sampling, **changes)


def _rapid(
    name: str,
    description: str,
    values: tuple[float, float, int, float, float, float],
) -> Profile:
    """A row of the published tables, which are for Rapid-Sampling."""
    temperature, top_p, top_k, presence, frequency, decay = values
    sampling = SamplingParams(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        presence_penalty=presence,
        frequency_penalty=frequency,
        penalty_decay=decay,
        order="rapid",
    )
    return Profile(name=name, description=description, sampling=sampling)


MECHANICAL = Profile(
    name="mechanical",
    description="the likeliest token: summaries, translations, calls",
    sampling=SamplingParams(temperature=0.0, top_p=0.0),
    max_tokens=500,
)

STANDARD = Profile(
    name="standard",
    description="RWKV Runner's: one thing at a time, and not twice",
    sampling=SamplingParams(temperature=1.0, top_p=0.3, frequency_penalty=1.0),
    max_tokens=500,
)

# T, top_p, top_k, presence, frequency, decay. The first three come with G1's Hugging Face form, the
# others are RWKV Chat's.
PROFILES = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            STANDARD,
            MECHANICAL,
            _rapid("open-think", "G1 that thinks first", (0.96, 0.76, 32, 1.0, 0.1, 0.988)),
            _rapid("fake-think", "G1 that answers at once", (1.0, 0.28, 32, 0.0, 0.0, 0.996)),
            _rapid("tools", "calls of functions", (0.96, 0.76, 32, 0.0, 0.0, 0.996)),
            _rapid("chat-default", "conversations", (1.0, 0.5, 500, 2.0, 0.2, 0.99)),
            _rapid("chat-creative", "stories and ideas", (1.0, 0.6, 500, 2.0, 0.2, 0.99)),
            _rapid("chat-conservative", "facts, technical texts", (0.4, 0.4, 500, 1.0, 0.1, 0.99)),
            _rapid("chat-fixed", "the likeliest token, always", (0.2, 0.0, 500, 0.0, 0.0, 0.99)),
            _rapid("chat-comprehensive", "a bit of everything", (1.0, 0.3, 500, 2.0, 0.2, 0.99)),
        )
    }
)


def profile(name: str) -> Profile:
    """The profile called `name`.

    >>> profile("open-think").params(top_p=0.5, seed=1)
    """
    if name not in PROFILES:
        raise ValueError(f"there is no profile {name!r}, only {', '.join(PROFILES)}")
    return PROFILES[name]

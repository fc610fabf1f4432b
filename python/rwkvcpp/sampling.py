"""Sampling: which token comes next, drawn from the logits over the whole vocabulary."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rwkvcpp import _core

ORDERS = ("rwkv", "openai", "rapid")


def _option(default: Any, help: str, **more: Any) -> Any:
    """A field with the text that --help shows for it."""
    metadata = {"help": help, **more}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn; the defaults are RWKV's own order, with top_p 0.5 and no penalties.

    Penalties first: a token seen n times loses `presence_penalty + n * frequency_penalty`, where
    every n fades by `penalty_decay` at each token. Then, in the order "rwkv" (that of ChatRWKV and
    the `rwkv` package): top_p cuts the distribution as it is, top_k keeps the likeliest k, and the
    temperature is a power, p^(1/T), on what is left. In the order "openai" (and llama.cpp's) the
    temperature comes first, then top_k, then top_p.

    The order "rapid" is Rapid-Sampling's, which the profiles of RWKV-7 G1 are for. What fades there
    is the penalty of a token: it grows by `presence_penalty` if it was nothing, else by
    `frequency_penalty`, so that presence is forgotten, too (and without it there is no penalty).
    Temperature comes first; top_k and top_p then both cut the whole distribution, and of the token
    at the edge of top_p counts the part that is inside.
    """

    temperature: float = _option(1.0, "above 1 bolder, below 1 safer, 0 always the likeliest token")
    top_p: float = _option(
        0.5, "draw from the likeliest tokens that together have this share; 0 greedy, 1 all"
    )
    top_k: int = _option(0, "draw from this many of the likeliest tokens; 0 for all")
    presence_penalty: float = _option(0.0, "taken off the logit of a token that was seen")
    frequency_penalty: float = _option(0.0, "taken off a token's logit for each time it was seen")
    penalty_decay: float = _option(
        0.996, "how much of a token's count is left after each further token; 1 for all"
    )
    logit_bias: Mapping[int, float] = _option({}, "added to the logit of token ID; repeatable")
    banned_tokens: Sequence[int] = _option((), "never draw this token; repeatable")
    order: str = _option(
        "rwkv",
        "rwkv: temperature after the cuts; openai: before them; rapid: before, and presence fades",
        choices=ORDERS,
    )
    seed: int | None = _option(None, "the same seed gives the same text; without it, any")

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, 0.0, math.inf)
        _check_number("top_p", self.top_p, 0.0, 1.0)
        _check_integer("top_k", self.top_k, 0, 2**31 - 1)
        _check_number("presence_penalty", self.presence_penalty, -math.inf, math.inf)
        _check_number("frequency_penalty", self.frequency_penalty, -math.inf, math.inf)
        _check_number("penalty_decay", self.penalty_decay, 0.0, 1.0)
        for token, bias in self.logit_bias.items():
            _check_integer("a token of logit_bias", token, 0, 2**31 - 1)
            _check_number(f"logit_bias of token {token}", bias, -math.inf, math.inf)
        for token in self.banned_tokens:
            _check_integer("a token of banned_tokens", token, 0, 2**31 - 1)
        if self.order not in ORDERS:
            raise ValueError(f"order is {self.order!r}, expected one of {', '.join(ORDERS)}")
        if self.seed is not None:
            _check_integer("seed", self.seed, 0, 2**64 - 1)


def settings(params: SamplingParams) -> dict[str, Any]:
    """The parameters as JSON has them: equal for equal ones, however they were given."""
    return {option.name: _plain(getattr(params, option.name)) for option in fields(params)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(int(token)): float(bias) for token, bias in value.items()}
    if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str):
        return [int(token) for token in value]
    return value.item() if isinstance(value, np.generic) else value


def same_settings(one: SamplingParams, other: SamplingParams) -> bool:
    """Whether both ask for the same."""
    return settings(one) == settings(other)


def _check_number(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or not low <= value <= high:
        if math.isfinite(low):
            expected = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        else:
            expected = "a finite number"
        raise ValueError(f"{name} is {value}, expected {expected}")


def _check_integer(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, expected {low} to {high}")


class SamplerMemory(NamedTuple):
    """What a sampler remembers of its sequence: `Sampler.recall` goes on from it."""

    seed: int
    rng: int  # the state of the random generator
    tokens: list[int]  # those that penalties count
    counts: list[float]


class Sampler:
    """Draws the tokens of one sequence: keeps the random generator and the penalty counts.

    >>> sampler = Sampler(SamplingParams(top_p=0.9, frequency_penalty=0.4, seed=1))
    >>> token = sampler.sample(model.forward([0], state))
    """

    def __init__(self, params: SamplingParams | None = None) -> None:
        """A sampler at the start of a sequence, seeded with `params.seed` or at random."""
        self._params = SamplingParams() if params is None else params
        p = self._params
        self._seed = int.from_bytes(os.urandom(8), "little") if p.seed is None else int(p.seed)
        self._native = _core.Sampler(
            temperature=float(p.temperature),
            top_p=float(p.top_p),
            top_k=int(p.top_k),
            presence_penalty=float(p.presence_penalty),
            frequency_penalty=float(p.frequency_penalty),
            penalty_decay=float(p.penalty_decay),
            logit_bias={int(token): float(bias) for token, bias in p.logit_bias.items()},
            banned_tokens=[int(token) for token in p.banned_tokens],
            order=p.order,
            seed=self._seed,
        )

    @property
    def params(self) -> SamplingParams:
        """What it was made with."""
        return self._params

    @property
    def seed(self) -> int:
        """The seed in use, also when it was drawn at random."""
        return self._seed

    def sample(self, logits: ArrayLike) -> int:
        """The next token from the logits [n_vocab], counted for the penalties that follow."""
        return self._native.sample(_row(logits))

    def observe(self, token: int) -> None:
        """Count a token that was not drawn here (a prompt's) as if it had been."""
        self._native.observe(token)

    def probabilities(self, logits: ArrayLike) -> NDArray[np.float32]:
        """The distribution that `sample` would draw from, float32 [n_vocab]."""
        return self._native.probabilities(_row(logits))

    def memory(self) -> SamplerMemory:
        """What it remembers, as numbers."""
        return SamplerMemory(self._seed, *self._native.memory())

    @classmethod
    def recall(cls, params: SamplingParams, memory: SamplerMemory) -> Sampler:
        """A sampler that will draw what the one with this memory and these parameters would."""
        sampler = cls(params)
        sampler._seed = memory.seed
        sampler._native.restore(memory[1:])
        return sampler

    def clone(self) -> Sampler:
        """A sampler that will draw what this one would, and goes its own way from here."""
        copy = object.__new__(Sampler)
        copy._params, copy._seed, copy._native = self._params, self._seed, self._native.clone()
        return copy


def sample(logits: ArrayLike, params: SamplingParams | None = None) -> int:
    """One token drawn from the logits [n_vocab] as `params` say; no penalties, there is no past."""
    return Sampler(params).sample(logits)


def _row(logits: ArrayLike) -> NDArray[np.float32]:
    row = np.asarray(logits)
    if row.dtype.kind not in "fiu":
        raise TypeError(f"logits must be numbers, got an array of {row.dtype}")
    if row.ndim != 1 or row.size == 0:
        raise ValueError(f"logits must be one row [n_vocab], got the shape {list(row.shape)}")
    return np.ascontiguousarray(row, dtype=np.float32)

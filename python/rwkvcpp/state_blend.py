"""Blending states: a point between several, or beyond them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.errors import StateError
from rwkvcpp.state import State

Arrays = Mapping[str, NDArray[np.float32]]


def blended(parts: Sequence[tuple[State, float]]) -> State:
    """The sum of states times their weights, which has seen no token."""
    _check(parts)
    weights = [float(weight) for _, weight in parts]
    given = [state.to_numpy() for state, _ in parts]
    arrays = {name: _sum(name, given, weights) for name in given[0]}
    for name in given[0]:
        if name.endswith(".pp"):
            arrays |= _averages(name.removesuffix("pp"), given, weights)
    blend = parts[0][0].clone()
    blend.assign(arrays)
    blend._native.restore(blend._native.values(), 0, blend.tokens_hash)
    blend._is_exact = all(state.is_exact for state, _ in parts)
    return blend


def _check(parts: Sequence[tuple[State, float]]) -> None:
    if not parts:
        raise ValueError("there are no states to blend, expected at least one")
    first = parts[0][0]
    for state, weight in parts:
        if not math.isfinite(weight):
            raise ValueError(f"the weight of a state is {weight}, expected a finite number")
        if state.identity.fingerprint != first.identity.fingerprint:
            raise StateError(
                f"a state of {state.identity} cannot be blended with one of {first.identity}, "
                "expected states of the same weights"
            )


def _sum(name: str, given: Sequence[Arrays], weights: Sequence[float]) -> NDArray[np.float64]:
    total = np.zeros(given[0][name].shape, np.float64)
    for arrays, weight in zip(given, weights, strict=True):
        total += weight * arrays[name].astype(np.float64)
    return total


def _averages(
    block: str, given: Sequence[Arrays], weights: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """Version 4's sums aa and bb, which are there divided by exp(pp): added up without that."""
    if min(weights) < 0 or max(weights) == 0:
        found = ", ".join(f"{weight:g}" for weight in weights)
        raise ValueError(
            f"the weights {found} were given for states of RWKV 4, "
            "expected none below 0 and one above"
        )
    some = [(arrays, weight) for arrays, weight in zip(given, weights, strict=True) if weight > 0]
    pp = np.max([arrays[f"{block}pp"] for arrays, _ in some], axis=0).astype(np.float64)
    sums = {f"{block}{name}": np.zeros_like(pp) for name in ("aa", "bb")}
    for arrays, weight in some:
        scale = weight * np.exp(arrays[f"{block}pp"].astype(np.float64) - pp)
        for name, total in sums.items():
            total += scale * arrays[name]
    return {**sums, f"{block}pp": pp}

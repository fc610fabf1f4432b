"""The types that do the least damage in no more than so many bytes.

Every matrix has some choices, each with its bytes and its expected damage. All begin with the
smallest; then the step that saves the most damage for a byte is taken, as long as it fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rwkvcpp.errors import RwkvError


@dataclass(frozen=True)
class Choice:
    """One type that a matrix might have."""

    type: str
    n_bytes: int
    damage: float


def choose(choices: Mapping[str, Sequence[Choice]], n_bytes: int) -> dict[str, str]:
    """A type for each matrix; RwkvError when not even the smallest fit."""
    ladders = {name: _ladder(options) for name, options in choices.items()}
    left = n_bytes - sum(ladder[0].n_bytes for ladder in ladders.values())
    if left < 0:
        raise RwkvError(f"the smallest types need {-left} bytes more than the {n_bytes} there are")
    taken = dict.fromkeys(ladders, 0)
    for name, step in sorted(_steps(ladders), key=lambda s: -_gain(ladders[s[0]], s[1])):
        cost = ladders[name][step].n_bytes - ladders[name][step - 1].n_bytes
        if taken[name] == step - 1 and cost <= left:
            taken[name] = step
            left -= cost
    return {name: ladders[name][step].type for name, step in taken.items()}


def _steps(ladders: Mapping[str, Sequence[Choice]]) -> Iterator[tuple[str, int]]:
    for name, ladder in ladders.items():
        for step in range(1, len(ladder)):
            yield name, step


def _gain(ladder: Sequence[Choice], step: int) -> float:
    """Damage that a step takes away, for a byte."""
    before, after = ladder[step - 1], ladder[step]
    return (before.damage - after.damage) / (after.n_bytes - before.n_bytes)


def _ladder(choices: Sequence[Choice]) -> list[Choice]:
    """The choices worth having, from small to large: each step gains less for a byte."""
    ladder: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (c.n_bytes, c.damage)):
        if ladder and choice.damage >= ladder[-1].damage:
            continue
        while len(ladder) > 1 and _gain([ladder[-1], choice], 1) >= _gain(ladder[-2:], 1):
            ladder.pop()
        ladder.append(choice)
    return ladder

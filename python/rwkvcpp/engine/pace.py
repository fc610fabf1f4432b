"""Pace: how many rows of prompts a step takes, so that those who are writing do not wait long.

A step of n rows takes about a + b n seconds, a for reading the weights. The rate that n rows had is
therefore never too high for a larger step, and a step of `seconds * rate` rows comes close to
`seconds` within a few steps, from below.
"""

from __future__ import annotations

from collections.abc import Sequence

STEP_SECONDS = 0.2  # of a step while somebody writes; the 99th percentile stays below 0.3
READING_SECONDS = 0.5  # while all of them read: longer steps are faster, and a newcomer waits
FIRST_ROWS = 16  # until a rate is known
LEAST_ROWS = 8  # prompts advance on the slowest machine
MOST_ROWS = 128  # for which the model reads its weights once
WEIGHT = 0.3  # of the newest measurement


class Pace:
    """The rate of steps that read prompts, measured all the time."""

    def __init__(self, step_seconds: float = STEP_SECONDS) -> None:
        self._step_seconds = step_seconds
        self._seconds_per_row: float | None = None

    @property
    def rows_per_second(self) -> float | None:
        """Of late; None before a prompt was read."""
        return None if self._seconds_per_row is None else 1 / self._seconds_per_row

    def prompt_rows(self, n_writing: int) -> int:
        """Rows of prompts for a step in which so many others write a token each."""
        seconds = self._step_seconds
        if n_writing == 0:
            seconds = max(seconds, READING_SECONDS)
        n_rows = FIRST_ROWS
        if self._seconds_per_row is not None:
            n_rows = int(min(MOST_ROWS, seconds / self._seconds_per_row))
        return max(LEAST_ROWS, n_rows - n_writing)

    def measured(self, n_rows: int, seconds: float) -> None:
        """A step that read prompts took so long, with all that belongs to it."""
        newest = max(seconds, 1e-9) / n_rows
        known = newest if self._seconds_per_row is None else self._seconds_per_row
        self._seconds_per_row = known + WEIGHT * (newest - known)


def shares(wanted: Sequence[int], n_rows: int) -> list[int]:
    """`n_rows` for those who want so many each, alike; what one does not want, others get.

    When there are fewer rows than readers, the first ones get one each.
    """
    order = list(range(len(wanted)))
    if n_rows >= len(wanted):
        order.sort(key=wanted.__getitem__)
    given = [0] * len(wanted)
    for place, reader in enumerate(order):
        n_left = len(order) - place
        given[reader] = min(wanted[reader], (n_rows + n_left - 1) // n_left)
        n_rows -= given[reader]
    return given

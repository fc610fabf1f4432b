"""Rows of prompts per step: as many as the time allows, and the same for all who read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rwkvcpp.engine.pace import LEAST_ROWS, MOST_ROWS, READING_SECONDS, Pace, shares

wanted_rows = st.lists(st.integers(1, 300), max_size=20)


@given(wanted_rows, st.integers(0, 300))
def test_all_rows_are_given_as_long_as_somebody_wants_them(wanted, n_rows):
    given_rows = shares(wanted, n_rows)
    assert sum(given_rows) == min(n_rows, sum(wanted))
    assert all(0 <= got <= want for got, want in zip(given_rows, wanted, strict=True))


@given(wanted_rows, st.integers(0, 300))
def test_nobody_who_wants_more_gets_less_than_another(wanted, n_rows):
    given_rows = shares(wanted, n_rows)
    most = max(given_rows, default=0)
    assert all(got >= most - 1 or got == want for got, want in zip(given_rows, wanted, strict=True))


def test_where_there_are_not_rows_for_all_the_first_get_them():
    assert shares([9, 1, 9, 1], 2) == [1, 1, 0, 0]


class Machine:
    """A step of n rows takes `fixed + n * each` seconds."""

    def __init__(self, fixed: float, each: float) -> None:
        self.fixed, self.each = fixed, each

    def step(self, pace: Pace, n_writing: int) -> float:
        n_rows = n_writing + pace.prompt_rows(n_writing)
        seconds = self.fixed + n_rows * self.each
        pace.measured(n_rows, seconds)
        return seconds


@pytest.mark.parametrize("each", [0.0035, 0.01, 0.02])
def test_steps_come_close_to_the_time_and_not_above(each):
    machine, pace = Machine(0.025, each), Pace(0.2)
    times = [machine.step(pace, 8) for _ in range(40)]
    assert max(times) <= 0.2 or each * (LEAST_ROWS + 8) > 0.175
    assert times[-1] > 0.9 * 0.2
    n_rows = (times[-1] - 0.025) / each
    assert pace.rows_per_second == pytest.approx(n_rows / times[-1], rel=0.05)


def test_it_follows_a_machine_that_becomes_slower():
    machine, pace = Machine(0.025, 0.004), Pace(0.2)
    for _ in range(40):
        machine.step(pace, 8)
    machine.each *= 2
    times = [machine.step(pace, 8) for _ in range(40)]
    assert times[0] > 0.3  # that nobody can know
    assert max(times[6:]) < 0.22


def test_steps_are_longer_while_nobody_writes_and_short_at_once_when_somebody_does():
    machine, pace = Machine(0.025, 0.0035), Pace(0.2)
    times = [machine.step(pace, 0) for _ in range(40)]
    assert times[-1] == pytest.approx(min(READING_SECONDS, 0.025 + MOST_ROWS * 0.0035), rel=0.1)
    times = [machine.step(pace, 1) for _ in range(40)]
    assert max(times) < 0.25


def test_prompts_advance_on_the_slowest_machine():
    machine, pace = Machine(1.0, 1.0), Pace(0.2)
    for _ in range(10):
        machine.step(pace, 16)
    assert pace.prompt_rows(16) == LEAST_ROWS


def test_a_fast_machine_takes_no_more_rows_than_the_model_reads_its_weights_for():
    machine, pace = Machine(0.0, 1e-6), Pace(0.2)
    for _ in range(3):
        machine.step(pace, 4)
    assert pace.prompt_rows(4) == MOST_ROWS - 4


def test_a_pace_knows_no_rate_before_it_has_measured_one():
    assert Pace().rows_per_second is None

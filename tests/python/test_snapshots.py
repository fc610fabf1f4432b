"""Snapshots in memory: the longest prefix is found, the budget holds, what is used stays."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp.snapshots import Snapshot, SnapshotMemory
from rwkvcpp.token_tree import TOKEN_BYTES, packed


@pytest.fixture(scope="module")
def model() -> rwkvcpp.Model:
    return rwkvcpp.Model()


@pytest.fixture(scope="module")
def snapshot(model: rwkvcpp.Model) -> Snapshot:
    state = model.initial_state()
    return Snapshot(1, state, model.forward([1], state))


def room_for(n: int, snapshot: Snapshot) -> SnapshotMemory:
    """Memory for so many snapshots, and some tokens that they are found by."""
    return SnapshotMemory(n * snapshot.nbytes + snapshot.nbytes // 2)


def test_what_a_snapshot_gives_is_ones_own(model):
    state = model.initial_state()
    logits = model.forward([5, 6], state)
    expected, after = logits.copy(), model.forward([7], state.clone())
    snapshot = Snapshot(2, state, logits)
    for _ in range(2):
        mine, row = snapshot.state(), snapshot.logits()
        assert (row == expected).all()
        assert mine.n_tokens == 2
        assert (model.forward([7], mine) == after).all()
        row[:] = 0


def test_threads_may_take_and_write_the_same_snapshot_at_once(model, snapshot):
    """A state refuses two threads at once; a snapshot makes them wait."""
    failures, expected = [], snapshot.state().to_bytes()

    def take() -> None:
        try:
            for k in range(200):
                if k % 2:
                    assert snapshot.state().n_tokens == 1
                else:
                    with snapshot.reading() as state:
                        assert state.to_bytes() == expected
        except BaseException as error:  # told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_was_used_longest_ago_goes_first(snapshot):
    memory = room_for(2, snapshot)
    a, b, c = packed([1]), packed([2]), packed([3])
    memory.put(a, snapshot)
    memory.put(b, snapshot)
    assert memory.longest(packed([1, 1])) is snapshot  # used: b is older now
    memory.put(c, snapshot)
    assert [memory.touch(row) for row in (a, b, c)] == [True, False, True]
    memory.put(b, snapshot)
    assert [memory.touch(row) for row in (a, b, c)] == [False, True, True]


def test_what_would_be_kept_again_counts_as_used(snapshot):
    memory = room_for(2, snapshot)
    a, b, c = packed([1]), packed([2]), packed([3])
    memory.put(a, snapshot)
    memory.put(b, snapshot)
    assert memory.touch(a)
    memory.put(c, snapshot)
    assert [memory.touch(row) for row in (a, b, c)] == [True, False, True]


def test_tokens_count_in_the_budget(snapshot):
    memory = SnapshotMemory(snapshot.nbytes + 3 * TOKEN_BYTES)
    assert memory.fits(packed([1, 2, 3]), snapshot.nbytes)
    assert not memory.fits(packed([1, 2, 3, 4]), snapshot.nbytes)
    memory.put(packed([1, 2, 3]), snapshot)
    assert memory.touch(packed([1, 2, 3]))
    memory.put(packed([1, 2, 3, 4]), snapshot)
    assert memory.touch(packed([1, 2, 3]))
    assert not memory.touch(packed([1, 2, 3, 4]))


def test_a_row_kept_again_counts_once(snapshot):
    memory = room_for(3, snapshot)
    for _ in range(3):
        memory.put(packed([1, 2]), snapshot)
    assert memory.usage() == (1, snapshot.nbytes + 2 * TOKEN_BYTES)


def test_nothing_is_left_after_clear(snapshot):
    memory = room_for(3, snapshot)
    memory.put(packed([1, 2]), snapshot)
    memory.put(packed([1, 3]), snapshot)
    memory.clear()
    assert memory.usage() == (0, 0)
    assert not memory.touch(packed([1, 2]))


rows = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(packed)


@settings(deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), rows), max_size=40), n=st.integers(1, 4))
def test_memory_keeps_what_a_list_by_last_use_would(snapshot, steps, n):
    memory = room_for(n, snapshot)
    used: list[bytes] = []  # the last one used at the end
    for puts, row in steps:
        if puts:
            memory.put(row, snapshot)
            used = [*(r for r in used if r != row), row][-n:]
        else:
            begins = [r for r in used if row.startswith(r)]
            expected = max(begins, key=len, default=None)
            assert memory.longest(row) is (snapshot if expected else None)
            if expected:
                used.remove(expected)
                used.append(expected)
        n_kept, n_bytes = memory.usage()
        assert n_kept == len(used)
        assert n_bytes <= memory.budget


def test_threads_leave_the_books_in_order(snapshot):
    memory = room_for(5, snapshot)
    rng = np.random.default_rng(0)
    texts = [[packed(rng.integers(0, 3, 5)) for _ in range(400)] for _ in range(4)]
    failures = []

    def use(text: list[bytes]) -> None:
        try:
            for k, row in enumerate(text):
                if k % 97 == 96:
                    memory.clear()
                memory.put(row, snapshot)
                memory.longest(row)
        except BaseException as error:  # told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=use, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert 0 < memory.usage()[1] <= memory.budget
    memory.clear()
    assert memory.usage() == (0, 0)

"""Snapshots on disk: there after a restart, for other processes, and never trusted."""

from __future__ import annotations

import errno
import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp import PrefixCache, PrefixKey, Snapshot, snapshot_file, snapshot_folder
from rwkvcpp.prefix_cache import SPACING
from rwkvcpp.state_container import write
from tests.reference.cases import Case

PROMPT = [(i * i * 31 + 17 * i) % 132 for i in range(SPACING + 50)]
CASE = Case("7", "gguf", "F32")


@pytest.fixture(scope="module")
def model(model_file: Callable[[Case], Path]) -> rwkvcpp.Model:
    return rwkvcpp.Model(model_file(CASE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def logs(caplog) -> None:
    caplog.set_level(logging.WARNING, logger="rwkvcpp")


def fill(
    model: rwkvcpp.Model, folder: Path, tokens: list[int] = PROMPT, **options
) -> rwkvcpp.Session:
    """Feed tokens to a session, with a cache that is then forgotten."""
    session = model.session()
    PrefixCache(directory=folder, **options).prefill(session, tokens)
    return session


def n_found(model: rwkvcpp.Model, folder: Path, tokens: list[int] = PROMPT, **options) -> int:
    """How many tokens a new cache saves; what comes of them is compared with the model's own."""
    session, plain = model.session(), model.session()
    found = PrefixCache(directory=folder, **options).prefill(session, tokens)
    plain.feed(tokens)
    assert session.to_bytes() == plain.to_bytes()
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: int(path.name.split("-")[1]))


# ---- what stays ------------------------------------------------------------------------------


def test_what_was_kept_is_there_after_a_restart(model, model_file, folder):
    fill(model, folder)
    again = rwkvcpp.Model(model_file(CASE))
    assert n_found(again, folder) == len(PROMPT)
    assert n_found(again, folder, [*PROMPT[: SPACING + 20], 5]) == SPACING
    assert len(files(folder)) == 3


def test_another_process_finds_it(model, model_file, folder):
    expected = fill(model, folder)
    program = (
        "import sys, rwkvcpp\n"
        "model = rwkvcpp.Model(sys.argv[1])\n"
        "session = model.session()\n"
        "cache = rwkvcpp.PrefixCache(directory=sys.argv[2])\n"
        "print(cache.prefill(session, eval(sys.argv[3])), session.logits.tobytes().hex())\n"
        "cache.prefill(session, [1, 2, 3])\n"
    )
    command = [sys.executable, "-c", program, str(model_file(CASE)), str(folder), str(PROMPT)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    n_cached, logits = run.stdout.split()
    assert int(n_cached) == len(PROMPT)
    assert logits == expected.logits.tobytes().hex()
    assert n_found(model, folder, [*PROMPT, 1, 2, 3]) == len(PROMPT) + 3


def test_a_cache_finds_what_another_wrote_after_it_was_made(model, folder):
    first, second = PrefixCache(directory=folder), PrefixCache(directory=folder)
    assert first.prefill(model.session(), PROMPT) == 0
    assert second.prefill(model.session(), PROMPT) == len(PROMPT)
    assert second.prefill(model.session(), [*PROMPT, 4]) == len(PROMPT)
    assert first.prefill(model.session(), [*PROMPT, 4]) == len(PROMPT) + 1


def test_what_memory_had_no_room_for_comes_from_the_folder(model, folder):
    n_bytes = model.initial_state().nbytes + 4 * model.n_vocab
    cache = PrefixCache(n_bytes + 4096, directory=folder, disk_budget=2**24)
    cache.prefill(model.session(), PROMPT[:20])
    cache.prefill(model.session(), PROMPT[5:20])
    assert cache.stats().entries == 1
    assert cache.prefill(model.session(), PROMPT[:20]) == 20
    assert cache.stats().files == 2


def test_the_longer_of_memory_and_folder_counts(model, folder):
    fill(model, folder, PROMPT[:30])
    cache = PrefixCache(directory=folder)
    cache.prefill(model.session(), PROMPT[:20])
    assert cache.prefill(model.session(), PROMPT[:40]) == 30
    fill(model, folder, PROMPT[:25])
    assert cache.prefill(model.session(), PROMPT[:41]) == 40


def test_a_snapshot_is_a_state_file(model, folder):
    session = fill(model, folder, PROMPT[:30])
    (path,) = files(folder)
    assert model.load_state(path).to_bytes() == session.state.to_bytes()


def test_only_its_user_may_look_into_the_folder(model, folder):
    fill(model, folder / "deep", PROMPT[:3])
    assert stat.S_IMODE((folder / "deep").stat().st_mode) == 0o700


def test_numbers_tell_what_is_on_disk(model, folder):
    fill(model, folder)
    stats = PrefixCache(directory=folder).stats()
    assert (stats.files, stats.file_bytes) == (2, sum(p.stat().st_size for p in files(folder)))
    assert (stats.entries, stats.nbytes) == (0, 0)


def test_other_models_and_initial_states_have_their_own(model, model_file, folder):
    fill(model, folder)
    assert n_found(rwkvcpp.Model(model_file(CASE), type="q8_0"), folder) == 0
    tuned = model.initial_state()
    tuned.assign({name: array + 0.5 for name, array in tuned.to_numpy().items()})
    assert PrefixCache(directory=folder).prefill(model.session(tuned), PROMPT) == 0
    assert n_found(model, folder) == len(PROMPT)
    assert PrefixCache(directory=folder).prefill(model.session(tuned), PROMPT) == len(PROMPT)
    assert len(files(folder)) == 6


# ---- the budget ------------------------------------------------------------------------------


def test_files_stay_within_their_budget_and_the_oldest_go_first(model, folder):
    fill(model, folder, [1])
    budget = 4 * files(folder)[0].stat().st_size - 1  # three
    for first in range(2, 6):
        fill(model, folder, [first], disk_budget=budget)
        assert sum(path.stat().st_size for path in files(folder)) <= budget
    found = [PrefixCache(directory=folder).prefill(model.session(), [k]) for k in range(1, 6)]
    assert found == [0, 0, 1, 1, 1]


def test_a_smaller_budget_counts_at_once(model, folder):
    for first in range(3):
        fill(model, folder, [first])
    PrefixCache(directory=folder, disk_budget=files(folder)[0].stat().st_size)
    assert len(files(folder)) == 1
    assert n_found(model, folder, [2]) == 1


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_what_was_used_is_younger(model, folder, where):
    fill(model, folder, [1])
    budget = 3 * files(folder)[0].stat().st_size - 1  # two
    cache = PrefixCache(directory=folder, disk_budget=budget)
    for tokens in ([1], [2]):
        cache.prefill(model.session(), tokens)
    if where == "folder":
        cache = PrefixCache(directory=folder, disk_budget=budget)
    assert cache.prefill(model.session(), [1]) == 1
    cache.prefill(model.session(), [3])
    assert n_found(model, folder, [1], disk_budget=budget) == 1


def test_what_came_from_the_folder_is_in_memory_then(model, folder):
    path = one_file(model, folder)
    cache = PrefixCache(directory=folder)
    assert cache.prefill(model.session(), PROMPT[:30]) == 30
    path.unlink()
    assert cache.prefill(model.session(), PROMPT[:30]) == 30


@pytest.mark.parametrize("budget", [0, 100])
def test_without_room_on_disk_memory_serves(model, folder, budget):
    cache = PrefixCache(directory=folder, disk_budget=budget)
    cache.prefill(model.session(), PROMPT)
    assert files(folder) == []
    assert cache.prefill(model.session(), PROMPT) == len(PROMPT)


def test_what_a_killed_process_left_goes_after_an_hour(model, folder):
    fill(model, folder, [1])
    (path,) = files(folder)
    old, young = (path.with_name(f"{path.name}.{n}-0a1b2c3d.part") for n in (1, 2))
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    fill(model, folder, [2])
    assert (old.exists(), young.exists()) == (False, True)


def test_clear_empties_the_folder_of_ours_and_leaves_the_rest(model, folder):
    folder.mkdir()
    names = ["letter.txt", "x.prefix", "0" * 32 + "-5-" + "0" * 16 + ".prefix.txt", ".prefix"]
    for name in names:
        (folder / name).write_text("mine")
    cache = PrefixCache(directory=folder, disk_budget=2**20)
    cache.prefill(model.session(), PROMPT)
    cache.clear()
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert cache.prefill(model.session(), PROMPT) == 0


# ---- files that cannot be used ---------------------------------------------------------------


def assert_ignored_and_removed(model, folder: Path, path: Path, caplog) -> None:
    caplog.clear()
    assert PrefixCache(directory=folder).lookup(PrefixKey.of(model), PROMPT[:30]) is None
    assert not path.exists()
    assert n_found(model, folder, PROMPT[:30]) == 0
    (record,) = caplog.records
    assert record.name.startswith("rwkvcpp")
    assert path.name in record.getMessage()


def one_file(model: rwkvcpp.Model, folder: Path, tokens: list[int] = PROMPT[:30]) -> Path:
    fill(model, folder, tokens)
    (path,) = files(folder)
    return path


def session_file(model: rwkvcpp.Model, path: Path) -> None:
    session = model.session()
    session.feed(PROMPT[:30])
    session.save(path)


def older(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8:12] = bytes(4)  # the version of the container
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[rwkvcpp.Model, Path], object]] = {
    "empty": lambda model, path: path.write_bytes(b""),
    "short": lambda model, path: path.write_bytes(path.read_bytes()[:-1]),
    "only its head": lambda model, path: path.write_bytes(path.read_bytes()[:40]),
    "long": lambda model, path: path.write_bytes(path.read_bytes() + b"\0"),
    "a picture": lambda model, path: path.write_bytes(b"\x89PNG" + bytes(10**5)),
    "an older file": lambda model, path: older(path),
    "a session": session_file,
    "a state": lambda model, path: model.initial_state().save(path),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_file_that_is_no_snapshot_is_ignored_logged_and_removed(model, folder, caplog, damage):
    path = one_file(model, folder)
    DAMAGES[damage](model, path)
    assert_ignored_and_removed(model, folder, path, caplog)


def test_no_flipped_bit_is_believed(model, tmp_path_factory):
    original = one_file(model, tmp_path_factory.mktemp("original"))
    key, data = PrefixKey.of(model), original.read_bytes()

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(bit=st.integers(0, 8 * len(data) - 1))
    def check(bit: int) -> None:
        folder = tmp_path_factory.mktemp("flipped")
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / original.name).write_bytes(flipped)
        assert PrefixCache(directory=folder).lookup(key, PROMPT[:30]) is None
        assert files(folder) == []

    check()


def test_tokens_decide_and_not_the_name(model, folder, caplog):
    path = one_file(model, folder)
    other = one_file(model, folder / "other", [*PROMPT[:29], 5])
    other.replace(path)  # as if both had the same hash
    assert_ignored_and_removed(model, folder, path, caplog)


def test_the_key_decides_and_not_the_name(model, model_file, folder, caplog):
    path = one_file(model, folder)
    one_file(rwkvcpp.Model(model_file(CASE), type="q8_0"), folder / "other").replace(path)
    assert_ignored_and_removed(model, folder, path, caplog)


@pytest.mark.parametrize("lie", ["tokens", "state", "exact", "key", "kind", "logits"])
def test_every_part_of_a_file_must_be_what_it_is_to_be(model, folder, caplog, monkeypatch, lie):
    """Files of which one part is another's, with sums that are right."""
    path, key = one_file(model, folder), PrefixKey.of(model)
    row, state = np.array(PROMPT[:30]), model.initial_state()
    logits = model.forward([5, 6, 7] if lie == "state" else row, state)
    if lie == "tokens":
        row = np.array(PROMPT[1:31])
    elif lie == "exact":
        state._is_exact = False
    elif lie == "key":
        key = PrefixKey(model, (0, 1))
    elif lie == "kind":
        monkeypatch.setattr(snapshot_file, "KIND", "state")
    elif lie == "logits":
        logits = logits[:-1]
    write(path, snapshot_file.pieces(key, row, Snapshot(30, state, logits)))
    monkeypatch.undo()
    assert_ignored_and_removed(model, folder, path, caplog)


def test_after_a_file_that_cannot_be_used_a_shorter_one_serves(model, folder, caplog):
    fill(model, folder)
    files(folder)[-1].write_bytes(b"nothing")
    assert n_found(model, folder) == SPACING
    assert len(caplog.records) == 1


# ---- a folder that lets one down -------------------------------------------------------------


def test_a_file_that_another_process_removed_is_no_error(model, folder, monkeypatch, caplog):
    path = one_file(model, folder)
    read = snapshot_folder.read_snapshot

    def too_late(*arguments):
        path.unlink()
        return read(*arguments)

    monkeypatch.setattr(snapshot_folder, "read_snapshot", too_late)
    assert PrefixCache(directory=folder).lookup(PrefixKey.of(model), PROMPT[:30]) is None
    assert caplog.records == []


def test_a_full_disk_costs_a_line_and_no_more(model, folder, monkeypatch, caplog):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(snapshot_folder, "write", full)
    assert n_found(model, folder, PROMPT[:30]) == 0
    assert files(folder) == []
    (record,) = caplog.records
    assert "No space left on device" in record.getMessage()


def test_a_folder_that_has_gone_costs_lines_and_no_more(model, folder, caplog):
    cache = PrefixCache(directory=folder)
    folder.rmdir()
    session, plain = model.session(), model.session()
    assert cache.prefill(session, PROMPT) == 0
    plain.feed(PROMPT)
    assert session.to_bytes() == plain.to_bytes()
    assert cache.prefill(model.session(), PROMPT) == len(PROMPT)
    assert cache.stats().files == 0
    assert all(str(folder) in record.getMessage() for record in caplog.records)
    assert len(caplog.records) > 0


def test_a_file_in_the_place_of_the_folder_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="file"):
        PrefixCache(directory=tmp_path / "file")
    with pytest.raises(ValueError, match="disk_budget is -1"):
        PrefixCache(directory=tmp_path, disk_budget=-1)

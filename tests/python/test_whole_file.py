"""A file is there in whole or not at all, whoever else writes it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rwkvcpp.whole_file import whole_file


def write(path: Path, data: bytes, **options: bool) -> None:
    with whole_file(path, **options) as temporary:
        temporary.write_bytes(data)


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_made_or_replaced(durable, tmp_path):
    for data in (b"one", b"two"):
        write(tmp_path / "file", data, durable=durable)
        assert (tmp_path / "file").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_durable_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    synced = []
    kept = os.fsync

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        synced.append((name.rpartition(".")[2], (tmp_path / "file").exists()))
        kept(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "file", b"data", durable=True)
    assert synced == [("part", False), (tmp_path.name, True)]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(error, tmp_path):
    (tmp_path / "file").write_bytes(b"before")
    with pytest.raises(error), whole_file(tmp_path / "file") as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise error
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"before")]


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    contents = [bytes([i]) * 10_000 for i in range(50)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda data: write(tmp_path / "file", data), contents))
    assert (tmp_path / "file").read_bytes() in contents
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path):
    (tmp_path / f"file.{os.getpid()}.part").write_bytes(b"left")
    write(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_link_stays_one_and_its_file_is_replaced(tmp_path):
    (tmp_path / "real").write_bytes(b"before")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", b"after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"after"


def test_places_that_cannot_be_files_are_refused_at_once(tmp_path):
    for path, error in (
        (tmp_path / "missing" / "file", FileNotFoundError),
        (tmp_path, IsADirectoryError),
        (Path("/dev/null"), FileExistsError),
    ):
        with pytest.raises(error, match=str(path if path.exists() else path.parent)):
            write(path, b"data")

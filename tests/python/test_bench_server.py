"""The server's benchmarks run, and count what they should; how fast it was is nobody's business."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from bench import server, soak
from bench.served import Served
from rwkvcpp.bundled import bundled_model
from rwkvcpp.server.app import SHAPES


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served("--max-batch", "2") as served:
        yield served


def test_all_figures_of_the_server_come_out(monkeypatch, capsys):
    small = "--clients 3 --slots 2 --prompt 20 --tokens 8 --alone 1 --rounds 1 --chats 5"
    options = f"{small} --chat-tokens 4 --drops 8".split()
    monkeypatch.setattr(sys, "argv", ["server.py", str(bundled_model()), *options])
    server.main()
    out = capsys.readouterr().out
    figures = re.findall(r"^(.{56}) *([0-9.]+|nan)   \(", out, flags=re.M)
    assert len(figures) == 11
    rates = {name.strip(): float(value) for name, value in figures if "tokens/s" in name}
    assert rates.pop("all clients, tokens/s") > 0
    assert rates.pop("one after another, tokens/s") > 0
    assert "5 chats of 3 clients: 0 failed" in out
    assert "0 generations are left" in out


def test_a_failed_request_of_the_load_test_is_counted(served):
    assert "3 chats of 2 clients: 3 failed" in server.load_test(served, 2, 3, 10**9)


def test_a_server_that_does_not_start_says_why():
    with pytest.raises(RuntimeError, match=r"exit code 2: .*nowhere\.gguf"):
        Served("-m", "nowhere.gguf")


def test_the_soak_asks_everything_and_finds_no_failure(served, capsys):
    soak.soak(served, minutes=0.05, n_clients=2)
    out = capsys.readouterr().out
    assert re.search(r"[1-9]\d* requests, \d+ of them left; 0 answers of 5xx", out)
    assert re.search(r"POST +/v1/chat/completions +200 +[1-9]", out)


def test_what_the_soak_asks_for_is_there():
    paths = {path for shape in SHAPES for route in shape.all for path in route.paths}
    asked = {path for _, _, path, _ in soak.MIX}
    assert asked - paths - {"/models/none", "/nowhere"} == set()

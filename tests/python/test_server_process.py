"""`rwkvcpp serve` as a process: what it says, how it ends, and what it leaves behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rwkvcpp.server.listening import listen
from tests.python.server import PATIENCE

STORY = {"prompt": "Once upon a time", "logit_bias": {"0": -100}, "max_tokens": 100_000,
         "stream": True}  # fmt: skip


class Process:
    """A server, and what it has said so far."""

    def __init__(self, *words: str, **environment: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "rwkvcpp", "serve", "--port", "0", *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stderr is not None
        self.said = ""
        for line in self.popen.stderr:
            self.said += line
            if found := re.search(r"curl http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found[1])
                break
        else:
            raise AssertionError(f"it never served: {self.said}")
        self.connections: list[http.client.HTTPConnection] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self.said += line

    def ask(self, method: str, path: str, body: Any = None) -> http.client.HTTPResponse:
        """What it answers, of which the beginning has come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        self.connections.append(connection)
        connection.request(method, path, None if body is None else json.dumps(body))
        return connection.getresponse()

    def listens(self) -> bool:
        """Whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
        except ConnectionError:
            return False
        return True

    def code(self) -> int:
        """The exit code, when it has ended."""
        code = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code


@contextmanager
def serving(*words: str, **environment: str) -> Iterator[Process]:
    process = Process(*words, **environment)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
        process.code()
        for connection in process.connections:
            connection.close()
        assert process.popen.stderr is not None
        process.popen.stderr.close()


def stream(process: Process) -> http.client.HTTPResponse:
    """A story that goes on for long, and has begun."""
    response = process.ask("POST", "/v1/completions", STORY)
    assert response.readline().startswith(b"data: ")
    return response


def last_event(response: http.client.HTTPResponse) -> Any:
    """Of a stream, at its end."""
    return json.loads(response.read().strip().split(b"\n\n")[-1].removeprefix(b"data: "))


def test_it_says_what_it_serves_and_how_to_ask():
    curl = shutil.which("curl")
    with serving() as process:
        assert "rwkvcpp: no model named, so this is rwkv7-stories" in process.said
        assert re.search(
            r"rwkvcpp: serving rwkv7-stories-q8_0 at http://127\.0\.0\.1:\d+/v1", process.said
        )
        assert "warning" not in process.said
        if curl is not None:
            (line,) = re.findall(r"^  (curl .*)$", process.said, flags=re.M)
            asked = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
            assert json.loads(asked.stdout)["choices"][0]["message"]["role"] == "assistant"
        process.popen.terminate()
        assert process.code() == 143
        assert bool(curl) == bool(re.search(r"POST /v1/chat/completions 200 \d+ ms", process.said))


def test_quiet_it_says_nothing(tmp_path):
    (free,) = listen("127.0.0.1", 0)
    with free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "rwkvcpp", "serve", "--port", str(port), "--no-model", "-q"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = tmp_path / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stderr=output, stdout=output)
        deadline = time.monotonic() + PATIENCE
        while not answers(port):
            assert time.monotonic() < deadline
        process.terminate()
        assert process.wait(PATIENCE) == 143
    assert said.read_bytes() == b""


def answers(port: int) -> bool:
    """Whether somebody does, at this port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("words", "is_warned"),
    [(["--host", "0.0.0.0"], True), (["--host", "0.0.0.0", "--api-key", "secret"], False)],
)
def test_it_warns_when_everybody_may_ask(words, is_warned):
    with serving("--no-model", *words) as process:
        process.popen.terminate()
        assert process.code() == 143
        warning = "rwkvcpp: warning: whoever reaches 0.0.0.0 can ask; --api-key keeps others out"
        assert (warning in process.said) == is_warned
        assert ("Authorization: Bearer KEY" in process.said) != is_warned
        assert "secret" not in process.said


def test_variables_and_a_file_say_how_to_serve(tmp_path):
    (tmp_path / "server.toml").write_text("no_model = true\ngrace = 1\ndeploy = false\n")
    with serving(RWKVCPP_CONFIG=str(tmp_path / "server.toml"), RWKVCPP_DEPLOY="yes") as process:
        assert "serving no model yet" in process.said
        refused = process.ask("POST", "/exit")
        assert (refused.status, b"deploy" in refused.read()) == (403, True)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_after_a_signal_a_stream_has_its_grace_and_then_an_error(number, expected):
    with serving("--grace", "0.5") as process:
        response = stream(process)
        process.popen.send_signal(number)
        assert last_event(response)["error"]["code"] == "shutting_down"
        assert process.code() == expected
        assert "Traceback" not in process.said


def test_within_the_grace_a_stream_comes_to_its_end():
    with serving("--grace", str(PATIENCE)) as process:
        response = process.ask("POST", "/v1/completions", STORY | {"max_tokens": 2000})
        assert response.readline().startswith(b"data: ")
        process.popen.terminate()
        assert response.read().endswith(b"data: [DONE]\n\n")
        assert process.code() == 143


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number):
    with serving("--grace", "3600", "--max-tokens-limit", "1000000000") as process:
        response = process.ask("POST", "/v1/completions", STORY | {"max_tokens": 1_000_000_000})
        assert response.readline().startswith(b"data: ")
        process.popen.send_signal(number)
        while process.listens():  # until the first one has come through
            pass
        process.popen.send_signal(number)
        assert process.code() == 128 + number
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        assert "Traceback" not in process.said


def test_exit_ends_it_after_its_answer_and_those_who_run():
    with serving("--grace", str(PATIENCE)) as process:
        response = process.ask("POST", "/v1/completions", STORY | {"max_tokens": 2000})
        assert response.readline().startswith(b"data: ")
        answer = process.ask("POST", "/exit")
        assert (answer.status, json.loads(answer.read())) == (200, {"status": "ok"})
        assert response.read().endswith(b"data: [DONE]\n\n")
        assert process.code() == 0


def test_nohup_is_heeded():
    """Who ignores SIGHUP means it."""
    command = f"trap '' HUP; exec {sys.executable} -m rwkvcpp serve --port 0 --no-model"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        ["bash", "-c", command], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process.stderr as said:
        assert "serving no model" in said.readline()
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(PATIENCE) == 143

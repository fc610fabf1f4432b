"""A server as a process of its own, a light client, and what the system says about the process."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE = 600  # seconds that a request may take


class Served:
    """`rwkvcpp serve` on a free port; as a context it ends at the end."""

    def __init__(self, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "rwkvcpp", "serve", "--port", str(self.port), *options]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # __exit__ closes it
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self._await_health()

    def connect(self) -> http.client.HTTPConnection:
        """A connection of one's own."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of an answer; a `body` that is no bytes goes as JSON."""
        connection = self.connect()
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> Any:
        """The JSON of an answer that must be a success."""
        status, data = self.ask("POST", path, body)
        if status != 200:
            raise RuntimeError(f"{path} answered {status}: {data[:500].decode()}")
        return json.loads(data)

    def events(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """The events of a stream as they come; closing the iterator hangs up."""
        connection = self.connect()
        try:
            sent = json.dumps({**body, "stream": True}).encode()
            connection.request("POST", path, sent, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"{path} answered {response.status}: {response.read()!r}")
            for line in response:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])
            response.close()
        finally:
            connection.close()

    def numbers(self) -> dict[str, float]:
        """What /metrics says, without the numbers that have labels."""
        _, text = self.ask("GET", "/metrics")
        lines = [line.split() for line in text.decode().splitlines()]
        return {line[0]: float(line[1]) for line in lines if len(line) == 2 and "{" not in line[0]}

    def n_generations(self) -> int:
        """How many run or wait."""
        numbers = self.numbers()
        return int(numbers["rwkvcpp_running"] + numbers["rwkvcpp_waiting"])

    def await_idle(self) -> float:
        """Seconds until nothing runs or waits."""
        begun = time.perf_counter()
        while self.n_generations():
            time.sleep(0.001)
            if time.perf_counter() - begun > PATIENCE:
                raise RuntimeError(f"{self.n_generations()} generations run, and nobody reads them")
        return time.perf_counter() - begun

    def n_threads(self) -> int:
        """Threads of the process."""
        return self._status("Threads")

    def resident_mb(self) -> float:
        """Memory of the process that is there."""
        return self._status("VmRSS") / 1024

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name}:")]
        return int(line.split()[1])

    def _await_health(self) -> None:
        while self._process.poll() is None:
            try:
                if self.ask("GET", "/health")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        self._log.seek(0)
        said = self._log.read().decode(errors="replace")
        self._log.close()
        raise RuntimeError(f"the server ended with exit code {self._process.returncode}: {said}")

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._log.close()

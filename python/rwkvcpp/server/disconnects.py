"""Clients that hang up: a thread looks after the connections of all requests that wait.

The server reads ahead of a request's answer, so it knows when the other side is gone; asking it
costs nothing, and one thread that asks for all costs little. A client that closes its half of the
connection is gone, too: nothing tells the two apart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

logger = logging.getLogger(__name__)

SECONDS = 0.02  # between two looks

Gone = Callable[[], bool]


class Disconnects:
    """Calls back when a client is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[Gone, Callable[[], object]]] = {}
        self._thread: threading.Thread | None = None
        self._n = 0

    def watch(
        self, environ: Mapping[str, Any], on_gone: Callable[[], object]
    ) -> Callable[[], None]:
        """Have `on_gone` called once if the client of `environ` hangs up before it ends.

        Returns what ends it. Servers that cannot tell never call `on_gone`; they close a stream
        when a write fails.
        """
        gone = environ.get("waitress.client_disconnected")
        if gone is None:
            return lambda: None
        key = self._add(gone, on_gone)

        def end() -> None:
            with self._lock:
                self._watched.pop(key, None)

        return end

    def _add(self, gone: Gone, on_gone: Callable[[], object]) -> int:
        with self._lock:
            self._n += 1
            self._watched[self._n] = (gone, on_gone)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look, name="rwkvcpp-disconnects", daemon=True
                )
                self._thread.start()
            return self._n

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                if not self._watched:
                    self._thread = None
                    return
                found = [(key, call) for key, (gone, call) in self._watched.items() if gone()]
                for key, _ in found:
                    del self._watched[key]
            for _, call in found:
                _called(call)
            pause.wait(SECONDS)


def _called(on_gone: Callable[[], object]) -> None:
    """One that fails leaves the others looked after."""
    try:
        on_gone()
    except Exception:
        logger.exception("a request whose client is gone could not be ended")

"""Active requests: those that are being answered, by the ids of their answers."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from weakref import ref

from rwkvcpp.server.choices import Choices


@dataclass(frozen=True)
class Active:
    """A request that is being answered. It does not keep its choices."""

    id: str
    client: str  # whose it is
    choices: ref[Choices] = field(repr=False)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        choices = self.choices()
        return choices is None or choices.is_over

    def stop(self) -> None:
        """End it within one step: what there is, is the answer."""
        choices = self.choices()
        if choices is not None:
            choices.stop()


class ActiveRequests:
    """Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, Active] = {}

    def add(self, id: str, choices: Choices) -> None:
        """A request from now on, until its choices are over."""
        with self._lock:
            self._forget()
            self._by_id[id] = Active(id, choices.client, ref(choices))

    def named(self, id: str) -> Active | None:
        """The one that answers under this id."""
        with self._lock:
            found = self._by_id.get(id)
        return None if found is None or found.is_over else found

    def of_client(self, client: str) -> list[Active]:
        """Those of one address, the oldest first."""
        with self._lock:
            self._forget()
            return [each for each in self._by_id.values() if each.client == client]

    def _forget(self) -> None:
        self._by_id = {id: each for id, each in self._by_id.items() if not each.is_over}

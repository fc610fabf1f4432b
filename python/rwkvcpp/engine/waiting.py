"""WaitingLine: requests that wait for a slot. Clients take turns, each one's in order."""

from __future__ import annotations

from collections import OrderedDict, deque

from rwkvcpp.engine.run import Run


class WaitingLine:
    """Not locked: whoever uses it holds the lock of the loop."""

    def __init__(self) -> None:
        self._by_client: OrderedDict[str, deque[Run]] = OrderedDict()
        self._n_runs = 0

    def __len__(self) -> int:
        return self._n_runs

    def put(self, run: Run) -> None:
        """At the end of its client's."""
        self._by_client.setdefault(run.request.client, deque()).append(run)
        self._n_runs += 1

    def take(self) -> Run:
        """The first of the client whose turn it is."""
        client, runs = self._by_client.popitem(last=False)
        self._n_runs -= 1
        run = runs.popleft()
        if runs:
            self._by_client[client] = runs
        return run

    def take_cancelled(self) -> list[Run]:
        """All that nobody waits for any more."""
        cancelled = [run for runs in self._by_client.values() for run in runs if run.cancelled]
        if cancelled:
            left = {
                client: deque(run for run in runs if not run.cancelled)
                for client, runs in self._by_client.items()
            }
            self._by_client = OrderedDict((client, runs) for client, runs in left.items() if runs)
            self._n_runs -= len(cancelled)
        return cancelled

    def take_all(self) -> list[Run]:
        """Everything, in the order of turns."""
        return [self.take() for _ in range(self._n_runs)]

"""Why an engine does not take a request, or does not end one."""

from __future__ import annotations

from rwkvcpp.errors import RwkvError


class QueueFullError(RwkvError):
    """As many requests wait as may: try again after `retry_after` seconds."""

    def __init__(self, n_waiting: int, retry_after: float) -> None:
        super().__init__(
            f"{n_waiting} requests are waiting, expected fewer: try again in {retry_after:.0f} s"
        )
        self.retry_after = retry_after


class EngineClosedError(RwkvError):
    """The engine was closed before the request was done, or before it came."""

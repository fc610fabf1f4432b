"""Speeds: how fast the prompts of a request were read, and its answers written."""

from __future__ import annotations

import time
from typing import Any

from rwkvcpp.engine import Event, PromptEvent, TokenEvent


class Speeds:
    """Of all choices of one request together, from when it is made."""

    def __init__(self) -> None:
        self._begun = self._read_at = self._last = time.monotonic()
        self._n_read = self._n_drawn = 0
        self._first_read: float | None = None

    def see(self, event: Event) -> None:
        """An event, as it comes."""
        self._last = time.monotonic()
        if isinstance(event, PromptEvent):
            self._read_at = self._last
            self._first_read = self._first_read or self._last
            self._n_read += event.n_tokens - event.n_cached
        elif isinstance(event, TokenEvent):
            self._n_drawn += 1

    @property
    def metrics(self) -> dict[str, Any]:
        """Tokens per second, under the names of RWKV Chat; None for what there was none of."""
        writing = self._last - (self._first_read or self._last)
        return {
            "prefill_speed": _per_second(self._n_read, self._read_at - self._begun),
            "decode_speed": _per_second(self._n_drawn, writing),
            "total_time": round(self._last - self._begun, 6),
        }


def _per_second(n: int, seconds: float) -> float | None:
    return round(n / seconds, 3) if n and seconds > 0 else None

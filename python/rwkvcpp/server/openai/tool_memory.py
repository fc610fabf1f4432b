"""ToolMemory: which tools a call was one of, for clients that send its result without them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

MOST_CALLS = 1000

Tools: TypeAlias = "Sequence[Mapping[str, Any]]"


class ToolMemory:
    """Tools by the ids of calls; the oldest are forgotten. Threads share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tools: OrderedDict[str, Tools] = OrderedDict()

    def remember(self, call_id: str, tools: Tools) -> None:
        """A call was made."""
        with self._lock:
            self._tools[call_id] = tools
            while len(self._tools) > MOST_CALLS:
                self._tools.popitem(last=False)

    def recall(self, messages: Iterable[Mapping[str, Any]]) -> Tools:
        """The tools of the last call in `messages` whose result is known; nothing if none is."""
        ids = [message.get("tool_call_id") for message in messages]
        with self._lock:
            known = [self._tools[id] for id in ids if isinstance(id, str) and id in self._tools]
        return known[-1] if known else ()

"""ToolMemory: which tools a call was one of, for clients that send its result without them."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

MOST_CALLS = 1000
MOST_CHARACTERS = 2**24  # of all of them, as JSON

Tools: TypeAlias = "Sequence[Mapping[str, Any]]"


class ToolMemory:
    """Tools by the ids of calls; the oldest are forgotten. Threads share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._n_characters = 0

    def remember(self, call_id: str, tools: Tools) -> None:
        """A call was made."""
        text = json.dumps(tools)
        if len(text) > MOST_CHARACTERS:
            return
        with self._lock:
            self._texts[call_id] = text
            self._n_characters += len(text)
            while len(self._texts) > MOST_CALLS or self._n_characters > MOST_CHARACTERS:
                _, forgotten = self._texts.popitem(last=False)
                self._n_characters -= len(forgotten)

    def recall(self, messages: Iterable[Mapping[str, Any]]) -> Tools:
        """The tools of the last call in `messages` whose result is known; nothing if none is."""
        ids = [message.get("tool_call_id") for message in messages]
        with self._lock:
            known = [self._texts[id] for id in ids if isinstance(id, str) and id in self._texts]
        tools: Tools = json.loads(known[-1]) if known else ()
        return tools

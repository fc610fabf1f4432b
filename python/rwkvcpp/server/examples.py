"""Bodies to try, by the first path of a route; the OpenAPI page shows them, and tests post them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HELLO = [{"role": "user", "content": "Hello"}]

EXAMPLES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "/v1/chat/completions": {
        "a question": {"messages": _HELLO, "max_tokens": 50},
        "a stream that ends with its cost": {
            "messages": [{"role": "system", "content": "You are a fox."}, *_HELLO],
            "max_tokens": 50,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        "three answers, the same each time": {
            "messages": _HELLO,
            "max_tokens": 20,
            "n": 3,
            "seed": 1,
            "temperature": 1.0,
            "top_p": 0.5,
            "stop": ["\n\n"],
        },
    },
}

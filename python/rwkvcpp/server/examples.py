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
        "a batch of raw prompts, as rwkv_lightning's clients ask": {
            "contents": ["The fox said", "The crow said"],
            "max_tokens": 20,
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
    "/v1/completions": {
        "a text": {"prompt": "Once upon a time", "max_tokens": 50},
        "two texts, streamed": {
            "prompt": ["The fox said", "The crow said"],
            "max_tokens": 20,
            "stream": True,
        },
        "how likely a text is, as lm-evaluation-harness asks": {
            "prompt": [[0, 85, 111]],
            "temperature": 0,
            "max_tokens": 1,
            "logprobs": 1,
            "echo": True,
        },
        "a state to go on from": {
            "prompt": "The fox",
            "max_tokens": 10,
            "return_state": "base64",
        },
    },
    "/v1/embeddings": {
        "a text": {"input": "The fox and the crow"},
        "two texts, as OpenAI's client asks": {
            "input": ["The fox", "The crow"],
            "encoding_format": "base64",
        },
    },
    "/update-config": {
        "how tokens are drawn from now on": {
            "temperature": 1,
            "top_p": 0.3,
            "presence_penalty": 0,
            "frequency_penalty": 1,
            "penalty_decay": 0.996,
            "max_tokens": 1000,
            "global_penalty": False,
            "state": "models/",
        },
    },
    "/tokenize": {
        "a text": {"content": "The fox and the crow"},
        "with the text of each token": {"content": "The fox", "with_pieces": True},
        "a conversation": {"messages": _HELLO},
    },
    "/detokenize": {"tokens": {"tokens": [85, 111]}},
    "/v1/tokens/count": {
        "a text": {"text": "The fox and the crow"},
        "a conversation": {"messages": _HELLO},
    },
    "/v1/batch/completions": {
        "two prompts": {"contents": ["The fox said", "The crow said"], "max_tokens": 20},
        "the same, as they come": {
            "contents": ["The fox said", "The crow said"],
            "max_tokens": 20,
            "stream": True,
        },
    },
    "/translate/v1/batch-translate": {
        "a text": {"source_lang": "auto", "target_lang": "zh-CN", "text_list": ["Good morning"]},
    },
    "/v1/server/stop": {"all of this address": {}},
}

"""rwkvcpp, as vs_llama_cpp.py times it."""

from __future__ import annotations

from typing import Any

import rwkvcpp
from rwkvcpp.roofs import cpu_name, int8_roof, read_roof, token_work
from rwkvcpp.speed import batch_seconds, decode_seconds, prefill_seconds, some_tokens


class Engine:
    def __init__(self, path: str, threads: int) -> None:
        self._model = rwkvcpp.Model(path, threads=threads)

    def facts(self) -> dict[str, Any]:
        model, work = self._model, token_work(self._model)
        return {
            "engine": f"rwkvcpp {rwkvcpp.__version__} ({rwkvcpp.active_instruction_set()})",
            "cpu": cpu_name(),
            "model": f"RWKV-{model.version} {model.n_layer}x{model.n_embd} {model.weight_type}",
            "bytes_read": work.bytes_read,
            "decode_ops": work.decode_ops,
            "prompt_ops": work.prompt_ops,
            "is_int8": work.is_int8,
        }

    def prefill(self, n: int) -> float:
        return prefill_seconds(self._model, n)

    def decode(self, n: int) -> float:
        return decode_seconds(self._model, n)

    def batch(self, size: int, n_steps: int) -> float:
        return batch_seconds(self._model, size, n_steps)

    def logits(self, n: int) -> list[float]:
        """After the prompt that `prefill` times: both engines should agree on them."""
        tokens = some_tokens(self._model.n_vocab, n)
        logits = self._model.forward(tokens, self._model.initial_state())
        return [float(logit) for logit in logits]

    def read_roof(self, n_bytes: int) -> float:
        return read_roof(n_bytes, self._model.n_threads)

    def int8_roof(self) -> float:
        return int8_roof(self._model.n_threads)

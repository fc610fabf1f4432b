"""llama.cpp, as vs_llama_cpp.py times it: llama_decode, called through llama_cpp's ctypes.

RWKV's state lies in llama.cpp's memory of a context, one per sequence, and is cleared before each
run. Logits are asked for after the last token only; quality.py alone asks for all of them.
"""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import llama_cpp

N_BATCH = 512
MOST_SEQUENCES = 64
LOG_LEVEL_ERROR = 4  # of ggml_log_level

# (token, position, sequence, whether its logits are wanted)
Entry = tuple[int, int, int, bool]


class Context:
    """A context of up to n_sequences, with the batch that it is fed from."""

    def __init__(self, model: Any, threads: int, n_sequences: int) -> None:
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = 4096
        options.n_batch = options.n_ubatch = N_BATCH
        options.n_threads = options.n_threads_batch = threads
        options.n_seq_max = n_sequences
        self._context = llama_cpp.llama_init_from_model(model, options)
        if not self._context:
            raise SystemExit("llama.cpp: no context for this model")
        self._batch = llama_cpp.llama_batch_init(N_BATCH, 0, 1)

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def decode(self, entries: Iterable[Entry]) -> None:
        batch, n = self._batch, 0
        for token, position, sequence, wanted in entries:
            batch.token[n], batch.pos[n], batch.logits[n] = token, position, wanted
            batch.n_seq_id[n], batch.seq_id[n][0] = 1, sequence
            n += 1
        batch.n_tokens = n
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise SystemExit(f"llama.cpp: llama_decode returned {code}")
        llama_cpp.llama_synchronize(self._context)

    def logits(self, n_vocab: int) -> list[float]:
        return list(llama_cpp.llama_get_logits_ith(self._context, -1)[:n_vocab])

    def all_logits(self, n_vocab: int) -> bytes:
        """Float32 [n_tokens, n_vocab] of a decode() in which all tokens' logits were wanted."""
        n_bytes = self._batch.n_tokens * n_vocab * ctypes.sizeof(ctypes.c_float)
        return ctypes.string_at(llama_cpp.llama_get_logits(self._context), n_bytes)


class Engine:
    def __init__(self, path: str, threads: int) -> None:
        self._log = llama_cpp.llama_log_callback(_only_errors)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(path.encode(), options)
        if not self._model:
            raise SystemExit(f"llama.cpp: {path} cannot be loaded")
        self._threads = threads
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._n_vocab = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._single = Context(self._model, threads, 1)
        self._several: Context | None = None

    def facts(self) -> dict[str, Any]:
        return {
            "engine": f"llama.cpp (llama-cpp-python {llama_cpp.__version__}{_ggml_version()})",
            "system_info": " ".join(_built_with()),
        }

    def prefill(self, n: int) -> float:
        self._single.clear()
        entries = self._prompt(n)
        begun = time.perf_counter()
        self._feed(entries)
        return time.perf_counter() - begun

    def decode(self, n: int) -> float:
        self._single.clear()
        entries = [(token, i, 0, True) for i, token in enumerate(self._tokens(n))]
        begun = time.perf_counter()
        for entry in entries:
            self._single.decode((entry,))
        return time.perf_counter() - begun

    def batch(self, size: int, n_steps: int) -> float:
        if self._several is None:
            self._several = Context(self._model, self._threads, MOST_SEQUENCES)
        context, tokens = self._several, self._tokens(size * n_steps)
        context.clear()
        begun = time.perf_counter()
        for step in range(n_steps):
            drawn = tokens[step * size : (step + 1) * size]
            context.decode((token, step, i, True) for i, token in enumerate(drawn))
        return time.perf_counter() - begun

    def logits(self, n: int) -> list[float]:
        self.prefill(n)
        return self._single.logits(self._n_vocab)

    def write_logits(self, windows: list[list[int]], path: str) -> None:
        """Write the logits after each token of each window, float32, to a file."""
        with Path(path).open("wb") as file:
            for tokens in windows:
                self._single.clear()
                entries = [(token, i, 0, True) for i, token in enumerate(tokens)]
                for start in range(0, len(entries), N_BATCH):
                    self._single.decode(entries[start : start + N_BATCH])
                    file.write(self._single.all_logits(self._n_vocab))

    def _tokens(self, n: int) -> list[int]:
        return [(7919 * i + 13) % self._n_vocab for i in range(n)]  # as rwkvcpp.speed makes them

    def _prompt(self, n: int) -> list[Entry]:
        return [(token, i, 0, i == n - 1) for i, token in enumerate(self._tokens(n))]

    def _feed(self, entries: list[Entry]) -> None:
        for start in range(0, len(entries), N_BATCH):
            self._single.decode(entries[start : start + N_BATCH])


def _only_errors(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level == LOG_LEVEL_ERROR:
        print(text.decode(errors="replace"), end="")


def _built_with() -> list[str]:
    """The instruction sets and features in use, from "CPU : SSE3 = 1 | AVX2 = 1 | "."""
    return re.findall(r"(\w+) = 1", llama_cpp.llama_print_system_info().decode())


def _ggml_version() -> str:
    """ ", ggml VERSION (COMMIT)", as the library was built from."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    for library in sorted(folder.glob("*ggml-base*")):
        ggml = ctypes.CDLL(str(library))
        if hasattr(ggml, "ggml_commit"):
            ggml.ggml_version.restype = ggml.ggml_commit.restype = ctypes.c_char_p
            return f", ggml {ggml.ggml_version().decode()} ({ggml.ggml_commit().decode()})"
    return ""

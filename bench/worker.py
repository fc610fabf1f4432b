"""Runs one engine on one model and answers requests: the process that vs_llama_cpp.py talks to.

    python bench/worker.py ENGINE MODEL THREADS

A request is a line of JSON, ["decode", 128]: a method of the engine and its arguments. The answer
is a line of JSON, too. What engines print goes to standard error.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

ENGINES = {"rwkvcpp": "rwkvcpp_engine", "llama.cpp": "llama_cpp_engine"}


def peak_memory() -> int:
    """Bytes of memory that this process has held at most, file pages included; 0 if not told."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return 1024 * int(found[1]) if found else 0


def main() -> None:
    name, path, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    make_engine = import_module(ENGINES[name]).Engine
    begun = time.perf_counter()
    engine = make_engine(path, int(threads))
    answer({**engine.facts(), "load_seconds": time.perf_counter() - begun})
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        answer(peak_memory() if method == "peak_memory" else getattr(engine, method)(*arguments))


if __name__ == "__main__":
    main()

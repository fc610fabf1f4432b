"""Times installations and settings of rwkvcpp on the same files, taking turns.

    python bench/vs_before.py --models z.gguf --before ~/before/bin/python
    python bench/vs_before.py --models z.gguf --batch 2 8 16

Compared are an earlier version, where --before names a Python that has it; this one with
RWKVCPP_SPARSE=off; and this one as it is. Each is a process of its own (worker.py) that stays
loaded. Ratios are medians over the rounds, within which the host's other guests change little.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from rwkvcpp.roofs import cpu_name

WORKER = Path(__file__).with_name("worker.py")
DECODED, PROMPT, STEPS = 24, 512, 6  # tokens, tokens, steps of a batch


class Contender:
    """A process with one way to run one model."""

    def __init__(self, name: str, python: str, sparse: str, model: Path, threads: int) -> None:
        self.name = name
        command = [python, str(WORKER), "rwkvcpp", str(model), str(threads)]
        pipe = subprocess.PIPE
        env = {**os.environ, "RWKVCPP_SPARSE": sparse}
        if name == "before":
            env.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
        self._answer()

    def ask(self, method: str, *arguments: int) -> float:
        assert self._process.stdin is not None
        print(json.dumps([method, *arguments]), file=self._process.stdin, flush=True)
        return float(self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: the process ended; its messages are above")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True)
class Task:
    """Something to time: a request to the worker, and the tokens that it makes."""

    name: str
    request: tuple[Any, ...]
    n_tokens: int


def tasks(batches: list[int], *, prompt: bool) -> list[Task]:
    found = [Task("decode", ("decode", DECODED), DECODED)]
    found += [Task(f"{n} sessions", ("batch", n, STEPS), n * STEPS) for n in batches]
    if prompt:
        found.append(Task(f"prefill {PROMPT}", ("prefill", PROMPT), PROMPT))
    return found


def measure(model: Path, args: argparse.Namespace) -> list[str]:
    """Rows of the table."""
    ways = [("before", args.before, "auto")] if args.before else []
    ways += [("all read", sys.executable, "off"), ("zeros skipped", sys.executable, "auto")]
    contenders = [Contender(*way, model, args.threads) for way in ways]
    rows = []
    for task in tasks(args.batch, prompt=args.prompt):
        speeds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for turn in range(args.rounds + 1):
            for contender in contenders if turn % 2 else reversed(contenders):
                speed = task.n_tokens / contender.ask(*task.request)
                if turn > 0:  # the first round warms up
                    speeds[contender.name].append(speed)
        base = next(iter(speeds.values()))
        cells = [model.name, task.name]
        for values in speeds.values():
            ratio = median(a / b for a, b in zip(values, base, strict=True))
            cells.append(f"{median(values):.1f} ({ratio:.3f})")
        rows.append("| " + " | ".join(cells) + " |")
        print(rows[-1], file=sys.stderr)
    for contender in contenders:
        contender.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--before", metavar="PYTHON", help="one that has an earlier rwkvcpp")
    parser.add_argument("--batch", type=int, nargs="*", default=[], help="sessions together")
    parser.add_argument("--prompt", action="store_true", help="time prefill, too")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rows = [row for model in args.models for row in measure(model, args)]
    names = (["before"] if args.before else []) + ["all read", "zeros skipped"]
    print(f"{cpu_name()}, {args.threads} threads, {date.today()}, medians of {args.rounds}.\n")
    print(f"`python bench/{Path(__file__).name} {shlex.join(sys.argv[1:])}`\n")
    print("| model | | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 2) + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()

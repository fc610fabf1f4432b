"""Times rwkvcpp and llama.cpp on the same files, taking turns, and prints a table for RESULTS.md.

    python bench/vs_llama_cpp.py --models rwkv7-1.5b-q4_0.gguf rwkv7-1.5b-q8_0.gguf
    python bench/vs_llama_cpp.py --models model.gguf --llama-python ~/llama/bin/python --json

Each engine is a process of its own (worker.py) that stays loaded and rests while the other runs.
The roofs are measured in the same rounds. README.md says how the figures are to be read.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
OURS, THEIRS = "rwkvcpp", "llama.cpp"
REST = 0.3  # seconds: idle threads of the engine that ran last have gone to sleep by then
LARGEST_READ = 2**32  # bytes: a larger buffer is read no faster
INSTALL = (
    "llama_cpp cannot be imported by {python}; build it for this processor with\n"
    "  CMAKE_ARGS=-DGGML_NATIVE=ON {python} -m pip install --no-binary llama-cpp-python "
    "llama-cpp-python\n"
    "or name a Python that has it with --llama-python"
)


class Worker:
    """A process with one engine that has loaded one model."""

    def __init__(self, python: str, engine: str, model: Path, threads: int) -> None:
        command = [python, str(WORKER), engine, str(model), str(threads)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self._engine = engine
        self.facts: dict[str, Any] = self._answer()

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the engine's method gives, once the machine is at rest."""
        time.sleep(REST)
        assert self._process.stdin is not None
        print(json.dumps([method, *arguments]), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            code = self._process.returncode
            raise SystemExit(f"the {self._engine} worker ended with exit code {code}")
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate()


# ---- measuring -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A request to both engines, and the work of one answer."""

    name: str
    method: str
    arguments: tuple[int, ...]
    n_tokens: int
    bytes_read: int = 0
    int8_ops: int = 0
    is_crowded: bool = False  # another process wants a core


@dataclass
class Comparison:
    """What was measured on one model: tokens/s by case and engine, GB/s and Gop/s of the roofs."""

    model: str
    facts: dict[str, dict[str, Any]]
    cases: list[Case]
    peak_memory: dict[str, int]
    similarity: float
    speeds: dict[str, dict[str, list[float]]]
    read_roof: list[float] = field(default_factory=list)
    int8_roof: list[float] = field(default_factory=list)


def compare(path: Path, args: argparse.Namespace) -> Comparison:
    """Both engines on one file, in `rounds` rounds."""
    _read_once(path)
    with _workers(path, args) as workers:
        cases = list(_cases(workers[OURS].facts, args))
        comparison = Comparison(
            model=path.name,
            facts={engine: worker.facts for engine, worker in workers.items()},
            cases=cases,
            peak_memory=_peak_memory(workers, args),
            similarity=_similarity(*(w.ask("logits", args.prompt) for w in workers.values())),
            speeds={case.name: {engine: [] for engine in workers} for case in cases},
        )
        for number in range(args.rounds):
            print(f"{path.name}: round {number + 1} of {args.rounds}", file=sys.stderr)
            _measure_round(comparison, workers, number)
    return comparison


def _read_once(path: Path) -> None:
    """Into the page cache: loading is timed from there."""
    with path.open("rb", buffering=0) as file:
        while file.read(2**24):
            pass


@contextmanager
def _workers(path: Path, args: argparse.Namespace) -> Iterator[dict[str, Worker]]:
    pythons = {OURS: sys.executable, THEIRS: args.llama_python}
    with ExitStack() as stack:
        workers = {}
        for engine, python in pythons.items():
            workers[engine] = Worker(python, engine, path, args.threads)
            stack.callback(workers[engine].close)
        yield workers


def _cases(facts: dict[str, Any], args: argparse.Namespace) -> Iterator[Case]:
    read, decode_ops = facts["bytes_read"], facts["decode_ops"]
    n = args.generate
    yield Case("decode", "decode", (n,), n, n * read)
    n = args.prompt
    yield Case(f"prefill {n}", "prefill", (n,), n, int8_ops=n * facts["prompt_ops"])
    for size in args.batch:
        n_steps = max(4, args.generate // size)
        n = size * n_steps
        yield Case(f"{size} sessions", "batch", (size, n_steps), n, int8_ops=n * decode_ops)
    if args.crowded:
        n = max(4, args.generate // 8)
        yield Case("decode, crowded", "decode", (n,), n, n * read, is_crowded=True)


def _similarity(ours: list[float], theirs: list[float]) -> float:
    """The cosine between the logits: near 1, or the engines have not computed the same model."""
    dot = sum(a * b for a, b in zip(ours, theirs, strict=True))
    return dot / sqrt(sum(a * a for a in ours) * sum(b * b for b in theirs))


def _peak_memory(workers: dict[str, Worker], args: argparse.Namespace) -> dict[str, int]:
    """After one prefill and one decode, which also warm up."""
    peaks = {}
    for engine, worker in workers.items():
        worker.ask("prefill", args.prompt)
        worker.ask("decode", args.generate)
        peaks[engine] = worker.ask("peak_memory")
    return peaks


def _measure_round(comparison: Comparison, workers: dict[str, Worker], number: int) -> None:
    """Every case on both engines, the other one first in every second round."""
    ours = workers[OURS]
    n_bytes = min(ours.facts["bytes_read"], LARGEST_READ)
    comparison.read_roof.append(ours.ask("read_roof", n_bytes))
    comparison.int8_roof.append(ours.ask("int8_roof"))
    order = list(workers.items())[:: 1 if number % 2 == 0 else -1]
    for case in comparison.cases:
        for engine, worker in order:
            with _busy_process() if case.is_crowded else nullcontext():
                seconds = worker.ask(case.method, *case.arguments)
            comparison.speeds[case.name][engine].append(case.n_tokens / seconds)


@contextmanager
def _busy_process() -> Iterator[None]:
    """A process that computes on one core for as long as it may."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


# ---- telling ---------------------------------------------------------------------------------


def report(comparison: Comparison) -> dict[str, Any]:
    """Medians, shares and ratios: what the table shows, for programs."""
    read, int8 = median(comparison.read_roof), median(comparison.int8_roof)
    is_int8 = comparison.facts[OURS]["is_int8"]
    return {
        "file": comparison.model,
        "model": comparison.facts[OURS]["model"],
        "read_roof_GB/s": read,
        "int8_roof_Gop/s": int8,
        "cosine_of_logits": comparison.similarity,
        "load_seconds": {name: f["load_seconds"] for name, f in comparison.facts.items()},
        "peak_memory_bytes": comparison.peak_memory,
        "speeds": [
            _speed(case, comparison.speeds[case.name], read, int8 if is_int8 else None)
            for case in comparison.cases
        ],
    }


def _speed(
    case: Case, speeds: dict[str, list[float]], read: float, int8: float | None
) -> dict[str, Any]:
    medians = {engine: median(values) for engine, values in speeds.items()}
    roof = read if case.bytes_read else int8
    work = (case.bytes_read or case.int8_ops) / case.n_tokens / 1e9
    return {
        "name": case.name,
        "tokens/s": medians,
        "spread": {engine: (max(v) - min(v)) / 2 for engine, v in speeds.items()},
        "roof": "read" if case.bytes_read else "int8",
        "of_roof": {
            engine: work * value / roof if roof else None for engine, value in medians.items()
        },
        "ratio": medians[OURS] / medians[THEIRS],
    }


HEADER = """\
| model | | rwkvcpp, tokens/s | of roof | llama.cpp, tokens/s | of roof | ratio |
|---|---|---|---|---|---|---|"""


def markdown(reports: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The machine, one table of all models, and what else was seen of each, ours first."""
    lines = [
        f"{machine['cpu']}, {machine['threads']} threads, {machine['date']}, "
        f"medians of {machine['rounds']}; {'; '.join(machine['engines'].values())}.",
        "",
        f"`{machine['command']}`",
        "",
        HEADER,
        *(_table_row(r, speed) for r in reports for speed in r["speeds"]),
        "",
        *map(_notes, reports),
        f"- llama.cpp: {machine['llama_system_info']}",
    ]
    return "\n".join(lines)


def _table_row(r: dict[str, Any], speed: dict[str, Any]) -> str:
    cells = [r["file"], speed["name"]]
    for engine in (OURS, THEIRS):
        cells.append(f"{speed['tokens/s'][engine]:.1f} ± {speed['spread'][engine]:.1f}")
        share = speed["of_roof"][engine]
        cells.append("-" if share is None else f"{100 * share:.0f} % {speed['roof']}")
    return f"| {' | '.join(cells)} | {speed['ratio']:.2f} |"


def _notes(r: dict[str, Any]) -> str:
    def both(values: dict[str, float], scale: float, unit: str) -> str:
        return f"{values[OURS] / scale:.2f} and {values[THEIRS] / scale:.2f} {unit}"

    return (
        f"- {r['file']}: read roof {r['read_roof_GB/s']:.1f} GB/s, "
        f"int8 roof {r['int8_roof_Gop/s']:.0f} Gop/s; load {both(r['load_seconds'], 1, 's')}; "
        f"peak memory {both(r['peak_memory_bytes'], 1e9, 'GB')}; "
        f"cosine of the logits {r['cosine_of_logits']:.4f}"
    )


def machine_facts(comparison: Comparison, args: argparse.Namespace) -> dict[str, Any]:
    """What stands beside every figure."""
    return {
        "cpu": comparison.facts[OURS]["cpu"],
        "system": platform.platform(),
        "threads": args.threads,
        "rounds": args.rounds,
        "date": date.today().isoformat(),
        "engines": {name: facts["engine"] for name, facts in comparison.facts.items()},
        "llama_system_info": comparison.facts[THEIRS]["system_info"],
        "command": shlex.join(["python", "bench/vs_llama_cpp.py", *without_folders(sys.argv[1:])]),
    }


def without_folders(arguments: list[str]) -> list[str]:
    return [Path(a).name if "/" in a else a for a in arguments]


# ---- the command -----------------------------------------------------------------------------


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument(
        "--rounds", type=int, default=5, help="at least 5 for figures (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, help="of both engines (%(default)s)")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of prefill (%(default)s)")
    parser.add_argument("--generate", type=int, default=128, help="tokens decoded (%(default)s)")
    parser.add_argument(
        "--batch", type=int, nargs="*", default=[], metavar="N", help="sessions, at most 64"
    )
    parser.add_argument(
        "--crowded", action="store_true", help="decode beside a busy process, too (slow)"
    )
    parser.add_argument("--llama-python", default=sys.executable, help="has llama_cpp (this one)")
    parser.add_argument("--json", action="store_true", help="instead of the table")
    return parser.parse_args(argv)


def check_llama_cpp(python: str) -> None:
    probe = subprocess.run([python, "-c", "import llama_cpp"], capture_output=True)
    if probe.returncode != 0:
        raise SystemExit(INSTALL.format(python=python))


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    check_llama_cpp(args.llama_python)
    comparisons = [compare(path, args) for path in args.models]
    machine, reports = machine_facts(comparisons[0], args), list(map(report, comparisons))
    if args.json:
        print(json.dumps({"machine": machine, "models": reports}, indent=2, ensure_ascii=False))
    else:
        print(markdown(reports, machine))


if __name__ == "__main__":
    main()

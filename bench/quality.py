"""Measures what int8 activations cost, in rwkvcpp and in llama.cpp, on the same files and text.

    python -m bench.quality --models *.gguf --text story.txt --llama-python ~/llama/bin/python

The reference is rwkvcpp with float32 activations on the same quantized weights, so what is told is
the cost of rounding activations alone. Logits are compared after every token of a few windows of
the text, each from the initial state. llama.cpp runs in a process of its own (worker.py); rwkv.cpp
files, which it cannot read, have our figures only. README.md says how the figures are to be read.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rwkvcpp
from bench.vs_llama_cpp import OURS, THEIRS, Worker, check_llama_cpp, without_folders
from rwkvcpp.predictions import kl_divergence, log_softmax
from rwkvcpp.roofs import cpu_name

Windows = list[list[int]]
Logits = NDArray[np.float32]  # [windows, length, n_vocab]

ENCODINGS = ("utf-8", "utf-16-le")  # that byte models were trained on


# ---- what is compared ------------------------------------------------------------------------


@dataclass(frozen=True)
class Deviation:
    """How far logits are from the reference's."""

    kl: float  # KL(reference || engine), nats, mean over all positions
    kl_99: float  # 99th percentile
    top_1: float  # share of positions with the same most likely token
    rms: float  # of the difference, in rms of the reference
    kl_of_windows: list[float]  # mean of each


def deviation(reference: Logits, logits: Logits) -> Deviation:
    kl = divergences(reference, logits)
    size = np.mean(np.square(reference, dtype=np.float64))
    return Deviation(
        kl=float(kl.mean()),
        kl_99=float(np.percentile(kl, 99)),
        top_1=float(np.mean(reference.argmax(axis=2) == logits.argmax(axis=2))),
        rms=float(np.sqrt(np.mean(np.square(logits - reference, dtype=np.float64)) / size)),
        kl_of_windows=[float(mean) for mean in kl.mean(axis=1)],
    )


def divergences(reference: Logits, logits: Logits) -> NDArray[np.float64]:
    """Nats, [windows, length]. One window after the other: float64 of all would fill the memory."""
    pairs = zip(reference, logits, strict=True)
    return np.stack([kl_divergence(*map(log_softmax, pair)) for pair in pairs])


def loss(logits: Logits, windows: Windows) -> float:
    """Nats per token: whether the model knows the text at all."""
    pairs = zip(logits, windows, strict=True)
    return float(np.mean([_loss_of_window(own, tokens) for own, tokens in pairs]))


def _loss_of_window(logits: NDArray[np.float32], tokens: list[int]) -> float:
    log_p = log_softmax(logits)
    return -float(np.mean(log_p[np.arange(len(tokens) - 1), tokens[1:]]))


def ratio(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """Of the sums, and its standard error: windows share no state, so they are independent."""
    a, b, n = np.array(ours), np.array(theirs), len(ours)
    value = a.sum() / b.sum()
    error = np.sqrt(n / (n - 1) * np.sum((a - value * b) ** 2)) / b.sum()
    return float(value), float(error)


# ---- measuring -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quality:
    """What was found on one file."""

    file: str
    weights: str
    n_positions: int
    loss: float
    deviations: dict[str, Deviation]  # by engine


def measure(path: Path, text: str, args: argparse.Namespace) -> tuple[Quality, dict[str, Any]]:
    """The quality of both engines on one file, and what llama.cpp says about itself."""
    load = partial(rwkvcpp.Model, path, threads=args.threads, group_norm_eps=args.group_norm_eps)
    floats = load(activations="float32")
    windows = best_windows(floats, text, args.windows, args.length)
    reference = all_logits(floats, windows)
    found = {OURS: deviation(reference, all_logits(load(activations="int8"), windows))}
    facts: dict[str, Any] = {}
    if is_for_both(path):
        logits, facts = llama_cpp_logits(path, windows, args)
        found[THEIRS] = deviation(reference, logits)
    weights = f"RWKV-{floats.version} {floats.weight_type}"
    n_positions = args.windows * args.length
    return Quality(path.name, weights, n_positions, loss(reference, windows), found), facts


def is_for_both(path: Path) -> bool:
    return path.suffix == ".gguf"


def best_windows(model: rwkvcpp.Model, text: str, n: int, length: int) -> Windows:
    """The first n windows of the text; byte models get the encoding that they know better."""
    choices = [cut(model.tokenizer.encode(text), n, length)]
    if model.n_vocab == 256:
        choices = [cut(list(text.encode(encoding)), n, length) for encoding in ENCODINGS]
    return min(choices, key=lambda windows: loss(all_logits(model, windows), windows))


def cut(tokens: list[int], n: int, length: int) -> Windows:
    if len(tokens) < n * length:
        raise SystemExit(f"the text has {len(tokens)} tokens, expected at least {n} x {length}")
    return [tokens[i * length : (i + 1) * length] for i in range(n)]


def all_logits(model: rwkvcpp.Model, windows: Windows) -> Logits:
    """After each token of each window."""
    return np.stack(
        [model.forward(tokens, model.initial_state(), all_logits=True) for tokens in windows]
    )


def llama_cpp_logits(
    path: Path, windows: Windows, args: argparse.Namespace
) -> tuple[Logits, dict[str, Any]]:
    worker = Worker(args.llama_python, THEIRS, path, args.threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "logits"
            worker.ask("write_logits", windows, str(file))
            logits = np.fromfile(file, np.float32).reshape(args.windows, args.length, -1)
    finally:
        worker.close()
    return logits, worker.facts


# ---- telling ---------------------------------------------------------------------------------

HEADER = """\
| file | weights | loss | KL | ratio | KL, 99 % | same top-1 | rms |
|---|---|---|---|---|---|---|---|"""


def markdown(qualities: list[Quality], machine: dict[str, Any]) -> str:
    """The machine and a table; in a cell ours stands before llama.cpp's."""
    positions = " and ".join(sorted({str(quality.n_positions) for quality in qualities}))
    lines = [
        f"{machine['cpu']}, {machine['date']}, {positions} positions of {machine['text']}; "
        f"{'; '.join(machine['engines'])}.",
        "",
        f"`{machine['command']}`",
        "",
        HEADER,
        *map(_row, qualities),
    ]
    return "\n".join(lines)


def _row(quality: Quality) -> str:
    found = list(quality.deviations.values())
    cells = [
        quality.file,
        quality.weights,
        f"{quality.loss:.3f}",
        " / ".join(f"{d.kl:.2e}" for d in found),
        _ratio_cell(*found),
        " / ".join(f"{d.kl_99:.1e}" for d in found),
        " / ".join(f"{100 * d.top_1:.2f} %" for d in found),
        " / ".join(f"{d.rms:.2e}" for d in found),
    ]
    return f"| {' | '.join(cells)} |"


def _ratio_cell(ours: Deviation, theirs: Deviation | None = None) -> str:
    if theirs is None or ours.kl == 0:
        return "-"
    value, error = ratio(ours.kl_of_windows, theirs.kl_of_windows)
    return f"{value:.2f} ± {error:.2f}"


def machine_facts(facts: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """What stands beside every figure."""
    ours = f"rwkvcpp {rwkvcpp.__version__} ({rwkvcpp.active_instruction_set()})"
    return {
        "cpu": cpu_name(),
        "date": date.today().isoformat(),
        "text": args.text.name,
        "engines": [ours, *([facts["engine"]] if facts else [])],
        "command": shlex.join(["python", "-m", "bench.quality", *without_folders(sys.argv[1:])]),
    }


# ---- the command -----------------------------------------------------------------------------


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--text", type=Path, required=True, help="of a kind that the models know")
    parser.add_argument("--windows", type=int, default=16, help="pieces of the text (%(default)s)")
    parser.add_argument("--length", type=int, default=256, help="tokens of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of both engines (%(default)s)")
    parser.add_argument("--group-norm-eps", type=float, default=64e-5, metavar="EPS",
                        help="64e-5 is official; rwkv.cpp's tiny v5 models have 1e-5")  # fmt: skip
    parser.add_argument("--llama-python", default=sys.executable, help="has llama_cpp (this one)")
    parser.add_argument("--json", action="store_true", help="instead of the table")
    args = parser.parse_args(argv)
    if min(args.windows, args.length) < 2:
        parser.error("--windows and --length are at least 2")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if any(map(is_for_both, args.models)):
        check_llama_cpp(args.llama_python)
    text = args.text.read_text(encoding="utf-8")
    qualities: list[Quality] = []
    facts: dict[str, Any] = {}
    for path in args.models:
        quality, own = measure(path, text, args)
        qualities.append(quality)
        facts |= own
    machine = machine_facts(facts, args)
    if args.json:
        found = {"machine": machine, "models": list(map(asdict, qualities))}
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(markdown(qualities, machine))


if __name__ == "__main__":
    main()

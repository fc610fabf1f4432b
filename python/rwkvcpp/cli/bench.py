"""Measure how fast a model runs here, and what share of the machine that is.

Every figure is the median of runs that take turns, with half the distance between the fastest and
the slowest beside it. The roofs, bandwidth of reading and rate of int8 operations, are measured
between these runs. `generate` is decode with sampling and text; the line above the table says how
much of its time is not the model's. Most of what meets the last matrix of a layer is zero, and what
meets zeros is not read: below the table stand both roofs of decoding, with and without that.

examples:
  rwkvcpp bench -m model.gguf
  rwkvcpp bench -m model.gguf --threads 2 --prompt 512 --generate 128 --batch 8,16
  rwkvcpp bench -m model.gguf --json > here.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rwkvcpp
from rwkvcpp.cli.model_options import add_model_options, load_model
from rwkvcpp.cli.zeros_report import zeros_lines, zeros_report
from rwkvcpp.roofs import Work, cpu_name, int8_roof, read_roof, token_work
from rwkvcpp.speed import (
    Case,
    Figure,
    batch_seconds,
    decode_seconds,
    generate_seconds,
    loop_share,
    measure,
    prefill_seconds,
)

LARGEST_READ = 2**32  # bytes: a larger buffer is read no faster, and would not always fit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    group = parser.add_argument_group("what to measure")
    group.add_argument(
        "--prompt", type=_count, default=512, metavar="N", help="tokens of prefill (%(default)s)"
    )
    group.add_argument(
        "--generate", type=_count, default=128, metavar="N", help="tokens decoded (%(default)s)"
    )
    group.add_argument(
        "--batch",
        type=_counts,
        default=_counts("1,2,4,8,16,32,64"),
        metavar="N,N",
        help="numbers of sessions that decode together (1,2,4,8,16,32,64)",
    )
    group.add_argument(
        "--repeats", type=_count, default=5, metavar="N", help="runs of each (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")


def run(args: argparse.Namespace) -> int:
    model, load_seconds = _load_from_page_cache(args)
    work = token_work(model)
    loop = Case("loop", lambda: loop_share(model, args.generate))
    cases = [*_roofs(model), loop, *_speeds(model, work, args)]
    with _progress(len(cases) * (args.repeats + 1), quiet=args.quiet) as advance:
        figures = measure(cases, args.repeats, before_each=advance)
    report = _report(model, work, load_seconds, figures)
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print_tables(report)
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))


def _load_from_page_cache(args: argparse.Namespace) -> tuple[rwkvcpp.Model, float]:
    """The model, and the seconds that its second loading took: the first one read the disk."""
    load_model(args)
    begun = time.perf_counter()
    model = load_model(argparse.Namespace(**{**vars(args), "quiet": True}))
    return model, time.perf_counter() - begun


# ---- what is measured ------------------------------------------------------------------------


def _roofs(model: rwkvcpp.Model) -> list[Case]:
    n_bytes = min(model.token_bytes_read, LARGEST_READ)
    return [
        Case("read roof", lambda: read_roof(n_bytes, model.n_threads)),
        Case("int8 roof", lambda: int8_roof(model.n_threads)),
    ]


def _speeds(model: rwkvcpp.Model, work: Work, args: argparse.Namespace) -> Iterator[Case]:
    n = args.prompt
    yield Case(f"prefill {n}", lambda: prefill_seconds(model, n), n, 0, n * work.prompt_ops)
    n_decoded = args.generate
    asked = (n_decoded, n_decoded * work.bytes_read, n_decoded * work.decode_ops)
    yield Case("decode", lambda: decode_seconds(model, n_decoded), *asked)
    yield Case("generate", lambda: generate_seconds(model, n_decoded), *asked)
    for size in args.batch:
        yield _batch_case(model, work, size, n_steps=max(4, n_decoded // size))


def _batch_case(model: rwkvcpp.Model, work: Work, size: int, n_steps: int) -> Case:
    n = size * n_steps
    return Case(
        f"batch of {size}",
        lambda: batch_seconds(model, size, n_steps),
        n,
        n_steps * work.bytes_read,
        n * work.decode_ops,
    )


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[Case], None]]:
    """Drawn between the runs only: a thread that draws would be measured with them."""
    if quiet or not sys.stderr.isatty():
        yield lambda case: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description:>12}"), BarColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=total)

        def advance(case: Case) -> None:
            bar.update(task, advance=1, description=case.name, refresh=True)

        yield advance


# ---- telling ---------------------------------------------------------------------------------


def _report(
    model: rwkvcpp.Model, work: Work, load_seconds: float, figures: list[Figure]
) -> dict[str, Any]:
    read, int8, loop, *speeds = figures
    rows = [_row(figure, read.value, int8.value if work.is_int8 else None) for figure in speeds]
    file_bytes = model.path.stat().st_size
    decode = next(figure for figure in speeds if figure.case.name == "decode")
    return {
        "rwkvcpp": rwkvcpp.__version__,
        "instruction_set": rwkvcpp.active_instruction_set(),
        "cpu": cpu_name(),
        "threads": model.n_threads,
        "read_roof": {"GB/s": read.value, "spread": read.spread},
        "int8_roof": {"Gop/s": int8.value, "spread": int8.spread},
        "model": {
            "file": model.path.name,
            "version": model.version,
            "weight_type": model.weight_type,
            "file_bytes": file_bytes,
            "bytes_read_per_token": work.bytes_read,
            "operations_per_token": work.decode_ops,
            "operations_per_prompt_token": work.prompt_ops,
        },
        "loop": {"share": loop.value, "spread": loop.spread},
        "load": {"seconds": load_seconds, "GB/s": file_bytes / load_seconds / 1e9},
        "speeds": rows,
        "zeros": zeros_report(model, read.value, decode.value),
    }


def _row(figure: Figure, read: float, int8: float | None) -> dict[str, Any]:
    case = figure.case
    return {
        "name": case.name,
        "tokens/s": figure.value,
        "spread": figure.spread,
        "of_read_roof": figure.rate(case.bytes_read) / read if case.bytes_read else None,
        "of_int8_roof": figure.rate(case.int8_ops) / int8 if int8 else None,
    }


def _print_tables(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "tokens/s", "±", "of read roof", "of int8 roof"):
        table.add_column(column, justify="right" if column else "left")
    for row in report["speeds"]:
        shares = (_percent(row["of_read_roof"]), _percent(row["of_int8_roof"]))
        table.add_row(row["name"], f"{row['tokens/s']:.1f}", f"{row['spread']:.1f}", *shares)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for line in _heading(report):
        console.print(line)
    console.print(table)
    for what, figures in zeros_lines(report["zeros"]):
        console.print(f"{what}: {figures}")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _heading(report: dict[str, Any]) -> list[str]:
    model, load = report["model"], report["load"]
    read, int8, loop = report["read_roof"], report["int8_roof"], report["loop"]
    return [
        f"{model['file']}: RWKV-{model['version']} {model['weight_type']}, "
        f"{model['bytes_read_per_token'] / 1e6:.1f} MB read per token",
        f"{report['cpu']}, {report['threads']} threads, "
        f"rwkvcpp {report['rwkvcpp']} ({report['instruction_set']})",
        f"roofs: read {read['GB/s']:.1f} ± {read['spread']:.1f} GB/s, "
        f"int8 {int8['Gop/s']:.0f} ± {int8['spread']:.0f} Gop/s",
        f"load from the page cache: {load['seconds']:.2f} s, {load['GB/s']:.2f} GB/s",
        f"Python, sampling and text: {100 * loop['share']:.1f} ± {100 * loop['spread']:.1f} % "
        f"of a generated token",
    ]

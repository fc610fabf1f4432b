"""The options that say which text a model reads, and in which windows; the reading itself."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rwkvcpp
from rwkvcpp.perplexity import Progress
from rwkvcpp.predictions import Plan


def add_text_options(parser: argparse.ArgumentParser, *, window: int) -> argparse._ArgumentGroup:
    """-f and how much of it is read how; `window` is the default, 0 for none."""
    group = parser.add_argument_group("text")
    group.add_argument(
        "-f",
        "--file",
        type=Path,
        required=True,
        metavar="FILE",
        help="the text, taken byte by byte as it is; - is standard input",
    )
    group.add_argument(
        "--window",
        type=int,
        default=window,
        metavar="N",
        help="begin anew every N tokens; 0: one state reads all (%(default)s)",
    )
    group.add_argument(
        "--begin-of-text",
        action="store_true",
        help="begin with token 0, which parts texts in training, and score the first token too",
    )
    group.add_argument("--limit", type=int, metavar="N", help="tokens to score at most (all)")
    return group


def read_text(path: Path) -> bytes:
    """The bytes of a file, or of standard input for "-"; ValueError when there are none."""
    text = sys.stdin.buffer.read() if path == Path("-") else path.read_bytes()
    if not text:
        raise ValueError(f"{path}: no text in it, expected some for the model to read")
    return text


def make_plan(args: argparse.Namespace, tokenizer: rwkvcpp.Tokenizer | None = None) -> Plan:
    """As the options say; without a tokenizer only to see whether they make sense."""
    begin = None
    if args.begin_of_text and tokenizer is not None:
        begin = tokenizer.end_of_text
        if begin is None:
            raise ValueError("--begin-of-text: this vocabulary has no token that parts texts")
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit is {args.limit}, expected at least 1")
    return Plan(args.window or None, getattr(args, "stride", None), begin)


def encode(
    path: Path, text: bytes, tokenizer: rwkvcpp.Tokenizer, plan: Plan, limit: int | None
) -> Sequence[int]:
    """The tokens of a text; ValueError when they are too few for one to be scored."""
    tokens: Sequence[int] = tokenizer.encode(text)
    if plan.n_predicted(len(tokens)) == 0:
        raise ValueError(
            f"{path}: the text is one token, expected two or more: the first is scored only behind "
            "another, which --begin-of-text feeds"
        )
    return tokens if limit is None else plan.first(tokens, limit)


@contextmanager
def scoring_progress(total: int, *, quiet: bool) -> Iterator[Progress | None]:
    """For score(): a bar on a terminal, with tokens a second and the perplexity so far."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.description}"))  # fmt: skip
    begun = time.perf_counter()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)

        def progress(n_scored: int, perplexity: float) -> None:
            speed = n_scored / (time.perf_counter() - begun)
            found = f"{speed:.0f} tokens/s, perplexity {perplexity:.2f}"
            bar.update(task, completed=n_scored, description=found)

        yield progress

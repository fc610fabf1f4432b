"""The zeros that a model meets in channel mixing while it reads a text."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import rwkvcpp
from rwkvcpp.cli.zeros_report import zeros_report
from rwkvcpp.roofs import read_roof

MOST_TOKENS = 2000  # shares have settled long before
LARGEST_READ = 2**32  # bytes
ROOF_EVERY = 100  # tokens: the roof is measured between them


def zeros_in_text(model: rwkvcpp.Model, text: Path) -> dict[str, Any]:
    """`text` read token by token: zeros by layer, both roofs, and how fast it went."""
    tokens = model.tokenizer.encode(text.read_bytes())
    if not tokens:
        raise ValueError(f"{text}: no text in it, expected some for the model to read")
    state, n_bytes = model.initial_state(), min(model.token_bytes_read, LARGEST_READ)
    seconds, roofs = [], []
    for i, token in enumerate(_with_progress(tokens[:MOST_TOKENS])):
        if i % ROOF_EVERY == 0:
            roofs.append(read_roof(n_bytes, model.n_threads))
        begun = time.perf_counter()
        model.forward([token], state)
        seconds.append(time.perf_counter() - begun)
    read = f"{min(len(tokens), MOST_TOKENS)} of the {len(tokens)} tokens of {text.name}"
    return {"text": read, **zeros_report(model, median(roofs), 1 / median(seconds))}


def _with_progress(tokens: list[int]) -> Iterable[int]:
    """Drawn between tokens only, so that no thread that draws is timed with them."""
    if not sys.stderr.isatty():
        yield from tokens
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("reading", total=len(tokens))
        for token in tokens:
            yield token
            bar.update(task, advance=1, refresh=True)

"""What the commands have in common that make one file of another: convert and quantize."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path


def add_files(parser: argparse.ArgumentParser, *, target: str) -> None:
    """IN and OUT, before the arguments of the command's own."""
    parser.add_argument("source", type=Path, metavar="IN", help="a model file, or an HF folder")
    parser.add_argument("target", type=Path, metavar="OUT", help=target)


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """The options, behind those of the command's own."""
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="vocabulary to embed: rwkv_vocab_v20230424.txt or 20B_tokenizer.json (its own)",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="nothing on standard error but errors"
    )


def draws_bars(args: argparse.Namespace) -> bool:
    return sys.stderr.isatty() and not args.quiet


def tell(args: argparse.Namespace, path: Path, n_bytes: int, notes: Iterable[str]) -> None:
    """What was written, and what the user may want to know of it."""
    if args.quiet:
        return
    for note in notes:
        print(f"rwkvcpp: {note}", file=sys.stderr)
    print(f"{path}: {n_bytes:,} bytes", file=sys.stderr)

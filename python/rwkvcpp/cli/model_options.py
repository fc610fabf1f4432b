"""The options that say which model to load and how, and the loading itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import rwkvcpp
from rwkvcpp.cli.progress import byte_progress
from rwkvcpp.cli.warning_lines import warning_lines
from rwkvcpp.server.setting_kinds import file_and_alpha


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """-m and everything that Model() takes."""
    options = parser.add_argument_group("model")
    options.add_argument(
        "-m",
        "--model",
        type=Path,
        metavar="FILE",
        help="a model file or folder (without it: the small bundled storyteller)",
    )
    add_type_option(options)
    add_strategy_option(options)
    add_lora_option(options)
    options.add_argument(
        "--threads", type=int, metavar="N", help="threads to compute on (physical cores)"
    )
    options.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="vocabulary: rwkv_vocab_v20230424.txt or 20B_tokenizer.json (the model's own)",
    )
    options.add_argument(
        "--group-norm-eps",
        type=float,
        default=rwkvcpp.GROUP_NORM_EPS,
        metavar="X",
        help="epsilon of the group norm in time mixing; some small models need 1e-5 (%(default)s)",
    )
    options.add_argument(
        "--activations",
        choices=("int8", "float32"),
        default="int8",
        help="what quantized weights are multiplied with; float32 is slower (%(default)s)",
    )
    options.add_argument(
        "--mmap", action="store_true", help="leave the weights in the file: starts at once, slower"
    )
    options.add_argument(
        "-q", "--quiet", action="store_true", help="nothing on standard error but errors"
    )


def add_type_option(options: argparse._ActionsContainer) -> None:
    """--type, of everything that loads a model."""
    options.add_argument(
        "--type", metavar="TYPE", help="quantize a float file while it loads: q8_0, q5_1, q4_0 ..."
    )


def add_strategy_option(options: argparse._ActionsContainer) -> None:
    """--strategy, of everything that loads a model."""
    options.add_argument(
        "--strategy",
        metavar="TEXT",
        help="the same in other programs' words, such as 'cuda fp16i8 *10 -> cuda fp16'",
    )


def add_lora_option(options: argparse._ActionsContainer) -> None:
    """--lora, of everything that loads or converts a model."""
    options.add_argument(
        "--lora",
        type=file_and_alpha,
        action="append",
        default=[],
        metavar="FILE:ALPHA",
        help="merge a LoRA; may be given several times",
    )


def load_model(args: argparse.Namespace, *, collect: bool = False) -> rwkvcpp.Model:
    """The model that the options name, with a progress bar when it takes long.

    collect: for importances, which no option asks for.
    """
    announce_bundled_model(args.model, quiet=args.quiet)
    with byte_progress("loading", shown=sys.stderr.isatty() and not args.quiet) as progress:
        return make_model(args, collect=collect, progress=progress)


def make_model(
    args: argparse.Namespace,
    *,
    collect: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> rwkvcpp.Model:
    """The model that the options name."""
    with warning_lines(rwkvcpp.StrategyWarning, shown=not args.quiet):
        return rwkvcpp.Model(
            args.model,
            type=args.type,
            strategy=args.strategy,
            lora=args.lora,
            threads=args.threads,
            tokenizer=args.tokenizer,
            activations=args.activations,
            mmap=args.mmap,
            group_norm_eps=args.group_norm_eps,
            collect=collect,
            progress=progress,
        )


def announce_bundled_model(path: Path | None, *, quiet: bool = False, option: str = "-m ") -> None:
    """Say on standard error that the bundled model is used, and how to name a real one."""
    if path is None and not quiet:
        name = rwkvcpp.bundled_model().name
        print(
            f"rwkvcpp: no model named, so this is {name}, a small storyteller; "
            f"name a real one with {option}MODEL.gguf",
            file=sys.stderr,
        )

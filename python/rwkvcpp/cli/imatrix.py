"""Collect how large the inputs of each matrix are over a text, for quantizing with.

The text is read in windows of 512 tokens, with float32 activations. Take one of the kind that the
model is for, some 50,000 tokens of it, and none that the quantized model will be measured on. The
file is llama.cpp's: llama-quantize takes it too, and passes over what is only for ours: in which
directions inputs go together, so that rounding errors can cancel.

examples:
  rwkvcpp imatrix -m model-f16.gguf -f text.txt -o model.imatrix.gguf
  rwkvcpp imatrix -m model-f16.gguf -f text.txt -o model.imatrix.gguf --limit 50000
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rwkvcpp.cli.model_options import add_model_options, load_model
from rwkvcpp.cli.text_options import (
    add_text_options,
    encode,
    make_plan,
    read_text,
    scoring_progress,
)
from rwkvcpp.imatrix import CHUNK, collect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.set_defaults(activations="float32")
    add_text_options(parser, window=CHUNK)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="the file to write, usually .gguf",
    )


def run(args: argparse.Namespace) -> int:
    from rwkvcpp.imatrix_file import write_imatrix  # gguf takes its time to load

    make_plan(args)  # what is wrong is better known before the model is loaded
    text = read_text(args.file)
    model = load_model(args, collect=True)
    plan = make_plan(args, model.tokenizer)
    tokens = encode(args.file, text, model.tokenizer, plan, args.limit)
    begun = time.perf_counter()
    with scoring_progress(plan.n_predicted(len(tokens)), quiet=args.quiet) as progress:
        imatrix, scores = collect(model, tokens, plan, dataset=args.file.name, progress=progress)
    write_imatrix(args.output, imatrix)
    speed = len(scores.losses) / (time.perf_counter() - begun)
    print(
        f"{args.output}: {len(imatrix.tensors)} tensors from {len(scores.losses)} tokens of "
        f"{args.file.name}, perplexity {scores.figures()['perplexity']:.3f}, {speed:.1f} tokens/s"
    )
    return 0

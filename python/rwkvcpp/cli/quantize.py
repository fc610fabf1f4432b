"""Write a model as a quantized GGUF file, as llama-quantize would.

Every matrix gets the type and the rounding that llama-quantize gives it; vectors stay floats.

examples:
  rwkvcpp quantize rwkv7-0.4b-f16.gguf rwkv7-0.4b-q4_k_m.gguf q4_k_m
  rwkvcpp quantize RWKV-x070-World-0.4B.pth rwkv7-0.4b-q5_1.gguf q5_1
  rwkvcpp quantize rwkv7-0.4b-f16.gguf rwkv7-0.4b-iq4_xs.gguf iq4_xs --imatrix model.imatrix.gguf
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rwkvcpp.cli.progress import byte_progress
from rwkvcpp.file_types import file_type_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN", help="a model file, or an HF folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="the GGUF file to write")
    parser.add_argument(
        "type", type=str.lower, choices=file_type_names(), metavar="TYPE", help="q4_k_m, q5_1 ..."
    )
    parser.add_argument(
        "--imatrix",
        type=Path,
        metavar="FILE",
        help="importances to weigh errors with: of rwkvcpp imatrix, or llama.cpp's",
    )
    parser.add_argument(
        "--requantize",
        action="store_true",
        help="take a quantized IN; what it has lost stays lost",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads to compute on (physical cores)"
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="vocabulary to embed: rwkv_vocab_v20230424.txt or 20B_tokenizer.json (its own)",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="nothing on standard error but errors"
    )


def run(args: argparse.Namespace) -> int:
    from rwkvcpp.quantization import quantize  # brings the gguf package

    shown = sys.stderr.isatty() and not args.quiet
    with byte_progress("quantizing", shown=shown) as progress:
        done = quantize(
            args.source,
            args.target,
            args.type,
            imatrix=args.imatrix,
            requantize=args.requantize,
            tokenizer=args.tokenizer,
            threads=args.threads,
            progress=progress,
        )
    if not args.quiet:
        for note in done.notes:
            print(f"rwkvcpp: {note}", file=sys.stderr)
        print(f"{done.path}: {done.n_bytes:,} bytes", file=sys.stderr)
    return 0

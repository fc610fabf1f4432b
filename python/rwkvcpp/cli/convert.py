"""Write a model in another container: the suffix of OUT says which.

  .gguf          llama.cpp and rwkvcpp; with vocabulary and chat template
  .safetensors   the official names and shapes
  .st            web-rwkv and Ai00; always F16
  .bin           rwkv.cpp

Each tensor keeps its type unless --type names another, bfloat16 too; rwkv.cpp has no bfloat16 and
gets F16. Small tensors are F32 where the format's own converter makes them so. A quantized model
can only change its container.

examples:
  rwkvcpp convert RWKV-x070-World-0.4B.pth rwkv7-0.4b.gguf
  rwkvcpp convert RWKV-x070-World-0.4B.pth rwkv7-0.4b-q8_0.gguf --type q8_0
  rwkvcpp convert rwkv7-g1-hf/ rwkv7-g1.st
  rwkvcpp convert base.pth tuned.gguf --lora adapter.pth:32 --type q8_0
  rwkvcpp convert RWKV-4-Pile-169M.pth rwkv4.gguf --tokenizer 20B_tokenizer.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rwkvcpp.cli.model_options import lora_argument
from rwkvcpp.cli.progress import byte_progress

TYPES = ("f32", "f16", "bf16", "q8_0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN", help="a model file, or an HF folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="the file to write")
    parser.add_argument("--type", choices=TYPES, help="of the matrices (the type that each has)")
    parser.add_argument(
        "--lora",
        type=lora_argument,
        action="append",
        default=[],
        metavar="FILE:ALPHA",
        help="merge a LoRA; may be given several times",
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
    from rwkvcpp.convert import convert  # brings the gguf package, which no other command needs

    shown = sys.stderr.isatty() and not args.quiet
    with byte_progress("converting", shown=shown) as progress:
        done = convert(
            args.source,
            args.target,
            type=args.type,
            lora=args.lora,
            tokenizer=args.tokenizer,
            progress=progress,
        )
    if not args.quiet:
        for note in done.notes:
            print(f"rwkvcpp: {note}", file=sys.stderr)
        print(f"{done.path}: {done.n_bytes:,} bytes", file=sys.stderr)
    return 0

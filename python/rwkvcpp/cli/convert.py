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

from rwkvcpp.cli.file_options import add_file_options, add_files, draws_bars, tell
from rwkvcpp.cli.model_options import add_lora_option
from rwkvcpp.cli.progress import byte_progress

TYPES = ("f32", "f16", "bf16", "q8_0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_files(parser, target="the file to write")
    parser.add_argument("--type", choices=TYPES, help="of the matrices (the type that each has)")
    add_lora_option(parser)
    add_file_options(parser)


def run(args: argparse.Namespace) -> int:
    from rwkvcpp.convert import convert  # brings the gguf package, which no other command needs

    with byte_progress("converting", shown=draws_bars(args)) as progress:
        done = convert(
            args.source,
            args.target,
            type=args.type,
            lora=args.lora,
            tokenizer=args.tokenizer,
            progress=progress,
        )
    tell(args, done.path, done.n_bytes, done.notes)
    return 0

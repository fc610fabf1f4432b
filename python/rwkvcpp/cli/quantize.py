"""Write a model as a quantized GGUF file, in types that do the least damage.

The file has no more bytes than what llama-quantize makes of that name. Which type each matrix gets
is measured: how far the predictions move when only one part of the model is rounded, on a text that
the model writes itself, or that of --text. Vectors stay floats. --reference writes what
llama-quantize would, byte for byte.

examples:
  rwkvcpp quantize rwkv7-0.4b-f16.gguf rwkv7-0.4b-q4_k_m.gguf q4_k_m
  rwkvcpp quantize RWKV-x070-World-0.4B.pth rwkv7-0.4b-q5_1.gguf q5_1 --no-measure
  rwkvcpp quantize model-f16.gguf model-q4_k_m.gguf q4_k_m --tensor-type ffn.value=q6_k
  rwkvcpp quantize model-f16.gguf model-iq4_xs.gguf iq4_xs --reference --imatrix i.gguf
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rwkvcpp.cli.file_options import add_file_options, add_files, draws_bars, tell
from rwkvcpp.cli.model_options import add_lora_option
from rwkvcpp.cli.progress import byte_progress, part_progress
from rwkvcpp.file_types import file_type_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_files(parser, target="the GGUF file to write")
    parser.add_argument(
        "type", type=str.lower, choices=file_type_names(), metavar="TYPE", help="q4_k_m, q5_1 ..."
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--reference", action="store_true", help="what llama-quantize makes, byte for byte"
    )
    kind.add_argument(
        "--types", choices=("reference",), help="the types of llama-quantize, and our rounding"
    )
    kind.add_argument("--pure", action="store_true", help="one type for all matrices")
    parser.add_argument(
        "--tensor-type",
        action="append",
        default=[],
        metavar="CLASS=TYPE",
        help="of one class (ffn.value=q6_k), whatever the bytes; may be given several times",
    )
    parser.add_argument(
        "--no-measure",
        action="store_true",
        help="choose types by a fixed table, made for RWKV-7 of 1.5B",
    )
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="measure on this (what the model writes)"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="print bytes and error of each class, and with --text how predictions have moved",
    )
    parser.add_argument(
        "--imatrix",
        type=Path,
        metavar="FILE",
        help="importances to weigh errors with: of rwkvcpp imatrix, or llama.cpp's",
    )
    add_lora_option(parser)
    parser.add_argument(
        "--requantize",
        action="store_true",
        help="take a quantized IN; what it has lost stays lost",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads to compute on (physical cores)"
    )
    add_file_options(parser)


def run(args: argparse.Namespace) -> int:
    from rwkvcpp.quantization import quantize  # brings the gguf package

    shown = draws_bars(args)
    with (
        part_progress("measuring", shown=shown) as measuring,
        byte_progress("quantizing", shown=shown) as progress,
    ):
        done = quantize(
            args.source,
            args.target,
            args.type,
            reference=args.reference,
            reference_types=args.types == "reference",
            pure=args.pure,
            tensor_types=args.tensor_type,
            measure=not args.no_measure,
            text=None if args.text is None else args.text.read_bytes(),
            imatrix=args.imatrix,
            lora=args.lora,
            requantize=args.requantize,
            tokenizer=args.tokenizer,
            threads=args.threads,
            progress=progress,
            measuring=measuring,
        )
    tell(args, done.path, done.n_bytes, done.notes)
    if args.report:
        _print_report(args)
    return 0


def _print_report(args: argparse.Namespace) -> None:
    from rwkvcpp.quantization.report import report_classes, report_text

    for row in report_classes(args.source, args.target, args.lora):
        print(f"{row.name:15} {row.n_bytes:15,} bytes  {row.error:8.3%}  {' '.join(row.types)}")
    if args.text is None:
        return
    text = args.text.read_bytes()
    scores = report_text(args.source, args.target, text, lora=args.lora, threads=args.threads)
    figures = scores.figures()
    print(f"KL divergence        {figures['kl_mean']:.2e} nats per token")
    print(f"same likeliest token {figures['top1_agreement']:.2%}")
    print(f"perplexity           {figures['perplexity']:.3f}")
    print(f"  of the source      {figures['reference_perplexity']:.3f}")

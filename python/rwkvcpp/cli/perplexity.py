"""Measure how well a model predicts a text, and how much a quantized one has lost.

One state reads the whole text, so every token but the first is scored with all that came before it;
--window starts anew every so many tokens. Perplexity and bits per byte follow from the probability
of each token. With a reference, the Kullback-Leibler divergence of its predictions from the model's
is told too: either another model, read side by side, or its predictions, kept in a file (for each
token of the text 2 bytes for each token of the vocabulary).

examples:
  rwkvcpp perplexity -m model.gguf -f text.txt
  rwkvcpp perplexity -m model-q4_k.gguf -f text.txt --reference-model model-f16.gguf
  rwkvcpp perplexity -m model-f16.gguf -f text.txt --window 512 --save-kl-base text.kl
  rwkvcpp perplexity -m model-q4_k.gguf -f text.txt --window 512 --kl-base text.kl --json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rwkvcpp
from rwkvcpp.cli.model_options import add_model_options, load_model
from rwkvcpp.cli.text_options import (
    add_text_options,
    encode,
    make_plan,
    read_text,
    scoring_progress,
)
from rwkvcpp.kl_base import KlBase, Predicted, new_kl_base, text_id, vocabulary_id
from rwkvcpp.perplexity import score
from rwkvcpp.predictions import ModelPredictor, Plan, Predictor, Record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.set_defaults(activations="float32")
    text = add_text_options(parser, window=0)
    text.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="tokens from one window to the next, which scores only what is new (the window)",
    )
    _add_reference_options(parser.add_argument_group("reference"))
    parser.add_argument("--json", action="store_true", help="one flat JSON object, for programs")


def _add_reference_options(group: argparse._ArgumentGroup) -> None:
    reference = group.add_mutually_exclusive_group()
    reference.add_argument(
        "--reference-model",
        type=Path,
        metavar="FILE",
        help="compare with what this model predicts, with float32 activations",
    )
    reference.add_argument(
        "--save-kl-base", type=Path, metavar="FILE", help="keep this model's predictions in a file"
    )
    reference.add_argument(
        "--kl-base", type=Path, metavar="FILE", help="compare with the predictions in a file"
    )


def run(args: argparse.Namespace) -> int:
    make_plan(args)  # what is wrong is better known before the model is loaded
    limit, text = _limit(args), read_text(args.file)
    model = load_model(args)
    plan = make_plan(args, model.tokenizer)
    tokens = encode(args.file, text, model.tokenizer, plan, limit)
    begun = time.perf_counter()
    with (
        _reference(args, model, _predicted(model, text, tokens, plan)) as (reference, record),
        scoring_progress(plan.n_predicted(len(tokens)), quiet=args.quiet) as progress,
    ):
        scores = score(model, tokens, plan, reference=reference, record=record, progress=progress)
    report = _report(args, model, plan, scores.figures(), time.perf_counter() - begun)
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        _print_table(report)
    return 0


def _limit(args: argparse.Namespace) -> int | None:
    """Tokens to score: as many as the base holds when nobody says otherwise."""
    limit: int | None = args.limit
    if limit is None and args.kl_base is not None:
        with KlBase(args.kl_base) as base:
            limit = base.predicted.n_tokens
    return limit


# ---- the reference ---------------------------------------------------------------------------


def _predicted(model: rwkvcpp.Model, text: bytes, tokens: Sequence[int], plan: Plan) -> Predicted:
    return Predicted(
        n_tokens=plan.n_predicted(len(tokens)),
        n_vocab=model.n_vocab,
        window=plan.window,
        stride=plan.stride or plan.window,
        begin=plan.begin,
        text=text_id(text),
        vocabulary=vocabulary_id(model.tokenizer),
        model=model.path.name,
        activations=model.activations,
    )


@contextmanager
def _reference(
    args: argparse.Namespace, model: rwkvcpp.Model, predicted: Predicted
) -> Iterator[tuple[Predictor | None, Record | None]]:
    """What the model is compared with, and who is told what it predicts."""
    if args.kl_base is not None:
        with KlBase(args.kl_base) as base:
            base.check(predicted)
            yield base, None
    elif args.save_kl_base is not None:
        with new_kl_base(args.save_kl_base, predicted) as record:
            yield None, record
    elif args.reference_model is not None:
        yield ModelPredictor(_load_reference(args, model)), None
    else:
        yield None, None


def _load_reference(args: argparse.Namespace, model: rwkvcpp.Model) -> rwkvcpp.Model:
    return rwkvcpp.Model(
        args.reference_model,
        threads=args.threads,
        tokenizer=model.tokenizer,
        activations="float32",
        mmap=args.mmap,
        group_norm_eps=args.group_norm_eps,
    )


# ---- telling ---------------------------------------------------------------------------------


def _report(
    args: argparse.Namespace,
    model: rwkvcpp.Model,
    plan: Plan,
    figures: dict[str, float | None],
    seconds: float,
) -> dict[str, Any]:
    return {
        "model": model.path.name,
        "activations": model.activations,
        "text": args.file.name,
        "window": plan.window,
        "stride": plan.stride or plan.window,
        "begin_of_text": plan.begin is not None,
        **figures,
        "seconds": seconds,
        "tokens_per_second": (figures["tokens"] or 0) / seconds,
    }


def _print_table(report: dict[str, Any]) -> None:
    windows = ""
    if report["window"] is not None:
        windows = f", in windows of {report['window']}, {report['stride']} apart"
    rows = [
        (
            "text",
            f"{report['tokens']} tokens, {report['bytes']} bytes of {report['text']}{windows}",
        ),
        ("perplexity", _with_error(report, "perplexity", ".3f")),
        ("bits per byte", _with_error(report, "bits_per_byte", ".4f")),
    ]
    if "kl_mean" in report:
        rows += [
            ("perplexity of the reference", _with_error(report, "reference_perplexity", ".3f")),
            ("KL divergence", f"{_with_error(report, 'kl_mean', '.2e')} nats per token"),
            ("  of half the tokens, below", f"{report['kl_p50']:.2e}"),
            ("  of 99 %, below", f"{report['kl_p99']:.2e}"),
            ("same likeliest token", _with_error(report, "top1_agreement", ".2%")),
        ]
    rows.append(("speed", f"{report['tokens_per_second']:.1f} tokens/s"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")


def _with_error(report: dict[str, Any], name: str, form: str) -> str:
    error = report[f"{name}_error"]
    value = format(report[name], form)
    return value if error is None else f"{value} ± {error:{form}}"

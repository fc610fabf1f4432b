"""Show what a model file holds, and the memory that it will need; or what a saved state is.

With --text the model also reads a text, token by token, and tells what share of the inputs of each
layer's ffn.value were zero: what meets them need not be read. --type, --strategy and --lora tell of
the model as it would be loaded with them.

examples:
  rwkvcpp info model.gguf
  rwkvcpp info model.gguf --json
  rwkvcpp info model.gguf --text story.txt
  rwkvcpp info model.pth --type q5_1    the memory that it would need
  rwkvcpp info story.state              a saved state or session
  rwkvcpp info                          the bundled model
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import rwkvcpp
from rwkvcpp.cli.model_options import (
    add_lora_option,
    add_strategy_option,
    add_type_option,
    announce_bundled_model,
)
from rwkvcpp.cli.state_report import state_facts, state_lines
from rwkvcpp.cli.text_zeros import zeros_in_text
from rwkvcpp.cli.warning_lines import warning_lines
from rwkvcpp.cli.zeros_report import zeros_lines
from rwkvcpp.gguf_vocabulary import holds_vocabulary
from rwkvcpp.state_container import is_state_file

# The first pattern that a tensor's name matches says what the tensor is for.
TENSOR_CLASSES = (
    ("embedding", re.compile(r"^(emb|token_embd)\.")),
    ("head", re.compile(r"^(head|output)\.")),
    ("time mixing", re.compile(r"(\.att\.|\.time_mix_)")),
    ("channel mixing", re.compile(r"(\.ffn\.|\.channel_mix_)")),
    ("norms", re.compile(r"")),
)

DETAILS = ("tensors", "metadata", "tokenizer_file")  # of which only a summary is shown

PIPED_WIDTH = 1000  # a reader that is no terminal has no width to wrap at

# Without a vocabulary in the file, its size says which one the model was trained with.
TOKENIZERS_BY_SIZE = {
    256: "bytes",
    50277: "20B (name it: --tokenizer 20B_tokenizer.json)",
    65536: "World (of the pyrwkv-tokenizer package, or named with --tokenizer)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL", help="a model file")
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="count zeros while the model reads this text"
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="vocabulary for --text (the model's own)"
    )
    add_type_option(parser)
    add_strategy_option(parser)
    add_lora_option(parser)
    parser.add_argument("--json", action="store_true", help="one flat JSON object, for programs")


def run(args: argparse.Namespace) -> int:
    if args.model is not None and is_state_file(args.model):
        return _show_state(args)
    announce_bundled_model(args.model, option="rwkvcpp info ")
    wishes = {"type": args.type, "strategy": args.strategy, "lora": args.lora}
    with warning_lines(rwkvcpp.StrategyWarning):
        facts = describe(rwkvcpp.model_info(args.model, **wishes))
    if args.text is not None:
        with warning_lines(rwkvcpp.StrategyWarning, shown=False):  # for the second time
            model = rwkvcpp.Model(args.model, tokenizer=args.tokenizer, **wishes)
        facts["zeros"] = zeros_in_text(model, args.text)
    if args.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _print_table(_lines(facts))
    return 0


def describe(found: dict[str, Any]) -> dict[str, Any]:
    """The facts to show: flat, but for the list of weights by class and type."""
    facts = {name: value for name, value in found.items() if name not in DETAILS}
    facts["n_parameters"] = sum(_n_weights(tensor) for tensor in found["tensors"])
    facts["tokenizer"] = _tokenizer(found)
    facts["weights"] = _weights_by_class(found["tensors"])
    return facts


def _n_weights(tensor: dict[str, Any]) -> int:
    count = 1
    for size in tensor["shape"]:
        count *= size
    return count


def _tokenizer(found: dict[str, Any]) -> str:
    n_vocab = found["n_vocab"]
    if holds_vocabulary(found["metadata"].get):
        return f"in the file ({n_vocab} tokens)"
    if found["tokenizer_file"] is not None:
        return f"{Path(found['tokenizer_file']).name}, beside the weights"
    return TOKENIZERS_BY_SIZE.get(n_vocab, "unknown: name a vocabulary file with --tokenizer")


def _weights_by_class(tensors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for tensor in tensors:
        key = (_tensor_class(tensor["name"]), tensor["type"])
        row = sums.setdefault(key, {"class": key[0], "type": key[1], "tensors": 0, "bytes": 0})
        row["tensors"] += 1
        row["bytes"] += tensor["bytes"]
    order = [name for name, _ in TENSOR_CLASSES]
    return sorted(sums.values(), key=lambda row: (order.index(row["class"]), -row["bytes"]))


def _tensor_class(name: str) -> str:
    return next(label for label, pattern in TENSOR_CLASSES if pattern.search(name))


def _show_state(args: argparse.Namespace) -> int:
    facts = state_facts(args.model)
    if args.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _print_table(state_lines(facts))
    return 0


def _print_table(lines: list[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in lines:
        table.add_row(label, value)
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    Console(highlight=False, markup=False, width=width).print(table)


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    heads = f", {facts['n_head']} heads of {facts['head_size']}" if facts["head_size"] else ""
    weights, state = _size(facts["weight_bytes"]), _size(facts["state_bytes"])
    lines = [
        ("file", f"{facts['path']} ({facts['container']}, {_size(facts['file_bytes'])})"),
        ("version", f"RWKV-{facts['version']}"),
        ("sizes", f"{facts['n_layer']} layers, width {facts['n_embd']}, "
                  f"channel mixing {facts['n_ffn']}{heads}"),
        ("vocabulary", f"{facts['n_vocab']} tokens"),
        ("tokenizer", facts["tokenizer"]),
        ("parameters", f"{facts['n_parameters']:,}"),
    ]  # fmt: skip
    for row in facts["weights"]:
        what = f"{row['type']}, {row['tensors']} tensors, {_size(row['bytes'])}"
        lines.append((row["class"], what))
    lines.append(("memory", f"{weights} of weights, {state} of state for each session"))
    if "zeros" in facts:
        lines.append(("text", facts["zeros"]["text"]))
        lines += zeros_lines(facts["zeros"])
    return lines


def _size(n_bytes: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes} bytes"

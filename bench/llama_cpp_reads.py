"""Shows that llama.cpp reads what `rwkvcpp quantize` and `rwkvcpp convert` write, type by type.

    python -m bench.llama_cpp_reads --models rwkv7-f16.gguf rwkv6-f16.gguf --text story.txt
    python -m bench.llama_cpp_reads --models m.pth --types q4_0 --llama-python ~/llama/bin/python

Each model is written under every name of a file type, once in our types and once as llama-quantize
would. llama.cpp loads the file, and its logits are compared with ours in float32 after each token
of some windows. Beside them stands how far our own int8 activations are from that: both engines
round activations in their own way, and neither should be much farther than the other. A file that
is not loaded ends the run; one that is farther than `allowed` is marked, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import rwkvcpp
from bench.quality import Deviation, Windows, all_logits, cut, deviation, llama_cpp_logits
from bench.vs_llama_cpp import check_llama_cpp, without_folders
from rwkvcpp.convert import convert
from rwkvcpp.file_types import FILE_TYPES, FLOATS
from rwkvcpp.quantization import quantize
from rwkvcpp.roofs import cpu_name
from rwkvcpp.speed import some_tokens

# llama.cpp rounds activations to the type of floating-point weights: to 11 bits in F16, to 8 in
# BF16. A few layers make some ten roundings of it, as a share of the logits' rms.
FLOAT_TOLERANCES = {"f32": 1e-5, "f16": 2e-3, "bf16": 16e-3}
TIMES_OURS = (
    2.0  # what its int8 activations may do more than ours: of 256 inputs in K types, not 32
)


def allowed(type_name: str, ours: float) -> float:
    """How far llama.cpp may be from us with float32 activations, where int8 takes us to `ours`.

    All are shares of the logits' rms.
    """
    return FLOAT_TOLERANCES.get(type_name, TIMES_OURS * ours)


@dataclass(frozen=True)
class Row:
    """One file, read by both."""

    model: str
    type: str
    kind: str
    n_bytes: int
    ours: Deviation  # with int8 activations
    theirs: Deviation

    @property
    def agrees(self) -> bool:
        return self.theirs.rms <= allowed(self.type, self.ours.rms)


KINDS: dict[str, dict[str, Any]] = {
    "ours": {"measure": False},
    "reference": {"reference": True},
}


def written(source: Path, type_name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """(kind, file) of each way to write that type."""
    target = folder / "model.gguf"
    if type_name.upper() in FLOATS:
        yield "converted", convert(source, target, type=type_name).path
        return
    for kind, options in KINDS.items():
        yield kind, quantize(source, target, type_name, requantize=True, **options).path


# ---- measuring -------------------------------------------------------------------------------


def compare(path: Path, args: argparse.Namespace) -> tuple[Deviation, Deviation, str]:
    """How far our int8 activations and llama.cpp are from our float32, and what llama.cpp is."""
    floats = rwkvcpp.Model(path, activations="float32", threads=args.threads)
    windows = windows_of(floats, args)
    reference = all_logits(floats, windows)
    ours = all_logits(rwkvcpp.Model(path, threads=args.threads), windows)
    theirs, facts = llama_cpp_logits(path, windows, args)
    return deviation(reference, ours), deviation(reference, theirs), facts["engine"]


def windows_of(model: rwkvcpp.Model, args: argparse.Namespace) -> Windows:
    """Of the text, if there is one: trained models say odd things about tokens drawn at random."""
    if args.text is None:
        tokens = some_tokens(model.n_vocab, args.windows * args.length)
    else:
        tokens = model.tokenizer.encode(args.text.read_text(encoding="utf-8"))
    return cut(tokens, args.windows, args.length)


def rows(args: argparse.Namespace) -> Iterator[tuple[Row, str]]:
    """Every file, with the name of the engine that read it."""
    for source in args.models:
        for type_name in args.types:
            with tempfile.TemporaryDirectory() as folder:
                for kind, path in written(source, type_name, Path(folder)):
                    print(f"{source.name}: {type_name}, {kind}", file=sys.stderr)
                    ours, theirs, engine = compare(path, args)
                    size = path.stat().st_size
                    yield Row(source.name, type_name, kind, size, ours, theirs), engine


# ---- telling ---------------------------------------------------------------------------------

HEADER = """\
| model | type | written | bytes | rms, int8 of ours | rms, llama.cpp | its same top-1 | |
|---|---|---|---|---|---|---|---|"""


def markdown(found: list[Row], engine: str, args: argparse.Namespace) -> str:
    command = shlex.join(["python", "-m", "bench.llama_cpp_reads", *without_folders(sys.argv[1:])])
    ours = f"rwkvcpp {rwkvcpp.__version__} ({rwkvcpp.active_instruction_set()})"
    positions = args.windows * args.length
    return "\n".join(
        [
            f"{cpu_name()}, {date.today().isoformat()}, {positions} positions; {ours}; {engine}.",
            "",
            f"`{command}`",
            "",
            HEADER,
            *map(_line, found),
        ]
    )


def _line(row: Row) -> str:
    cells = (
        row.model,
        row.type,
        row.kind,
        f"{row.n_bytes:,}",
        f"{row.ours.rms:.1e}",
        f"{row.theirs.rms:.1e}",
        f"{100 * row.theirs.top_1:.1f} %",
        "agrees" if row.agrees else "**differs**",
    )
    return f"| {' | '.join(cells)} |"


# ---- the command -----------------------------------------------------------------------------


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--types", nargs="+", choices=FILE_TYPES, default=list(FILE_TYPES),
                        metavar="TYPE", help="file types (all)")  # fmt: skip
    parser.add_argument("--text", type=Path, help="of a kind that the models know (any tokens)")
    parser.add_argument("--windows", type=int, default=4, help="beginnings (%(default)s)")
    parser.add_argument("--length", type=int, default=128, help="tokens of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of both engines (%(default)s)")
    parser.add_argument("--llama-python", default=sys.executable, help="has llama_cpp (this one)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    check_llama_cpp(args.llama_python)
    found, engines = zip(*rows(args), strict=True)
    print(markdown(list(found), engines[0], args))
    return 0 if all(row.agrees for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())

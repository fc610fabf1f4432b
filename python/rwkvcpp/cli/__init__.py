"""The `rwkvcpp` command: a list of commands, and one place where errors become exit codes.

A command is a module with `add_arguments(parser)` and `run(args) -> exit code`. Its docstring is
its help: the first line for the list, the rest, examples included, for `rwkvcpp COMMAND --help`.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence
from inspect import cleandoc
from typing import NoReturn

from rwkvcpp import RwkvError, __version__, active_instruction_set, instruction_sets
from rwkvcpp.cli import (
    bench,
    chat,
    convert,
    doctor,
    generate,
    imatrix,
    info,
    perplexity,
    quantize,
    serve,
)
from rwkvcpp.cli.termination import unwinding

COMMANDS = (generate, chat, serve, info, convert, quantize, bench, perplexity, imatrix, doctor)

OK, FAILURE, REFUSED = 0, 1, 2
INTERRUPTED = 130  # 128 + SIGINT, as the shell counts
PIPE_CLOSED = 141  # 128 + SIGPIPE

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (MemoryError, FAILURE),
    (RwkvError, REFUSED),
    (OSError, REFUSED),
    (ValueError, REFUSED),
    (IndexError, REFUSED),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code. `--help` and wrong usage raise SystemExit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 still gets its story
    try:
        args = make_parser().parse_args(argv)
        with unwinding():
            code: int = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return PIPE_CLOSED
    except Exception as error:
        code = _report(error)
        _drop_output_that_cannot_leave()
        return code


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="rwkvcpp",
        description="RWKV language models on ordinary CPUs.",
        epilog="`rwkvcpp generate` alone tells a story; `rwkvcpp COMMAND --help` says the rest.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="the version; then leave")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        summary, _, details = cleandoc(module.__doc__ or "").partition("\n\n")
        command = commands.add_parser(
            module.__name__.rpartition(".")[2],
            help=summary,
            description=summary,
            epilog=details,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


class _Version(argparse.Action):
    """Asks for the instruction sets only when somebody wants to know."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        sets = " ".join(instruction_sets())
        print(f"rwkvcpp {__version__}, using {active_instruction_set()} (this CPU runs {sets})")
        parser.exit()


def _report(error: Exception) -> int:
    """One line for what we or the user can explain; a traceback for a bug of ours."""
    code = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), None)
    if code is None or os.environ.get("RWKVCPP_DEBUG") == "1":
        traceback.print_exception(error)
    if code is not None:
        print(f"rwkvcpp: error: {_sentence(error)}", file=sys.stderr)
    return FAILURE if code is None else code


def _sentence(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"out of memory ({error})" if str(error) else "out of memory"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _drop_output_that_cannot_leave() -> None:
    """A full disk keeps what was printed; Python would try again at exit, and exit with 120."""
    if sys.stdout is None:  # closed before we began
        return
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()


def _drop_output() -> None:
    """Nobody takes it (`rwkvcpp generate | head`): keep Python from complaining at exit."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 -- os.devnull is not a Path
        os.dup2(nowhere.fileno(), sys.stdout.fileno())

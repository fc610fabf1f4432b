"""Continue a prompt, and show the text as it comes.

The prompt comes from -p, from --file, or from standard input; a line end that closes a file or
standard input is not part of it. A saved session needs none. Speeds follow on standard error.

examples:
  rwkvcpp generate                                        the bundled model tells a story
  rwkvcpp generate -m model.gguf -p "The Eiffel tower is in" --max-tokens 50
  rwkvcpp generate -m model.gguf --file article.txt --stop '\\n\\n' --temperature 0
  rwkvcpp generate -m model.gguf -p "Once upon a time" --save-state story.state
  rwkvcpp generate -m model.gguf --state story.state      the story goes on
  git diff | rwkvcpp generate -m model.gguf --tokenizer rwkv_vocab_v20230424.txt
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

import rwkvcpp
from rwkvcpp.cli.model_options import add_model_options, load_model
from rwkvcpp.cli.sampling_options import add_sampling_options, sampling_params
from rwkvcpp.cli.state_option import add_state_option, start_session

# What the bundled model tells when nobody asks for anything: a title, a blank line, a beginning.
STORY = b"The Fox and the Crow\n\nOnce upon a time there was"

PROMPT_SOURCES = "give one with -p TEXT, --file FILE or standard input"

ESCAPES = {r"\n": "\n", r"\t": "\t", r"\r": "\r", r"\\": "\\"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    text = parser.add_argument_group("text")
    source = text.add_mutually_exclusive_group()
    source.add_argument("-p", "--prompt", metavar="TEXT", help="what to continue; - reads it")
    source.add_argument(
        "--file", type=Path, metavar="FILE", help="read the prompt from FILE; - is standard input"
    )
    add_state_option(text)
    text.add_argument(
        "--save-state", type=Path, metavar="FILE", help="save the session in the end, for --state"
    )
    text.add_argument("--echo", action="store_true", help="print the prompt before what follows it")
    text.add_argument(
        "--max-tokens", type=int, default=256, metavar="N", help="tokens at most (%(default)s)"
    )
    text.add_argument(
        "--stop",
        action="append",
        default=[],
        type=_unescaped,
        metavar="TEXT",
        help=r"end before this text; may be repeated; \n, \t, \r and \\ are understood",
    )
    text.add_argument(
        "--begin-of-text",
        action=argparse.BooleanOptionalAction,
        help="feed token 0, which parts texts in training, before the prompt "
        "(yes for the bundled model, otherwise no)",
    )
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> int:
    """Stream the continuation; 130 when Ctrl-C ended it."""
    if args.max_tokens < 0:
        raise ValueError(f"--max-tokens must not be negative, got {args.max_tokens}")
    sampling = sampling_params(args)
    prompt = _prompt(args)
    if not prompt and args.model is not None and args.state is None:
        raise ValueError(f"there is no prompt: {PROMPT_SOURCES}")
    session = start_session(load_model(args), args.state)
    asked = sampling != rwkvcpp.SamplingParams()  # else a saved session goes on as it did
    echo = args.echo
    if not prompt and session.logits is None:
        prompt, echo = _first_words(args), True  # of a story that nobody began, that is news
    speeds = Speeds(session)
    interrupted = False
    try:
        session.feed(_beginning(session, args))
        if echo:
            _show(prompt.decode("utf-8", errors="replace"))
        session.feed(prompt)
        speeds.prefilled()
        for text in session.generate(
            max_tokens=args.max_tokens, sampling=sampling if asked else None, stop=args.stop
        ):
            _show(text)
    except KeyboardInterrupt:
        interrupted = True
    _show("\n")
    if args.save_state is not None:
        session.save(args.save_state)
    if not args.quiet:
        print(f"\n{speeds}", file=sys.stderr)
    return 130 if interrupted else 0


def _first_words(args: argparse.Namespace) -> bytes:
    if args.model is None:
        return STORY
    raise ValueError(
        f"{args.state}: has no prediction to go on from, and there is no prompt: {PROMPT_SOURCES}"
    )


class Speeds:
    """Counts a session's tokens and seconds, for the line that `generate` ends with."""

    def __init__(self, session: rwkvcpp.Session) -> None:
        self._session = session
        self._n_before = len(session.tokens)
        self._begun = time.perf_counter()
        self._prefill: tuple[int, float] | None = None  # tokens and seconds

    def prefilled(self) -> None:
        """The prompt has been fed; what follows is decoding."""
        self._prefill = (self._n_tokens(), time.perf_counter() - self._begun)

    def __str__(self) -> str:
        if self._prefill is None:
            return "prefill: interrupted"
        n_prompt, seconds = self._prefill
        n_decoded = self._n_tokens() - n_prompt
        decoding = time.perf_counter() - self._begun - seconds
        return f"prefill: {_speed(n_prompt, seconds)}; decode: {_speed(n_decoded, decoding)}"

    def _n_tokens(self) -> int:
        return len(self._session.tokens) - self._n_before


def _speed(n_tokens: int, seconds: float) -> str:
    per_second = n_tokens / seconds if seconds > 0 else 0.0
    return f"{n_tokens} tokens, {per_second:.1f} tokens/s"


def _prompt(args: argparse.Namespace) -> bytes:
    """The prompt's bytes; b"" when there is none."""
    if args.prompt is not None and args.prompt != "-":
        # surrogateescape: a shell's argument may be any bytes, and a prompt may be too
        return str(args.prompt).encode("utf-8", errors="surrogateescape")
    if args.file is not None and args.file != Path("-"):
        return _without_last_line_end(args.file.read_bytes())
    asked = args.prompt == "-" or args.file is not None
    if asked or _is_piped():
        return _without_last_line_end(sys.stdin.buffer.read())
    return b""


def _beginning(session: rwkvcpp.Session, args: argparse.Namespace) -> list[int]:
    """The token that parts texts in training, or nothing."""
    is_new = session.state.n_tokens == 0
    wanted = args.model is None and is_new if args.begin_of_text is None else args.begin_of_text
    if not wanted:
        return []
    token = session.model.tokenizer.end_of_text
    if token is None:
        raise ValueError("--begin-of-text: this vocabulary has no token that parts texts")
    return [token]


def _is_piped() -> bool:
    return sys.stdin is not None and not sys.stdin.isatty()


def _without_last_line_end(text: bytes) -> bytes:
    return text.removesuffix(b"\n").removesuffix(b"\r")


def _unescaped(text: str) -> str:
    return re.sub(r"\\[ntr\\]", lambda found: ESCAPES[found[0]], text)


def _show(text: str) -> None:
    print(text, end="", flush=True)

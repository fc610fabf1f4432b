"""Chat with a model, in a terminal or through a pipe.

The input line is there at once, and the model loads behind it. +help lists the commands; Ctrl-C
stops an answer, Ctrl-D leaves. Through a pipe, each line is a message or a command, and standard
output gets what the model says and nothing else. `rwkvcpp-chat` is the same.

examples:
  rwkvcpp chat                                              stories with the bundled model
  rwkvcpp chat -m rwkv7-g1-1.5b-q8_0.gguf --mmap
  rwkvcpp chat -m raven-7b-q5_1.bin --tokenizer 20B_tokenizer.json --prompt english-friends
  echo "Why is the sky blue?" | rwkvcpp chat -m rwkv7-g1-1.5b-q8_0.gguf > answer.txt
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rwkvcpp
from rwkvcpp.cli.model_options import add_model_options
from rwkvcpp.cli.sampling_options import add_sampling_options

if TYPE_CHECKING:
    from rwkvcpp.chat import Wishes

LANGUAGES = ("en", "zh")  # rwkvcpp.chat's, which other commands need not import
WRITTEN = {"en": "chat", "zh": "对话"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    options = parser.add_argument_group("chat")
    options.add_argument(
        "--template",
        metavar="NAME",
        help="how turns are written: world, g1, raven ... (the model's)",
    )
    options.add_argument(
        "--prompt", metavar="NAME|FILE", help="what was said before: +prompt lists the names"
    )
    options.add_argument("--system", default="", metavar="TEXT", help="what the system says first")
    options.add_argument("--state", type=Path, metavar="FILE", help="begin with a tuned state")
    options.add_argument("--load", metavar="NAME", help="go on with a saved conversation")
    options.add_argument(
        "--think", metavar="on|off|MODE", help="whether the model thinks before it answers"
    )
    options.add_argument("--max-tokens", type=int, metavar="N", help="tokens of an answer at most")
    options.add_argument(
        "--begin-of-text",
        action=argparse.BooleanOptionalAction,
        help="token 0, which parts texts in training, in front (as the template says)",
    )
    options.add_argument(
        "--sessions",
        type=Path,
        metavar="DIR",
        help="where +save puts conversations (your own folder)",
    )
    options.add_argument(
        "--language", choices=LANGUAGES, help="of this program's own sentences (your own)"
    )
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> int:
    """Chat until somebody leaves, or the input ends."""
    for stream in (sys.stdin, sys.stdout):
        if stream is None:
            raise ValueError("standard input or output is closed: there is nobody to chat with")
    if sys.stdin.isatty() and sys.stdout.isatty():
        from rwkvcpp.cli.chat_terminal import converse
    else:
        from rwkvcpp.cli.chat_pipe import converse
    return converse(args, _wishes(args))


def main() -> int:
    """`rwkvcpp-chat`; the exit code."""
    from rwkvcpp.cli import main as command_line

    return command_line(["chat", *sys.argv[1:]])


def _wishes(args: argparse.Namespace) -> Wishes:
    from rwkvcpp.chat import Settings, Wishes, find_prompt

    return Wishes(
        template=args.template,
        prompt=None if args.prompt is None else find_prompt(args.prompt),
        system=args.system,
        state=args.state,
        load=args.load,
        think=args.think,
        settings=Settings(_given(args), profile_name=args.profile),
        sessions=args.sessions,
        language=args.language or _users_language(),
    )


def _users_language() -> str:
    """The user's, if the terminal can write it."""
    from rwkvcpp.chat import users_language

    language = users_language()
    try:
        WRITTEN[language].encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return "en"
    return language


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What was set on the command line."""
    keys = [field.name for field in fields(rwkvcpp.SamplingParams)]
    keys += ["max_tokens", "begin_of_text"]
    given = {key: getattr(args, key) for key in keys}
    if given["logit_bias"] is not None:
        given["logit_bias"] = dict(given["logit_bias"])
    return {key: value for key, value in given.items() if value is not None}

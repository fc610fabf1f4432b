"""Chat through a pipe: lines in, what the model says out, everything else on standard error."""

from __future__ import annotations

import argparse
import io
import sys

from rwkvcpp.chat import Chat, Leave, Wishes
from rwkvcpp.cli.chat_screen import streams
from rwkvcpp.cli.model_options import load_model


def converse(args: argparse.Namespace, wishes: Wishes) -> int:
    """Answer every line of standard input."""
    if sys.stdin is None:
        raise ValueError("there is no standard input to read messages from")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    chat, screen = Chat(load_model(args), wishes), streams(quiet=args.quiet)
    for event in chat.greet():
        screen.show(event)
    for line in sys.stdin:
        for event in chat.answer(line.rstrip("\r\n")):
            if isinstance(event, Leave):
                return 0
            screen.show(event)
    return 0

"""Chat through a pipe: lines in, what the model says out, everything else on standard error."""

from __future__ import annotations

import argparse
import io
import sys
from typing import TextIO

from rwkvcpp.chat import Chat, Event, Leave, Note, Problem, Said, Silent, Speaking, Table, Wishes
from rwkvcpp.cli.model_options import load_model


def converse(args: argparse.Namespace, wishes: Wishes) -> int:
    """Answer every line of standard input."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    chat = Chat(load_model(args), wishes)
    streams = Streams(sys.stdout, None if args.quiet else sys.stderr)
    for event in chat.greet():
        streams.show(event)
    for line in sys.stdin:
        for event in chat.answer(line.rstrip("\r\n")):
            if isinstance(event, Leave):
                return 0
            streams.show(event)
    return 0


class Streams:
    """Shows what the model says on one stream, and everything else on the other."""

    def __init__(self, words: TextIO, notes: TextIO | None) -> None:
        self._words, self._notes = words, notes
        self._is_speaking = self._has_spoken = False

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Speaking():
                self._is_speaking, self._has_spoken = True, False
            case Said(text):
                text = text if self._has_spoken else text.lstrip()
                self._has_spoken = self._has_spoken or bool(text)
                print(text, end="", file=self._words, flush=True)
            case Silent():
                if self._is_speaking:
                    print(file=self._words, flush=True)
                self._is_speaking = False
            case Note(text) | Problem(text):
                self._note(text)
            case Table(rows):
                width = max(len(name) for name, _ in rows)
                for name, text in rows:
                    self._note(f"{name:{width}}  {text}")

    def _note(self, text: str) -> None:
        if self._notes is not None:
            print(text, file=self._notes, flush=True)

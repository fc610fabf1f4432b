"""Command: what it is called, what follows it, what it does; and what several of them say alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rwkvcpp.chat.conversation import Conversation
from rwkvcpp.chat.events import Event

if TYPE_CHECKING:
    from rwkvcpp.chat.chat import Chat

Options: TypeAlias = dict[str, float]  # typed with the line, for one answer
Function: TypeAlias = "Callable[[Chat, str, Options], Iterator[Event]]"

SHOWN = 40  # characters of a message in a sentence


@dataclass(frozen=True, kw_only=True)
class Command:
    """A row of the table."""

    name: str
    argument: str = ""  # as help shows it, in brackets when it may be left out; "" takes none
    help: tuple[str, str]
    run: Function
    writes: bool = False  # takes -temp=, -top_p= and \n, as messages do

    @property
    def is_needed(self) -> bool:
        """Whether it means nothing without its argument."""
        return bool(self.argument) and not self.argument.startswith("[")


def last_message(conversation: Conversation) -> str:
    """The last message, short enough for a sentence."""
    messages = [exchange.message for exchange in conversation.exchanges if exchange.message]
    text = " ".join(messages[-1].split()) if messages else ""
    return f"“{text[:SHOWN]}…”" if len(text) > SHOWN else f"“{text}”" if text else "…"


def size(n_bytes: int) -> str:
    """Bytes, for people."""
    return f"{n_bytes / 2**20:.1f} MiB"

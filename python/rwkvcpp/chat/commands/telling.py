"""Commands that tell something, and the one that leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rwkvcpp.chat.commands.adjusting import sampling_text
from rwkvcpp.chat.commands.command import Command, Options, size
from rwkvcpp.chat.events import Event, Leave, Table

if TYPE_CHECKING:
    from rwkvcpp.chat.chat import Chat


def report(chat: Chat, *_: object) -> Iterator[Event]:
    model, words, manner, cache = chat.model, chat.words, chat.manner(), chat.cache.stats()
    talk, pace = chat.conversation, chat.conversation.pace
    so_far = words(
        "stats so far",
        name=chat.name,
        n=len(talk.exchanges),
        tokens=len(talk.session.tokens),
        size=size(talk.session.state.nbytes),
    )
    speed = _speed(pace.n_read, pace.reading)
    held = size(cache.nbytes)
    rows = {
        "model": f"{model.path.name}, RWKV-{model.version}, {model.weight_type}, "
        f"{model.n_threads} threads",
        "conversation": so_far,
        "template": f"{chat.template.name}, {manner.mode}",
        "sampling": f"{sampling_text(manner.sampling)}, seed {talk.seed}",
        "reading": words("stats known", speed=speed, n=pace.n_known),
        "writing": _speed(pace.n_written, pace.writing),
        "cache": words("stats snapshots", n=cache.entries, size=held, saved=cache.tokens_saved),
    }
    yield Table(tuple((words(f"stats {name}"), row) for name, row in rows.items()))


def _speed(n_tokens: int, seconds: float) -> str:
    per_second = n_tokens / seconds if seconds > 0 else 0.0
    return f"{n_tokens} tokens, {per_second:.1f} tokens/s"


def list_commands(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    from rwkvcpp.chat.commands import COMMANDS  # late: this function is in a row of it

    if not name:
        yield Table(tuple(_row(chat, command) for command in COMMANDS.values()))
        return
    name = name.lower() if name.startswith("+") else "+" + name.lower()
    if name in COMMANDS:
        yield Table((_row(chat, COMMANDS[name]),))
    else:
        yield chat.unknown(name)


def _row(chat: Chat, command: Command) -> tuple[str, str]:
    return f"{command.name} {command.argument}".rstrip(), chat.words.of(command.help)


def leave(*_: object) -> Iterator[Event]:
    yield Leave()

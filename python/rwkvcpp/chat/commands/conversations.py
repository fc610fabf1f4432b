"""Commands about conversations: begin anew, go back, branch, save."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rwkvcpp.chat.commands.command import Options, last_message, size
from rwkvcpp.chat.conversation import Conversation
from rwkvcpp.chat.events import Event, Note, Problem, Table
from rwkvcpp.chat.prompts import find_prompt, packaged_prompts
from rwkvcpp.chat.shelf import checked_name

if TYPE_CHECKING:
    from rwkvcpp.chat.chat import Chat


def reset(chat: Chat, *_: object) -> Iterator[Event]:
    yield from chat.begin(chat.conversation.opening)
    yield Note(chat.words("reset"))


def prompt(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if not name:
        prompts = map(find_prompt, packaged_prompts())
        yield Table(tuple((prompt.name, prompt.about) for prompt in prompts))
        return
    prompt = find_prompt(name)
    yield from chat.begin(replace(chat.conversation.opening, prompt=prompt))
    yield Note(chat.words("prompt", name=prompt.name, user=prompt.user, bot=prompt.bot))


def begin_with_state(chat: Chat, path: str, _: Options) -> Iterator[Event]:
    state = Path(path).expanduser() if path else None
    yield from chat.begin(replace(chat.conversation.opening, state=state))
    yield Note(chat.words("state" if path else "no state", name=path))


def begin_with_system(chat: Chat, text: str, _: Options) -> Iterator[Event]:
    if not chat.has_roles:
        yield Problem(chat.words("no roles", command="+system"))
        return
    yield from chat.begin(replace(chat.conversation.opening, system=text))
    yield Note(chat.words("system" if text else "no system"))


def undo(chat: Chat, text: str, _: Options) -> Iterator[Event]:
    n = int(text or 1) if text.isdecimal() or not text else 0
    total = len(chat.conversation.exchanges)
    if not 0 < n <= total:
        yield Problem(chat.words("too few" if total else "nothing to undo", n=total))
        return
    chat.conversation.undo(n)
    if n == total:
        yield Note(chat.words("undone all", n=n))
    else:
        yield Note(chat.words("undone", n=n, total=total, last=last_message(chat.conversation)))


def fork(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if checked_name(name) in chat.conversations:
        yield Problem(chat.words("name taken", name=name))
        return
    chat.conversations[name] = chat.conversation.fork()
    yield Note(chat.words("forked", name=name))


def switch(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if not name:
        rows = [(("* " if name == chat.name else "  ") + name, last_message(conversation))
                for name, conversation in chat.conversations.items()]  # fmt: skip
        yield Table(tuple(rows))
        return
    if name not in chat.conversations:
        names = ", ".join(chat.conversations)
        yield Problem(chat.words("no such conversation", name=name, names=names))
        return
    chat.name = name
    said = "switched" if chat.conversation.exchanges else "switched empty"
    yield Note(chat.words(said, name=name, last=last_message(chat.conversation)))


def save(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    path = chat.shelf.place(name)
    chat.conversation.save(path)
    n_bytes = path.stat().st_size
    yield Note(chat.words("saved", name=name, size=size(n_bytes), path=path))


def load(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if not name:
        names = chat.shelf.names()
        rows = tuple((name, str(chat.shelf.find(name))) for name in names)
        yield Table(rows) if rows else Note(chat.words("nothing saved", folder=chat.shelf.folder))
        return
    path = chat.shelf.find(name)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loaded = Conversation.load(path, chat.model, cache=chat.cache)
    yield from (Note(str(warning.message)) for warning in told)
    chat.conversations[name] = loaded
    chat.name = name
    tokens, last = len(loaded.session.tokens), last_message(loaded)
    yield Note(chat.words("loaded", name=name, tokens=tokens, last=last))

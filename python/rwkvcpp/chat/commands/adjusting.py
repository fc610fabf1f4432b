"""Commands that change how answers are written, and what goes with a message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rwkvcpp import SamplingParams
from rwkvcpp.chat.commands.command import Options, size
from rwkvcpp.chat.events import Event, Note, Problem, Table
from rwkvcpp.chat.settings import DEFAULT, KEYS
from rwkvcpp.profiles import PROFILES, profile

if TYPE_CHECKING:
    from rwkvcpp.chat.chat import Chat

MAX_FILE_BYTES = 2**24  # that +read takes


def think(chat: Chat, wanted: str, _: Options) -> Iterator[Event]:
    if wanted:
        chat.think(wanted)
    mode, modes = chat.manner().mode, ", ".join(chat.template.modes)
    yield Note(chat.words("thinks", mode=mode, modes=modes))


def change(chat: Chat, text: str, _: Options) -> Iterator[Event]:
    key, _gap, value = text.partition(" ")
    key = key.replace("-", "_")
    if not key:
        yield Table(tuple(_setting(chat, key) for key in KEYS))
    elif key in KEYS and not value.strip():
        yield Table((_setting(chat, key),))
    else:
        chat.settings.set(key, value.strip())
        yield from _after_setting(chat, key)


def _setting(chat: Chat, key: str) -> tuple[str, str]:
    return f"{key} {_as_text(chat.values()[key])}", chat.words.of(KEYS[key].help)


def _after_setting(chat: Chat, key: str) -> Iterator[Event]:
    """What else changes with a key, and the sentence about it."""
    if key == "begin_of_text":
        default = chat.conversation.opening.template.begin_of_text
        wanted = chat.settings.get(key, default)
        yield from chat.begin(replace(chat.conversation.opening, begin_of_text=wanted))
    elif key == "seed":
        chat.conversation.set_seed(chat.settings.get(key, None))
    elif key == "language":
        chat.speak(chat.settings.get(key, None))
    said = "set restart" if key == "begin_of_text" else "set"
    yield Note(chat.words(said, key=key, value=_as_text(chat.values()[key])))
    if key == "avoid_repeat" and (missing := chat.missing_punctuation()):
        yield Note(chat.words("punctuation", missing=missing))


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value) or "off"


def choose_profile(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    if not name:
        rows = tuple((name, profile(name).description) for name in PROFILES)
        yield Table(rows)
        return
    if name != DEFAULT:
        profile(name)  # says what there is
    chat.settings.profile_name = None if name == DEFAULT else name
    values = sampling_text(chat.manner().sampling)
    yield Note(chat.words("profile", name=name, values=values))


def sampling_text(params: SamplingParams) -> str:
    """The numbers that profiles differ in."""
    names = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty",
             "penalty_decay", "order")  # fmt: skip
    return ", ".join(f"{name} {_as_text(getattr(params, name))}" for name in names)


def attach(chat: Chat, name: str, _: Options) -> Iterator[Event]:
    path = Path(name).expanduser()
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        yield Problem(chat.words("too large", path=path, limit=size(MAX_FILE_BYTES)))
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Problem(chat.words("no text", path=path, at=error.start, byte=data[error.start]))
        return
    chat.attached = text.strip()
    if chat.attached:
        yield Note(chat.words("read", path=path, n=len(chat.attached)))
    else:
        yield Problem(chat.words("empty file", path=path))

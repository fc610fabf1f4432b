"""Commands that the model answers: other answers, and drafts outside the conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rwkvcpp.chat.commands.command import Options
from rwkvcpp.chat.conversation import Manner
from rwkvcpp.chat.events import Event, Problem
from rwkvcpp.chat.turns import Form

if TYPE_CHECKING:
    from rwkvcpp.chat.chat import Chat

GEN_TOKENS = 256  # of a draft

INSTRUCTION = (
    "\nBelow is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "# Instruction:\n{}\n\n# Response:\n"
)
FORMS = {  # ChatRWKV's
    "gen": Form("\n{}"),
    "instruction": Form(INSTRUCTION, ("\n# Instruction:",)),
    "question": Form("\nQ: {}\nA:", ("\nQ:",)),
    "story": Form("{}"),
}


def another(chat: Chat, _: str, options: Options) -> Iterator[Event]:
    if not chat.conversation.exchanges:
        yield Problem(chat.words("no message"))
        return
    yield from chat.conversation.another(chat.manner(options))
    yield from chat.ending(chat.conversation)


def more(chat: Chat, _: str, options: Options) -> Iterator[Event]:
    exchanges = chat.conversation.exchanges
    if not exchanges or (chat.has_roles and exchanges[-1].ending in ("stop", "end")):
        yield Problem(chat.words("complete" if exchanges else "no message"))
        return
    yield from chat.conversation.reply("", chat.manner(options))
    yield from chat.ending(chat.conversation)


def go_on_with_text(chat: Chat, text: str, options: Options) -> Iterator[Event]:
    return _draft(chat, FORMS["gen" if chat.has_roles else "story"], text, options)


def follow(chat: Chat, text: str, options: Options) -> Iterator[Event]:
    return _draft(chat, FORMS["instruction"], text, options)


def answer(chat: Chat, text: str, options: Options) -> Iterator[Event]:
    return _draft(chat, FORMS["question"], text, options)


def answer_here(chat: Chat, text: str, options: Options) -> Iterator[Event]:
    asked = chat.new_conversation(chat.conversation.opening)
    return chat.write_draft(asked, text, _draft_manner(chat, options))


def go_on_with_draft(chat: Chat, _: str, options: Options) -> Iterator[Event]:
    if chat.draft is None:
        yield Problem(chat.words("no draft"))
    else:
        yield from chat.write_draft(chat.draft, "", _draft_manner(chat, options))


def another_draft(chat: Chat, _: str, options: Options) -> Iterator[Event]:
    if chat.draft is None:
        yield Problem(chat.words("no draft"))
        return
    yield from chat.draft.another(_draft_manner(chat, options))
    yield from chat.ending(chat.draft)


def _draft(chat: Chat, form: Form, text: str, options: Options) -> Iterator[Event]:
    return chat.write_draft(chat.new_draft(form), text, _draft_manner(chat, options))


def _draft_manner(chat: Chat, options: Options) -> Manner:
    return chat.manner(options, max_tokens=chat.settings.get("gen_tokens", GEN_TOKENS))

"""A conversation in a session's file: what the session's metadata says of it, under "chat".

Anybody may have written the file, so each field is checked when it is taken.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rwkvcpp import Model, PrefixCache, StateError
from rwkvcpp.chat.conversation import Conversation, Exchange, Opening
from rwkvcpp.chat.prompts import PromptFile
from rwkvcpp.chat.turns import Turn
from rwkvcpp.header_fields import Fields
from rwkvcpp.templates import TEMPLATES, Template, choose_template

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 1


def metadata_of(conversation: Conversation) -> dict[str, Any]:
    """What a file says of a conversation beside its session."""
    opening = conversation.opening
    return {
        "version": VERSION,
        "template": opening.template.name,
        "begin_of_text": opening.begin_of_text,
        "system": opening.system,
        "prompt": None if opening.prompt is None else asdict(opening.prompt),
        "state": None if opening.state is None else str(opening.state.absolute()),
        "seed": conversation.seed,
        "n_answers": conversation.n_answers,
        "exchanges": [asdict(exchange) for exchange in conversation.exchanges],
    }


def read_conversation(path: Path, model: Model, cache: PrefixCache | None) -> Conversation:
    """The conversation in a file; StateError says what is wrong with it."""
    session = model.load_session(path)
    metadata = Fields(str(path), session.metadata)
    if "chat" not in metadata:
        raise StateError(
            f"{path}: is a session, and none of a chat: its metadata has no field chat"
        )
    said = metadata.object("chat")
    said.one_of("version", VERSION)
    opening = _opening(said, model)
    conversation = Conversation.at(
        session, opening, cache=cache, seed=said.integer("seed", high=2**63)
    )
    conversation.n_answers = said.integer("n_answers", high=2**63)
    n_tokens = len(session.tokens)
    modes = conversation.turns.template.modes
    conversation.exchanges = [
        _exchange(exchange, n_tokens, modes) for exchange in said.objects("exchanges")
    ]
    return conversation


def _opening(said: Fields, model: Model) -> Opening:
    state = said.raw("state")
    return Opening(
        template=_template(_text(said, "template"), model),
        begin_of_text=said.one_of("begin_of_text", True, False),
        system=_text(said, "system"),
        prompt=None if said.raw("prompt") is None else _prompt(said.object("prompt")),
        state=None if state is None else Path(_text(said, "state")),
    )


def _template(name: str, model: Model) -> Template:
    """The one that is called so, or the model's own, which is none of the built-in ones."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    return choose_template(None, metadata=model.metadata, path=model.path)


def _prompt(said: Fields) -> PromptFile:
    return PromptFile(**{field.name: _text(said, field.name) for field in fields(PromptFile)})


def _exchange(said: Fields, n_tokens: int, modes: Iterable[str]) -> Exchange:
    turn = said.object("turn")
    return Exchange(
        message=_text(said, "message"),
        mode=said.one_of("mode", None, *modes),
        turn=Turn(**{field.name: _text(turn, field.name) for field in fields(Turn)}),
        before=_text(said, "before"),
        n_before=said.integer("n_before", high=n_tokens),
        n_asked=said.integer("n_asked", high=n_tokens),
        reply=_text(said, "reply"),
        pending=_text(said, "pending"),
        ending=said.one_of("ending", None, "stop", "end", "length", "interrupted"),
    )


def _text(said: Fields, name: str) -> str:
    """Text of any length and any characters."""
    value = said.raw(name)
    if not isinstance(value, str):
        raise said.wrong(name, "text")
    return value

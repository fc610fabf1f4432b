"""How messages become the text of a conversation: by a template's roles, as parts of a story, or
put into a form. An empty message asks for more of the last reply."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from rwkvcpp.chat.events import Event, Said, Thought
from rwkvcpp.templates import TEMPLATES, Template

ONCE = "Once upon a time"
STORY_WORDS = 70  # after so many, a story rests at the end of a paragraph
TITLE_WORDS = 10


@dataclass(frozen=True)
class Past:
    """What a turn follows."""

    is_first: bool = True
    pending: str = ""  # what the session consumed and nobody saw
    reply: str = ""  # the last one


@dataclass(frozen=True)
class Turn:
    """What a message becomes."""

    text: str = ""  # what is fed
    shown: str = ""  # the end of it, where it is the beginning of the reply
    carried: str = ""  # what was consumed already and is the beginning of the reply


class Turns(ABC):
    """The turns of one template."""

    many_texts = False  # whether a text that has ended is followed by another one

    def __init__(self, template: Template) -> None:
        self.template = template

    @property
    def name(self) -> str:
        """Who answers."""
        return self.template.assistant

    @property
    def stops(self) -> tuple[str, ...]:
        """What a reply ends before."""
        return self.template.stops

    def turn(self, message: str, past: Past, mode: str | None) -> Turn:
        """What `message` becomes after that past."""
        if not message:
            return Turn(carried=past.pending)
        return self._first(message, mode) if past.is_first else self._next(message, past, mode)

    @abstractmethod
    def _first(self, message: str, mode: str | None) -> Turn: ...

    @abstractmethod
    def _next(self, message: str, past: Past, mode: str | None) -> Turn: ...

    def enough(self, text: str) -> bool:
        """Whether a reply may end at a stop."""
        return True

    def shown(self, pieces: Iterator[str], mode: str | None, before: str) -> Iterator[Event]:
        """The events of a reply that comes in pieces; it goes on after `before`."""
        return map(Said, pieces)


class RoleTurns(Turns):
    """A user and an assistant take turns."""

    def __init__(self, template: Template, system: str = "") -> None:
        """The turns of `template`; `system` is said before the first message, with it."""
        super().__init__(template)
        self._system = system

    def _first(self, message: str, mode: str | None) -> Turn:
        messages = [{"role": "user", "content": message}]
        if self._system:
            messages.insert(0, {"role": "system", "content": self._system})
        return Turn(self.template.render(messages, mode=mode))

    def _next(self, message: str, past: Past, mode: str | None) -> Turn:
        return Turn(self.template.next_turn(message, pending=past.pending, mode=mode))

    def shown(self, pieces: Iterator[str], mode: str | None, before: str) -> Iterator[Event]:
        stream = self.template.reply_stream(mode=mode)
        stream.push(before)
        for piece in pieces:
            for kind, text in stream.push(piece):
                yield Thought(text) if kind == "reasoning" else Said(text)
        for kind, text in stream.finish():
            yield Thought(text) if kind == "reasoning" else Said(text)


class StoryTurns(Turns):
    """You and the model write one text. A first message that looks like a title is one."""

    many_texts = True

    @property
    def stops(self) -> tuple[str, ...]:
        return ("\n\n",)

    def enough(self, text: str) -> bool:
        return len(text.split()) >= STORY_WORDS

    def _first(self, message: str, mode: str | None) -> Turn:
        return Turn(f"{message}\n\n{ONCE}", shown=ONCE) if is_title(message) else Turn(message)

    def _next(self, message: str, past: Past, mode: str | None) -> Turn:
        if past.pending.startswith("\n"):
            return Turn("\n\n"[len(past.pending) :] + message)
        return Turn(message if past.reply[-1:].isspace() else " " + message)


@dataclass(frozen=True)
class Form:
    """A text with {} where a message goes, and what ends the reply to it."""

    text: str = "{}"
    stops: tuple[str, ...] = ()


class FormTurns(Turns):
    """One message, put into a form; then more of what followed."""

    def __init__(self, form: Form) -> None:
        super().__init__(TEMPLATES["plain"])
        self._form = form

    @property
    def stops(self) -> tuple[str, ...]:
        return self._form.stops

    def _first(self, message: str, mode: str | None) -> Turn:
        return Turn(self._form.text.replace("{}", message))

    def _next(self, message: str, past: Past, mode: str | None) -> Turn:
        return Turn(message)


def is_title(message: str) -> bool:
    """Whether a message is the title of a story and not its first sentence."""
    is_short = len(message.split()) <= TITLE_WORDS and "\n" not in message
    return is_short and not re.search(r"[.,;:!?\"'”’]$", message)

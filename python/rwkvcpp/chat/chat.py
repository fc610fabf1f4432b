"""Chat: somebody at a model. It takes lines as they are typed, and gives events to show.

    line -> message or command -> Iterator[Event]

It keeps the conversations by name, one of them the current one, the last draft (`+gen` and the
like), and the settings. Whatever is wrong with a line is a Problem, and the chat goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rwkvcpp import Model, PrefixCache, RwkvError
from rwkvcpp.chat.commands import COMMANDS, nearest
from rwkvcpp.chat.commands.writing import GEN_TOKENS
from rwkvcpp.chat.conversation import Conversation, Manner, Opening
from rwkvcpp.chat.events import Event, Note, Problem, Silent, Speaking, Thought
from rwkvcpp.chat.habits import Habits, habits_of, missing_punctuation
from rwkvcpp.chat.line import Line, read_line, take_options, with_line_ends
from rwkvcpp.chat.prompts import PromptFile
from rwkvcpp.chat.settings import SWITCH, Settings
from rwkvcpp.chat.shelf import Shelf
from rwkvcpp.chat.texts import Words
from rwkvcpp.chat.turns import Form
from rwkvcpp.chat.writer import Interrupted
from rwkvcpp.templates import Template, choose_template

MAX_TOKENS = 500  # of an answer
THINKING_TOKENS = 2000
STORY_TOKENS = 300
MAIN = "main"  # the conversation that is there first

# What a line may meet that is no fault of the program's.
EXPLAINED = (RwkvError, OSError, ValueError, IndexError, MemoryError)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What somebody asked for before the chat began."""

    template: str | None = None  # by name; None: the model's own
    prompt: PromptFile | None = None
    system: str = ""
    state: Path | None = None
    load: str | None = None  # a saved conversation
    think: str | None = None  # on, off or a mode of the template
    settings: Settings = field(default_factory=Settings)
    language: str = "en"
    sessions: Path | None = None  # the folder; None is the user's own


class Chat:
    """Conversations with one model.

    >>> chat = Chat(rwkvcpp.Model())
    >>> for event in chat.answer("The Fox and the Crow"):
    ...     if isinstance(event, Said):
    ...         print(event.text, end="")
    """

    def __init__(self, model: Model, wishes: Wishes | None = None) -> None:
        """A chat that begins as wished; `open()` reads what the conversation begins with."""
        wishes = Wishes() if wishes is None else wishes
        self.model = model
        self._language = wishes.language
        self.words = Words(wishes.language)
        self.settings = wishes.settings
        self.shelf = Shelf(wishes.sessions)
        self.cache = PrefixCache()
        self.mode: str | None = None
        self._load = wishes.load
        self.draft: Conversation | None = None
        self.attached = ""  # what +read has read, for the next message
        self.family = habits_of(model)
        self._stopped = threading.Event()
        template = choose_template(wishes.template, metadata=model.metadata, path=model.path)
        opening = Opening(
            template=template,
            begin_of_text=self.settings.get("begin_of_text", template.begin_of_text),
            prompt=wishes.prompt,
            system=wishes.system,
            state=wishes.state,
        )
        self.name = MAIN
        self.conversations = {MAIN: self.new_conversation(opening)}
        if wishes.think is not None:
            self.think(wishes.think)
        self.manner()  # a profile or a setting that makes no sense is known now

    # What it is about

    @property
    def conversation(self) -> Conversation:
        """The current conversation."""
        return self.conversations[self.name]

    @property
    def template(self) -> Template:
        """The current conversation's template."""
        return self.conversation.turns.template

    @property
    def has_roles(self) -> bool:
        """Whether somebody answers, or a text goes on."""
        return bool(self.template.user)

    @property
    def habits(self) -> Habits:
        """The habits in force."""
        return self.settings.habits(self.family)

    @property
    def max_tokens(self) -> int:
        """Tokens of an answer at most."""
        thinks = self.mode_name.startswith("think")
        default = THINKING_TOKENS if thinks else MAX_TOKENS if self.has_roles else STORY_TOKENS
        return int(self.settings.get("max_tokens", default))

    @property
    def mode_name(self) -> str:
        """How answers begin: a mode of the template."""
        modes = self.template.modes
        return self.template.mode(self.mode if self.mode in modes else None).name

    def welcome(self) -> str:
        """What is said first."""
        name, version = self.model.path.name, self.model.version
        kind = "roles" if self.has_roles else "story"
        return self.words(kind, model=name, version=version, template=self.template.name)

    # What it does

    def open(self) -> Iterator[Event]:
        """Read what the conversation begins with; otherwise the first message does it."""
        with suppress(Interrupted):
            yield from self.conversation.open(self.manner())

    def greet(self) -> Iterator[Event]:
        """What is to be said and done before the first line."""
        if missing := self.missing_punctuation():
            yield Note(self.words("punctuation", missing=missing))
        if self._load is not None:
            yield from self.answer(f"+load {self._load}")

    def answer(self, typed: str) -> Generator[Event]:
        """What comes of a line: events, to be taken as they come."""
        self._stopped.clear()
        yield from self._guarded(self._answer(typed))

    def stop(self) -> None:
        """End the answer that is being given; for signal handlers and other threads."""
        self._stopped.set()

    def _answer(self, typed: str) -> Iterator[Event]:
        line = read_line(typed)
        if line.command is not None:
            yield from self._obey(line)
        elif line.text or self.attached or not self.has_roles:
            yield from self._reply(line)

    def _guarded(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events, and what goes wrong as one more."""
        is_speaking = False
        problem: Event
        try:
            for event in events:
                is_speaking = (is_speaking or isinstance(event, Speaking)) and event != Silent()
                yield event
            return
        except Interrupted:
            problem = Note(self.words("unread"))
        except EXPLAINED as error:
            problem = Problem(sentence(error))
        if is_speaking:
            yield Silent()
        yield problem

    def _obey(self, line: Line) -> Iterator[Event]:
        command = COMMANDS.get(line.command or "")
        if command is None:
            yield self.unknown(line.command or "")
            return
        argument, options = line.text, dict[str, float]()
        if command.writes:
            argument, options = take_options(argument)
            argument = with_line_ends(argument)
        if argument and not command.argument:
            yield Problem(self.words("takes nothing", command=command.name))
        elif command.is_needed and not argument:
            help = self.words.of(command.help)
            needed = command.argument
            yield Problem(self.words("needs", command=command.name, argument=needed, help=help))
        else:
            yield from command.run(self, argument, options)

    def _reply(self, line: Line) -> Iterator[Event]:
        message = "\n".join(part for part in (self.attached, line.text) if part)
        manner = self.manner(line.options)
        if not message and not self.conversation.exchanges:
            return  # an empty line, and nothing to go on with
        yield from self.conversation.reply(message, manner)
        self.attached = ""
        yield from self.ending(self.conversation)

    # For commands

    def unknown(self, name: str) -> Problem:
        """That there is no such command, and which may have been meant."""
        names = ", ".join(nearest(name))
        hint = self.words("nearest", names=names) if names else ""
        return Problem(self.words("unknown", command=name, nearest=hint))

    def manner(self, options: dict[str, float] | None = None, **changes: Any) -> Manner:
        """How answers are written now; options are for this one."""
        mode = self.template.mode(self.mode_name)
        sampling = self.settings.sampling(mode_profile=mode.profile, is_story=not self.has_roles)
        manner = Manner(
            sampling=replace(sampling, **dict[str, Any](options or {})),
            max_tokens=self.max_tokens,
            habits=self.habits,
            mode=mode.name,
            interrupted=self._stopped.is_set,
        )
        return replace(manner, **changes)

    def new_conversation(self, opening: Opening) -> Conversation:
        """A conversation that shares what this chat remembers of texts."""
        seed = self.settings.get("seed", None)
        return Conversation(self.model, opening, cache=self.cache, seed=seed)

    def begin(self, opening: Opening) -> Iterator[Event]:
        """Put a new conversation in the place of the current one, and read its beginning."""
        conversation = self.new_conversation(opening)
        yield from conversation.open(self.manner())
        self.conversations[self.name] = conversation

    def write_draft(self, draft: Conversation, text: str, manner: Manner) -> Iterator[Event]:
        """Write a text outside the conversation; +++ and ++ are about it from now on."""
        yield from draft.reply(text, manner)
        self.draft = draft
        yield from self.ending(draft)

    def new_draft(self, form: Form) -> Conversation:
        """A draft of one form, at its beginning."""
        opening = Opening(
            template=self.conversation.opening.template,
            begin_of_text=not self.has_roles and self.conversation.opening.begin_of_text,
            form=form,
        )
        return self.new_conversation(opening)

    def ending(self, conversation: Conversation) -> Iterator[Event]:
        """What there is to say about how an answer ended."""
        ending, is_draft = conversation.exchanges[-1].ending, conversation is self.draft
        if ending == "interrupted":
            yield Note(self.words("stopped"))
        elif ending == "length" and not is_draft:
            yield Note(self.words("cut", n=conversation.pace.n_written))
        elif ending == "end" and conversation.turns.many_texts and not is_draft:
            yield Note(self.words("ended"))
        elif ending == "end" and not conversation.turns.name:
            yield Note(self.words("end"))

    def values(self) -> dict[str, Any]:
        """Every setting's value in force."""
        manner = self.manner()
        return {
            **vars(manner.sampling),
            **vars(manner.habits),
            "seed": self.conversation.seed,
            "max_tokens": manner.max_tokens,
            "gen_tokens": self.settings.get("gen_tokens", GEN_TOKENS),
            "begin_of_text": self.conversation.opening.begin_of_text,
            "thoughts": self.settings.get("thoughts", True),
            "language": self.words.language,
        }

    def speak(self, language: str | None) -> None:
        """Say the program's sentences in another language; None is the one it began with."""
        self.words = Words(self._language if language is None else language)

    def think(self, wanted: str) -> None:
        """Change the mode of the answers that follow: on, off, or a mode of the template."""
        template, switch = self.template, SWITCH.get(wanted.lower())
        if not any("think" in mode for mode in template.modes):
            modes = ", ".join(template.modes)
            raise ValueError(self.words("no thoughts", template=template.name, modes=modes))
        is_mode = switch is None
        self.mode = (
            template.mode(wanted).name if is_mode else template.mode_for(enable_thinking=switch)
        )

    def missing_punctuation(self) -> str:
        """What avoid_repeat asks for and the vocabulary cannot give."""
        return missing_punctuation(self.habits, self.model.tokenizer)

    def shown(self, event: Event) -> bool:
        """Whether an event is for the eyes of whoever set the settings."""
        return not isinstance(event, Thought) or bool(self.settings.get("thoughts", True))


def sentence(error: BaseException) -> str:
    """What went wrong, in one sentence."""
    if isinstance(error, MemoryError):
        return f"out of memory ({error})" if str(error) else "out of memory"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())

"""Conversation: a session, the turns that it went through, and the way back to each of them.

The session's tokens are the truth. An exchange remembers how many there were before it and when
its reply began, so undoing one is going back to those tokens: the cache has a snapshot of most such
places, and what it has not is fed again, to the same bits.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rwkvcpp import Model, PrefixCache, Sampler, SamplingParams, Session, State
from rwkvcpp.chat.events import Event, Reading, Said, Silent, Speaking
from rwkvcpp.chat.habits import Habits, Shaper, prompt_tokens
from rwkvcpp.chat.prompts import PromptFile
from rwkvcpp.chat.turns import Form, FormTurns, Past, RoleTurns, StoryTurns, Turn, Turns
from rwkvcpp.chat.writer import Ending, Limits, Writer, never, read, stop_tokens_of
from rwkvcpp.templates import TEMPLATES, Template
from rwkvcpp.templates.turns import Turns as NamedTurns

PathArgument: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a conversation begins with."""

    template: Template
    begin_of_text: bool  # token 0 first
    prompt: PromptFile | None = None
    system: str = ""
    form: Form | None = None  # for one message, without roles
    state: Path | None = None  # the file of a tuned one

    @property
    def turns(self) -> Turns:
        """Who speaks how: the prompt's people, if there is one."""
        if self.form is not None:
            return FormTurns(self.form)
        if self.prompt is not None:
            base = self.template if self._has_blank_lines else TEMPLATES["world"]
            user, bot, mark = self.prompt.user, self.prompt.bot, self.prompt.interface
            return RoleTurns(base.with_names(user=user, assistant=bot, mark=mark))
        if not self.template.user:
            return StoryTurns(self.template)
        return RoleTurns(self.template, "" if self._is_ours else self.system)

    @property
    def _is_ours(self) -> bool:
        """Whether the template says how each turn is written, and not only all of them."""
        return isinstance(self.template, NamedTurns)

    @property
    def _has_blank_lines(self) -> bool:
        return self._is_ours and self.template.between == "\n\n" and bool(self.template.user)

    @property
    def text(self) -> str:
        """What stands before the first message."""
        parts, template = [], self.turns.template
        if self.system and isinstance(template, NamedTurns):
            message = {"role": "system", "content": self.system}
            turn = template.render([message], add_generation_prompt=False)
            parts.append(turn + template.between)
        if self.prompt is not None and self.prompt.prompt:
            parts.append(("" if parts else "\n") + self.prompt.prompt + "\n\n")
        return "".join(parts)

    def tokens(self, model: Model, habits: Habits) -> list[int]:
        """What is fed before the first message."""
        end = model.tokenizer.end_of_text
        begin = [end] if self.begin_of_text and end is not None else []
        return begin + prompt_tokens(self.text, model.tokenizer, habits)


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How replies are written."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int = 500
    habits: Habits = field(default_factory=Habits)
    mode: str | None = None  # of the template
    interrupted: Callable[[], bool] = never


@dataclass
class Exchange:
    """One message and the answer to it; without a message, more of the answer before."""

    message: str
    mode: str | None
    turn: Turn
    before: str  # what this answer goes on with
    n_before: int  # tokens that the session had consumed before the message
    n_asked: int = 0  # and when the reply began
    reply: str = ""  # what the model wrote, thoughts included
    pending: str = ""  # what it wrote after that, and nobody saw
    ending: Ending | None = None

    @property
    def whole(self) -> str:
        """The reply with what it goes on with."""
        return self.before + self.reply


@dataclass
class Pace:
    """How fast the last answer was."""

    n_read: int = 0
    n_known: int = 0  # of these, what cost nothing
    reading: float = 0.0  # seconds
    n_written: int = 0
    writing: float = 0.0


class Conversation:
    """One conversation with a model.

    >>> template = choose_template("world")
    >>> conversation = Conversation(model, Opening(template=template, begin_of_text=True))
    >>> for event in conversation.reply("Hi!", Manner()):
    ...     print(event)

    The generators leave all in order wherever they are dropped.
    """

    def __init__(
        self,
        model: Model,
        opening: Opening,
        *,
        cache: PrefixCache | None = None,
        seed: int | None = None,
    ) -> None:
        """A conversation at its beginning.

        cache: may be shared by conversations. seed: the same seed gives the same answers.
        """
        self.model = model
        self.opening = opening
        self.turns = opening.turns
        self.exchanges: list[Exchange] = []
        self.set_seed(seed)
        self.pace = Pace()
        self._cache = PrefixCache() if cache is None else cache
        self._tuned = None if opening.state is None else model.load_tuned_state(opening.state)
        self._session = model.session(self._tuned)
        self._is_open = False

    @property
    def session(self) -> Session:
        """The session: its tokens are all that was said."""
        return self._session

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation as messages, as templates take them."""
        messages: list[dict[str, Any]] = []
        for exchange in self.exchanges:
            if exchange.message or not messages:
                messages.append({"role": "user", "content": exchange.message})
            else:
                messages.pop()
            reply = self.turns.template.reply_message(exchange.whole, mode=exchange.mode)
            messages.append(reply)
        return messages

    # What it does. Interrupted while it reads, it is as it was before.

    def open(self, manner: Manner) -> Iterator[Event]:
        """Read what the conversation begins with; the first reply does so if nobody did."""
        if not self._is_open:
            yield from self._read(self.opening.tokens(self.model, manner.habits), manner)
            self._is_open = True

    def reply(self, message: str, manner: Manner) -> Iterator[Event]:
        """Answer a message; an empty one asks for more of the last answer."""
        yield from self.open(manner)
        exchange = self._new_exchange(message, manner.mode)
        tokens = self._parting() + self.model.tokenizer.encode(exchange.turn.text)
        yield from self._read(tokens, manner)
        exchange.n_asked = len(self._session.tokens)
        self.exchanges.append(exchange)
        yield from self._answer(exchange, manner)

    def another(self, manner: Manner) -> Iterator[Event]:
        """Another answer to the last message, in the place of the one it had."""
        exchange = self.exchanges[-1]
        if exchange.message and exchange.mode != manner.mode:  # its prompt ends in another way
            yield from self._ask_again(exchange, manner)
        else:
            self._go_back(exchange.n_asked)
            yield from self._answer(exchange, manner)

    def undo(self, n: int = 1) -> None:
        """Drop the last `n` exchanges."""
        if not 0 < n <= len(self.exchanges):
            raise ValueError(f"there are {len(self.exchanges)} exchanges, so not {n} to drop")
        self._go_back(self.exchanges[-n].n_before)
        del self.exchanges[-n:]

    def set_seed(self, seed: int | None) -> None:
        """Draw the answers that follow with this seed, or with any."""
        self.seed = secrets.randbits(32) if seed is None else seed
        self.n_answers = 0  # ever written: another answer is drawn with another seed

    def fork(self) -> Conversation:
        """The same conversation, to go another way."""
        session = self._session.fork()
        copy = Conversation.at(session, self.opening, cache=self._cache, seed=self.seed)
        copy.exchanges = [replace(exchange) for exchange in self.exchanges]
        copy.n_answers, copy._tuned = self.n_answers, self._tuned
        copy._is_open = self._is_open
        return copy

    # Files

    def save(self, path: PathArgument) -> None:
        """Write all of it to `path`: the whole file, or nothing at all.

        Loaded again, it gives the same answers as it would have given.
        """
        from rwkvcpp.chat.conversation_file import metadata_of

        self._session.metadata["chat"] = metadata_of(self)
        self._session.save(path)

    @classmethod
    def load(cls, path: PathArgument, model: Model, *, cache: PrefixCache | None) -> Conversation:
        """The conversation that `save` wrote; StateError for any other file, or other weights."""
        from rwkvcpp.chat.conversation_file import read_conversation

        return read_conversation(Path(path), model, cache)

    @classmethod
    def at(
        cls, session: Session, opening: Opening, *, cache: PrefixCache | None, seed: int
    ) -> Conversation:
        """A conversation that has come to where `session` is."""
        conversation = cls(session.model, replace(opening, state=None), cache=cache, seed=seed)
        conversation.opening = opening  # its tuned state is read when somebody goes back that far
        conversation._session, conversation._is_open = session, True
        return conversation

    # How

    def _ask_again(self, exchange: Exchange, manner: Manner) -> Iterator[Event]:
        before = self._session, list(self.exchanges)
        self.undo()
        try:
            yield from self.reply(exchange.message, manner)
        finally:
            if len(self.exchanges) < len(before[1]):  # it was not read
                self._session, self.exchanges = before

    @property
    def _has_ended(self) -> bool:
        """Whether the last text is complete, so that the next message begins another."""
        is_over = bool(self.exchanges) and self.exchanges[-1].ending == "end"
        return is_over and self.turns.many_texts

    def _new_exchange(self, message: str, mode: str | None) -> Exchange:
        last = self.exchanges[-1] if self.exchanges else None
        past = Past() if last is None else Past(self._has_ended, last.pending, last.reply)
        return Exchange(
            message,
            mode if message or last is None else last.mode,
            self.turns.turn(message, past, mode),
            before=last.whole if last is not None and not message else "",
            n_before=len(self._session.tokens),
        )

    def _parting(self) -> list[int]:
        """What parts a new text from one that has ended."""
        end = self.model.tokenizer.end_of_text
        return [end] if self._has_ended and end is not None else []

    def _read(self, tokens: list[int], manner: Manner) -> Iterator[Event]:
        if not tokens:
            return
        begun, self.pace = time.perf_counter(), Pace(n_read=len(tokens))
        steps = read(self._session, tokens, self._cache, manner.interrupted)
        with closing(steps):
            for n_read, self.pace.n_known in steps:
                yield Reading(n_read, len(tokens))
        self.pace.reading = time.perf_counter() - begun

    def _answer(self, exchange: Exchange, manner: Manner) -> Iterator[Event]:
        turn, begun = exchange.turn, time.perf_counter()
        tools, limits = self._tools(manner), self._limits(manner)
        writer = Writer(self._session, *tools, limits, carried=turn.carried)
        try:
            yield Speaking(self.turns.name)
            if turn.shown:
                yield Said(turn.shown)
            yield from self.turns.shown(writer.write(), exchange.mode, exchange.before)
        finally:
            exchange.reply, exchange.pending = writer.text, writer.pending
            exchange.ending = writer.ending
            self.pace.n_written, self.pace.writing = writer.n_tokens, time.perf_counter() - begun
            self._cache.store(self._session)
        yield Silent()

    def _tools(self, manner: Manner) -> tuple[Sampler, Shaper]:
        """What an answer is drawn with: each has a seed of its own, made of the one seed."""
        self.n_answers += 1
        words = np.random.SeedSequence([self.seed, self.n_answers]).generate_state(1, np.uint64)
        sampler = Sampler(replace(manner.sampling, seed=int(words[0])))
        return sampler, Shaper(manner.habits, self.model.tokenizer)

    def _limits(self, manner: Manner) -> Limits:
        return Limits(
            max_tokens=manner.max_tokens,
            stops=self.turns.stops,
            stop_tokens=stop_tokens_of(self.model, self.turns.template.stop_tokens),
            enough=self.turns.enough,
            interrupted=manner.interrupted,
        )

    def _go_back(self, n_tokens: int) -> None:
        """To where the session had consumed so many tokens."""
        tokens = self._session.tokens[:n_tokens]
        if len(tokens) < len(self._session.tokens):
            session = self.model.session(self._initial_state())
            if tokens:
                self._cache.prefill(session, tokens)
            self._session = session

    def _initial_state(self) -> State | None:
        if self._tuned is None and self.opening.state is not None:
            self._tuned = self.model.load_tuned_state(self.opening.state)
        return self._tuned

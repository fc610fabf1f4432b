"""CompletionChoice: one continuation while it comes, with the logprobs of its tokens."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rwkvcpp.engine import EndEvent, TokenEvent, TokenLogprob
from rwkvcpp.server.openai.answer_parts import finish_reason
from rwkvcpp.server.openai.completion_asked import Asked, Echo
from rwkvcpp.server.openai.token_names import TokenNames
from rwkvcpp.server.openai.token_trail import TokenTrail
from rwkvcpp.server.state_exchange import written


@dataclass
class Logprobs:
    """Those of some tokens, in the form that completions have."""

    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.tokens)

    def extend(self, others: Logprobs) -> None:
        """Those that follow."""
        self.tokens += others.tokens
        self.token_logprobs += others.token_logprobs
        self.top_logprobs += others.top_logprobs
        self.text_offset += others.text_offset

    @property
    def body(self) -> dict[str, Any]:
        """As JSON has them."""
        return vars(self)


@dataclass(frozen=True)
class Piece:
    """More of a continuation."""

    text: str
    logprobs: Logprobs


class CompletionChoice:
    """One of the continuations of a prompt."""

    def __init__(self, asked: Asked, echo: Echo, tokens: Sequence[int]) -> None:
        """tokens: the prompt's."""
        self._texts: list[str] = []
        self.logprobs = Logprobs()
        self.end: EndEvent | None = None
        self._asked, self._echo, self._tokens = asked, echo, tokens
        self._trail = TokenTrail()
        self._tokenizer = asked.serving.model.tokenizer
        self._names = TokenNames(self._tokenizer)
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0  # characters before the next token

    def prompt(self, logprobs: Iterable[TokenLogprob | None] | None) -> Piece:
        """What an echo begins with; logprobs: of all tokens, ours too."""
        found = Logprobs()
        if logprobs is not None:
            for token, logprob in [*zip(self._tokens, logprobs, strict=True)][
                self._echo.n_hidden :
            ]:
                self._add(found, token, logprob)
        self._offset = len(self._echo.text)
        self._characters.reset()
        return self._shown(self._echo.text, found)

    def push(self, event: TokenEvent | EndEvent) -> Piece:
        """What the event adds."""
        if isinstance(event, TokenEvent):
            self._trail.push(event)
        found = Logprobs()
        for token in self._trail.take(event.text) if event.text else ():
            if token.logprob is not None:
                self._add(found, token.token, token.logprob)
        if isinstance(event, EndEvent):
            self.end = event
            if event.stop_logprob is not None:
                self._add(found, event.stop_logprob.token, event.stop_logprob)
        return self._shown(event.text, found)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._texts)

    @property
    def finish_reason(self) -> str | None:
        """Why it ended; None before."""
        return None if self.end is None else finish_reason(self.end.finish_reason)

    @property
    def state(self) -> dict[str, Any] | None:
        """What is left of the model's state, if the client wants it."""
        if self.end is None or self.end.state is None:
            return None
        return written(self.end.state, self._asked.body, self._trail.unshown)

    def _add(self, found: Logprobs, token: int, logprob: TokenLogprob | None) -> None:
        found.tokens.append(self._names.name(token))
        found.token_logprobs.append(None if logprob is None else logprob.logprob)
        found.top_logprobs.append(None if logprob is None else self._names.top(logprob))
        found.text_offset.append(self._offset)
        self._offset += len(self._characters.decode(self._tokenizer.token_bytes(token)))

    def _shown(self, text: str, logprobs: Logprobs) -> Piece:
        self._texts.append(text)
        self.logprobs.extend(logprobs)
        return Piece(text, logprobs)

"""Reading and writing: tokens fed in pieces, and drawn until a text ends; both can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal

from rwkvcpp import PrefixCache, Sampler, Session, TextStream
from rwkvcpp.chat.habits import Shaper

if TYPE_CHECKING:
    from rwkvcpp import Model

Ending = Literal["stop", "end", "length", "interrupted"]  # end: at a stop token


class Interrupted(Exception):
    """Somebody did not want to wait until all was read."""


def never() -> bool:
    """For whoever cannot be interrupted."""
    return False


def always(_: str) -> bool:
    """For texts that end at the first stop."""
    return True


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where a text ends."""

    max_tokens: int
    stops: tuple[str, ...] = ()
    stop_tokens: frozenset[int] = frozenset()
    enough: Callable[[str], bool] = always  # of the text so far, at a stop; if not, it goes on
    interrupted: Callable[[], bool] = never


class Writer:
    """Writes one text with a session.

    The session has consumed `text` and then `pending`: all that was drawn, but for a stop token,
    which parts documents and has no place inside a conversation.
    """

    def __init__(
        self,
        session: Session,
        sampler: Sampler,
        shaper: Shaper,
        limits: Limits,
        *,
        carried: str = "",
    ) -> None:
        """A writer that goes on after what the session consumed last.

        carried: the end of that, which was not shown yet and is the beginning of `text`.
        """
        self._session, self._sampler, self._shaper = session, sampler, shaper
        self._limits = limits
        self._previous = session.tokens[-1]
        self._bytes = carried.encode()  # all that `text` and `pending` are made of
        self.text = ""
        self.n_tokens = 0
        self.ending: Ending | None = None  # None: it has not ended

    @property
    def pending(self) -> str:
        """What the session consumed after `text`: a stop, or what may have become one."""
        return self._bytes.decode("utf-8", "replace")[len(self.text) :]

    def write(self) -> Iterator[str]:
        """The text, as it comes. It may be dropped halfway, and then has not ended."""
        stream = TextStream(self._limits.stops)
        yield from self._certain(stream.push(self._bytes))
        while True:
            yield from self._until_stop(stream)
            if not stream.stopped or self._limits.enough(self.text):
                return
            yield from self._certain(self.pending)
            stream = TextStream(self._limits.stops)

    def _until_stop(self, stream: TextStream) -> Iterator[str]:
        while not stream.stopped:
            self.ending = self._why_to_end()
            token = self._draw() if self.ending is None else None
            if token is None:
                return  # what the stream holds back is half a character, or half a stop
            data = self._session.model.tokenizer.token_bytes(token)
            self._session.feed([token])
            self._bytes += data
            self._previous = token
            self.n_tokens += 1
            yield from self._certain(stream.push(data))
        self.ending = "stop"

    def _certain(self, text: str) -> Iterator[str]:
        if text:
            self.text += text
            yield text

    def _why_to_end(self) -> Ending | None:
        if self._limits.interrupted():
            return "interrupted"
        return "length" if self.n_tokens >= self._limits.max_tokens else None

    def _draw(self) -> int | None:
        """The next token; None at the end of the text."""
        logits = self._session.logits
        assert logits is not None, "a text is written after something was fed"
        shaped = self._shaper.shaped(logits, self.n_tokens, self._previous)
        token = self._sampler.sample(shaped)
        if token in self._limits.stop_tokens:
            self.ending = "end"
            return None
        return token


def stop_tokens_of(model: Model, wanted: tuple[int, ...]) -> frozenset[int]:
    """Those of `wanted` that end texts in this model's vocabulary: token 0 does not in all."""
    end = model.tokenizer.end_of_text
    zero = frozenset() if end is None or 0 not in wanted else frozenset([end])
    return zero | (frozenset(wanted) - {0})


def read(
    session: Session, tokens: list[int], cache: PrefixCache, interrupted: Callable[[], bool]
) -> Generator[tuple[int, int]]:
    """Feed `tokens`, yielding how many are fed and how many of them cost nothing.

    Interrupted, or dropped halfway, it leaves the session as it was.
    """
    with closing(cache.prefill_steps(session, tokens)) as steps:
        n_known = next(steps)
        for n_fed in chain([n_known], steps):
            yield n_fed, n_known
            if n_fed < len(tokens) and interrupted():
                raise Interrupted

"""Session: a state, the tokens that it consumed, and the logits that it predicts next."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import index
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.errors import StateError
from rwkvcpp.model import Tokens
from rwkvcpp.sampling import Sampler, SamplingParams, same_settings
from rwkvcpp.state import State
from rwkvcpp.stream import TextStream
from rwkvcpp.whole_file import PathArgument

if TYPE_CHECKING:
    from rwkvcpp.model import Model
    from rwkvcpp.state_file import DType

Prompt: TypeAlias = "str | bytes | Tokens"
FinishReason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that a session was at one moment: `session.rewind` goes back to it, any number of times.

    It costs what a state costs, whatever the length of the text.
    """

    model: Model
    state: State
    start: tuple[int, int]  # n_tokens and tokens_hash of the state that the session began with
    tokens: tuple[int, ...]
    mark: tuple[int, int]  # tokens whose bytes are all in `text`, bytes of the others that are
    logits: NDArray[np.float32] | None
    sampler: Sampler | None
    finish_reason: FinishReason | None
    metadata: dict[str, Any] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, but for the metadata."""
        n_logits = 0 if self.logits is None else self.logits.nbytes
        return self.state.nbytes + n_logits + 8 * len(self.tokens)


def _copied(moment: Checkpoint) -> Checkpoint:
    return replace(
        moment,
        state=moment.state.clone(),
        logits=None if moment.logits is None else moment.logits.copy(),
        sampler=None if moment.sampler is None else moment.sampler.clone(),
        metadata=copy.deepcopy(moment.metadata),
    )


class Session:
    """A recurrent state and the logits it predicts next.

    The state has always consumed exactly the tokens in `session.tokens`: every token that was fed
    or sampled, shown or not. So a generator may be dropped halfway, by `break`, an exception or
    Ctrl-C, and the session used again.

    >>> session = Model().session()
    >>> for text in session.generate("The Fox and the Crow\\n\\nOnce", max_tokens=100):
    ...     print(text, end="", flush=True)

    `metadata` is a small dictionary for what the user wants to find again in a saved session, as
    JSON: the template, the messages of a chat. Nothing here reads it.
    """

    def __init__(self, model: Model, state: State | None = None) -> None:
        """A session of `model` that starts from a copy of `state`, or from nothing."""
        self._model = model
        self._state = model.initial_state() if state is None else state.clone()
        self._start = (self._state.n_tokens, self._state.tokens_hash)
        self._fed: list[int] = []  # tokens given to the model; the state may have refused the last
        self._results: list[NDArray[np.float32]] = []  # the last is the one that counts
        # (tokens whose bytes are all in `text`, bytes of the tokens after them that are); the last
        # that the state has come to counts.
        self._marks = [(0, 0)]
        self._sampler: Sampler | None = None
        self._finish_reason: FinishReason | None = None
        self._turn = 0  # of feeding and generating: an older generator is over
        self.metadata: dict[str, Any] = {}

    @property
    def model(self) -> Model:
        """The model that this is a session of."""
        return self._model

    @property
    def state(self) -> State:
        """The state after `tokens`: the session's own, so clone it before you change it."""
        return self._state

    @property
    def tokens(self) -> list[int]:
        """Every token fed or sampled, shown or not."""
        return list(map(int, self._fed[: self._n_consumed]))

    @property
    def logits(self) -> NDArray[np.float32] | None:
        """The prediction of the next token, float32 [n_vocab]; None before the first one."""
        return self._results[-1][0] if self._results else None

    @property
    def text(self) -> str:
        """What the state has read and written so far, without what is `pending`."""
        data = self._bytes_of(self._fed[: self._n_consumed])
        return data[: len(data) - len(self.pending)].decode("utf-8", "replace")

    @property
    def pending(self) -> bytes:
        """What the state has written and nobody was shown: a stop string and what came with it.

        Also the text that is held back when a generator is dropped: half a character, or what might
        become a stop. The next turn need not feed what is here already; once anything is fed, this
        is part of `text`. Bytes, because it may end within a character.
        """
        n_settled, n_shown = self._mark
        return self._bytes_of(self._fed[n_settled : self._n_consumed])[n_shown:]

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the last `generate` ended: "stop" (a stop string or token) or "length".

        None before it has ended, and when it was dropped halfway.
        """
        return self._finish_reason

    @property
    def sampler(self) -> Sampler | None:
        """What tokens are drawn with: its random generator and counts go on from call to call.

        None before the first `generate`. Set it to begin anew: `session.sampler = None`.
        """
        return self._sampler

    @sampler.setter
    def sampler(self, sampler: Sampler | None) -> None:
        self._sampler = sampler

    # Going on

    def feed(self, prompt: Prompt) -> None:
        """Advance the state over `prompt`, text or tokens, without generating (prefill)."""
        tokens = self._encode(prompt)
        if len(tokens) > 0:
            self._read(tokens)

    def generate(
        self,
        prompt: Prompt = "",
        *,
        max_tokens: int = 256,
        sampling: SamplingParams | None = None,
        stop: str | Sequence[str] = (),
        stop_tokens: Sequence[int] | None = None,
    ) -> Iterator[str]:
        """Feed `prompt`, then yield text as it comes, until `max_tokens`, or a stop.

        The text ends before the first of the `stop` strings, and never shows a part of one; a token
        of `stop_tokens` (None: the vocabulary's end of text) ends it too, and `finish_reason` then
        tells why. The call itself checks the arguments and feeds the prompt; each step of the
        iterator samples what follows.

        Tokens are drawn by `session.sampler`. As long as `sampling` is None or stays the same, its
        random generator and its penalties go on from call to call; other settings start a new one.
        After a generator that was dropped halfway, an empty prompt begins with what it held back.
        """
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int):
            raise TypeError(f"max_tokens must be an integer, got {max_tokens!r}")
        if max_tokens < 0:
            raise ValueError(f"max_tokens must not be negative, got {max_tokens}")
        sampler = self._sampler_for(sampling)
        stream = TextStream([stop] if isinstance(stop, str) else stop)
        stops = self._stop_tokens(stop_tokens)
        tokens = self._encode(prompt)
        if len(tokens) > 0:
            self._read(tokens)
        elif not self._results:
            raise ValueError(
                "there is nothing to continue: give a prompt, or begin a text with feed([0])"
            )
        elif self._finish_reason is not None:
            self._marks = [(self._n_consumed, 0)]
        self._sampler = sampler
        self._finish_reason = None
        self._turn += 1
        return self._continue(max_tokens, sampler, stream, stops, self._turn)

    def _continue(
        self,
        max_tokens: int,
        sampler: Sampler,
        stream: TextStream,
        stops: frozenset[int],
        turn: int,
    ) -> Iterator[str]:
        self._check_turn(turn)
        mark = self._mark
        data = self.pending  # of a dropped generator
        for n_left in range(max_tokens, -1, -1):
            if text := self._shown(stream, stream.push(data), mark):
                yield text
                self._check_turn(turn)
            if stream.stopped:
                self._finish_reason = "stop"
                return
            if n_left == 0:
                self._finish_reason = "length"
                break
            token = sampler.sample(self._results[-1][0])
            self._advance([token])
            if token in stops:
                self._finish_reason = "stop"
                break
            data = self._model.tokenizer.token_bytes(token)
        if text := self._shown(stream, stream.finish(), mark):
            yield text

    def _shown(self, stream: TextStream, text: str, mark: tuple[int, int]) -> str:
        """`text`, which the caller is about to get."""
        self._marks = [(mark[0], mark[1] + stream.n_shown)]
        return text

    def _check_turn(self, turn: int) -> None:
        if turn != self._turn:
            raise RuntimeError("the session has gone on without this generator: begin a new one")

    # Coming back

    def fork(self) -> Session:
        """A session that goes its own way from here."""
        return Session.at(self._now())

    def checkpoint(self) -> Checkpoint:
        """All that the session is now, to come back to with `rewind`."""
        return _copied(self._now())

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Be again what the session, or one that was forked from it, was at `checkpoint`.

        The sampler too, so the same call gives the same text again: for another one, set
        `session.sampler`, or pass other settings.
        """
        if checkpoint.model is not self._model:
            raise StateError(
                f"the checkpoint is one of {checkpoint.model.identity}, expected one of "
                f"{self._model.identity}"
            )
        self._become(_copied(checkpoint))

    def _now(self) -> Checkpoint:
        """What `checkpoint` gives, of the session's own parts."""
        return Checkpoint(
            self._model,
            self._state,
            self._start,
            tuple(self.tokens),
            self._mark,
            self.logits,
            self._sampler,
            self._finish_reason,
            self.metadata,
        )

    def _become(self, moment: Checkpoint) -> None:
        """Go on from a checkpoint that nobody else will use."""
        parts = {
            "_state": moment.state,
            "_start": moment.start,
            "_fed": list(moment.tokens),
            "_results": [] if moment.logits is None else [moment.logits[None]],
            "_marks": [moment.mark],
            "_sampler": moment.sampler,
            "_finish_reason": moment.finish_reason,
            "_turn": self._turn + 1,
            "metadata": moment.metadata,
        }
        self.__dict__.update(parts)  # in one step: Ctrl-C strikes before it or after

    @classmethod
    def at(cls, checkpoint: Checkpoint) -> Session:
        """A session that is what another one was at `checkpoint`, and goes its own way."""
        return cls._at(_copied(checkpoint))

    @classmethod
    def _at(cls, moment: Checkpoint) -> Session:
        session = cls.__new__(cls)
        session._model, session._turn = moment.model, 0
        session._become(moment)
        return session

    # Files

    def save(self, path: PathArgument, *, dtype: DType = "float32", durable: bool = False) -> None:
        """Write all of the session to `path`: the whole file, or nothing at all.

        Loaded again, it continues with exactly the tokens that it would have had: the sampler, its
        random generator and its penalties are saved, too. `dtype` and `durable` are `State.save`'s.
        """
        from rwkvcpp import state_container
        from rwkvcpp.session_file import pieces

        state_container.write(path, pieces(self._now(), dtype), durable=durable)

    def to_bytes(self, *, dtype: DType = "float32") -> bytes:
        """What `save` would write, for `model.session_from_bytes`."""
        from rwkvcpp.session_file import pieces

        return b"".join(pieces(self._now(), dtype))

    @classmethod
    def load(cls, model: Model, path: PathArgument) -> Session:
        """The session that `save` wrote.

        StateError for any other file and for a session of other weights. `metadata` is whatever the
        file says, so check what you take out of it.
        """
        from rwkvcpp.session_file import read_session
        from rwkvcpp.state_container import read_file

        return cls._at(read_session(read_file(path), model))

    @classmethod
    def from_bytes(cls, model: Model, data: bytes) -> Session:
        """The session that `to_bytes` gave; bytes from anywhere are safe to try."""
        from rwkvcpp.session_file import read_session
        from rwkvcpp.state_container import read_bytes

        return cls._at(read_session(read_bytes(data, "the session"), model))

    # What they are made of

    def _sampler_for(self, sampling: SamplingParams | None) -> Sampler:
        own = self._sampler
        if own is not None and (sampling is None or same_settings(sampling, own.params)):
            return own
        return Sampler(sampling)

    def _encode(self, prompt: Prompt) -> Tokens:
        if isinstance(prompt, (str, bytes)):
            return self._model.tokenizer.encode(prompt)
        return prompt

    def _stop_tokens(self, chosen: Sequence[int] | None) -> frozenset[int]:
        if chosen is not None:
            return frozenset(map(index, chosen))
        end = self._model.tokenizer.end_of_text
        return frozenset() if end is None else frozenset([end])

    def _bytes_of(self, tokens: Sequence[int]) -> bytes:
        if not tokens:
            return b""  # which takes no vocabulary
        return b"".join(map(self._model.tokenizer.token_bytes, map(int, tokens)))

    def _read(self, tokens: Tokens) -> None:
        """Advance over a prompt, which is part of the text as soon as the state has it."""
        self._marks = [self._mark, (self._n_consumed + len(tokens), 0)]
        self._advance(tokens)
        self._turn += 1

    def _advance(self, tokens: Tokens) -> None:
        # In this order Ctrl-C may strike anywhere: what the state did not consume does not count,
        # and the logits arrive in the same step as the state moves.
        self._fed[self._n_consumed :] = tokens
        self._model.forward_into(self._results, tokens, self._state)
        del self._results[:-1]

    @property
    def _mark(self) -> tuple[int, int]:
        n_consumed = self._n_consumed
        return next(mark for mark in reversed(self._marks) if mark[0] <= n_consumed)

    @property
    def _n_consumed(self) -> int:
        return self._state.n_tokens - self._start[0]

    def __repr__(self) -> str:
        return f"<rwkvcpp.Session of {self._model.path.name} after {self._n_consumed} tokens>"

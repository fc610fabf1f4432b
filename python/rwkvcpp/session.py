"""Session: a state, the tokens that it consumed, and the logits that it predicts next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import index
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.model import Tokens
from rwkvcpp.sampling import Sampler, SamplingParams
from rwkvcpp.state import State
from rwkvcpp.stream import TextStream

if TYPE_CHECKING:
    from rwkvcpp.model import Model

Prompt: TypeAlias = "str | bytes | Tokens"


class Session:
    """A recurrent state and the logits it predicts next.

    The state has always consumed exactly the tokens in `session.tokens`: every token that was fed
    or sampled, shown or not. So a generator may be dropped halfway, by `break`, an exception or
    Ctrl-C, and the session used again.

    >>> session = Model().session()
    >>> for text in session.generate("The Fox and the Crow\\n\\nOnce", max_tokens=100):
    ...     print(text, end="", flush=True)
    """

    def __init__(self, model: Model, state: State | None = None) -> None:
        """A session of `model` that starts from a copy of `state`, or from nothing."""
        self._model = model
        self._state = model.initial_state() if state is None else state.clone()
        self._n_before = self._state.n_tokens
        self._fed: list[int] = []  # tokens given to the model; the state may have refused the last
        self._results: list[NDArray[np.float32]] = []  # the last is the one that counts
        self._finish_reason: Literal["stop", "length"] | None = None

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
    def finish_reason(self) -> Literal["stop", "length"] | None:
        """Why the last `generate` ended: "stop" (a stop string or token) or "length".

        None before it has ended, and when it was dropped halfway.
        """
        return self._finish_reason

    def clone(self) -> Session:
        """A session that goes its own way from here."""
        copy = Session(self._model, self._state)
        copy._n_before = self._n_before
        copy._fed = self.tokens
        copy._results = list(self._results)
        return copy

    def feed(self, prompt: Prompt) -> None:
        """Advance the state over `prompt`, text or tokens, without generating (prefill)."""
        tokens = self._encode(prompt)
        if len(tokens) > 0:
            self._advance(tokens)

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
        """
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int):
            raise TypeError(f"max_tokens must be an integer, got {max_tokens!r}")
        if max_tokens < 0:
            raise ValueError(f"max_tokens must not be negative, got {max_tokens}")
        sampler = Sampler(SamplingParams() if sampling is None else sampling)
        stream = TextStream([stop] if isinstance(stop, str) else stop)
        stops = self._stop_tokens(stop_tokens)
        tokens = self._encode(prompt)
        if len(tokens) > 0:
            self._advance(tokens)
        elif not self._results:
            raise ValueError(
                "there is nothing to continue: give a prompt, or begin a text with feed([0])"
            )
        self._finish_reason = None
        return self._continue(max_tokens, sampler, stream, stops)

    def _continue(
        self, max_tokens: int, sampler: Sampler, stream: TextStream, stops: frozenset[int]
    ) -> Iterator[str]:
        for _ in range(max_tokens):
            token = sampler.sample(self._results[-1][0])
            self._advance([token])
            if token in stops:
                self._finish_reason = "stop"
                break
            if text := stream.push(self._model.tokenizer.token_bytes(token)):
                yield text
            if stream.stopped:
                self._finish_reason = "stop"
                return
        else:
            self._finish_reason = "length"
        if text := stream.finish():
            yield text

    def _encode(self, prompt: Prompt) -> Tokens:
        if isinstance(prompt, (str, bytes)):
            return self._model.tokenizer.encode(prompt)
        return prompt

    def _stop_tokens(self, chosen: Sequence[int] | None) -> frozenset[int]:
        if chosen is not None:
            return frozenset(map(index, chosen))
        end = self._model.tokenizer.end_of_text
        return frozenset() if end is None else frozenset([end])

    def _advance(self, tokens: Tokens) -> None:
        # In this order Ctrl-C may strike anywhere: what the state did not consume does not count,
        # and the logits arrive in the same step as the state moves.
        self._fed[self._n_consumed :] = tokens
        self._model.forward_into(self._results, tokens, self._state)
        del self._results[:-1]

    @property
    def _n_consumed(self) -> int:
        return self._state.n_tokens - self._n_before

    def __repr__(self) -> str:
        return f"<rwkvcpp.Session of {self._model.path.name} after {self._n_consumed} tokens>"

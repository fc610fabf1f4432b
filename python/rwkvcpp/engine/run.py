"""Run: one request on its way through the model, from its prompt to its end.

It owns the state, the sampler and the text. It says which tokens it wants to be fed next, and is
told the logits; everything between is the same whoever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.engine.channel import Channel
from rwkvcpp.engine.events import EndEvent, FinishReason, PromptEvent, TokenEvent, Usage
from rwkvcpp.engine.logprobs import TokenLogprob, row_logprobs, token_logprob
from rwkvcpp.engine.request import Request, begin_state, check_state, checked_tokens
from rwkvcpp.errors import StateError
from rwkvcpp.prefix_cache import PrefixCache
from rwkvcpp.prefix_key import PrefixKey
from rwkvcpp.sampling import Sampler
from rwkvcpp.state import State
from rwkvcpp.stream import TextStream

if TYPE_CHECKING:
    from rwkvcpp.model import Model

Logits = NDArray[np.float32]


class Run:
    """Made by the thread that asks, which gets the errors of its request; then the engine's."""

    state: State  # as soon as it has joined: those who wait have none

    def __init__(
        self, request: Request, model: Model, notify: Callable[[], object] | None = None
    ) -> None:
        self.request = request
        self.channel = Channel(notify)
        self.ending = ""  # "stop", "length", "cancelled" or "error"
        self.joined_at = 0.0
        self._model = model
        self._prompt = checked_tokens(request, model)
        check_state(request, model)
        self._sampler = Sampler(request.sampling)
        for token in request.penalized:
            self._sampler.observe(int(token))
        self._stream = TextStream([request.stop] if isinstance(request.stop, str) else request.stop)
        self._stop_tokens = _stop_tokens(model, request)
        self._token_bytes = model.tokenizer.token_bytes  # loaded by now, not in the first step
        self._key: PrefixKey | None = None
        self._cache: PrefixCache | None = None
        self._snapshots: list[int] = []  # where they are to be made, the next one last
        self._n_read = self._n_cached = 0
        self._prompt_logprobs: list[TokenLogprob | None] = [None]
        self._drawn: list[int] = []
        self._finish_reason: FinishReason | None = None  # known before the end, see _is_kept
        self._stop_logprob: TokenLogprob | None = None

    # What it wants

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.channel.ended

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        return self.channel.cancelled

    @property
    def is_reading(self) -> bool:
        """Whether it has some of its prompt before it."""
        return self._n_read < len(self._prompt)

    @property
    def wants_all_logits(self) -> bool:
        """Whether what is fed next needs the logits after every token."""
        return self.is_reading and self.request.prompt_logprobs is not None

    @property
    def n_wanted(self) -> int:
        """Rows of its prompt that it could take at once: up to the next snapshot."""
        return self._snapshots[-1] - self._n_read

    def next_tokens(self, n_rows: int) -> NDArray[np.int32]:
        """What is to be fed now."""
        if self.is_reading:
            return self._prompt[self._n_read : self._n_read + n_rows]
        return np.array(self._drawn[-1:], np.int32)

    # What happens to it

    def join(self, cache: PrefixCache | None) -> None:
        """Begin: go on from what the cache knows of the prompt."""
        self.state = begin_state(self.request, self._model)
        self._key = _key(self._model, self.state)
        self._cache = cache if self._key is not None and self.request.use_cache else None
        logits = self._recall()
        places = {*map(index, self.request.boundaries)}
        end = len(self._prompt)
        if self._cache is None:
            self._snapshots = [end]
        else:
            stops = self._cache.stops(self._model, self.state, self._n_read, end, places)
            self._snapshots = stops[::-1]
        if logits is not None and not self.is_reading:
            self._prompt_read(logits)

    def _recall(self) -> Logits | None:
        """The logits after as much as the cache has, which need not be computed."""
        if self._cache is None or self._key is None or self.request.prompt_logprobs is not None:
            return None
        found = self._cache.lookup(self._key, self._prompt)
        if found is None:
            return None
        self.state = found.state()
        self._n_read = self._n_cached = found.n_tokens
        return found.logits()

    def fed(self, tokens: NDArray[np.int32], logits: Logits) -> None:
        """The state has consumed `tokens`; `logits` are after the last, or [n_tokens, n_vocab]."""
        if not self.is_reading:
            self._drawn_fed(logits)
            return
        if self.wants_all_logits:
            self._score(logits)
            logits = logits[-1]
        self._n_read += len(tokens)
        if self._n_read == self._snapshots[-1]:
            self._snapshots.pop()
            self._keep(logits)
        if not self.is_reading:
            self._prompt_read(logits)

    def _score(self, logits: Logits) -> None:
        begin = self._n_read + 1
        following = self._prompt[begin : begin + len(logits)]
        n_top = self.request.prompt_logprobs or 0
        self._prompt_logprobs += row_logprobs(logits[: len(following)], following.tolist(), n_top)

    def _prompt_read(self, logits: Logits) -> None:
        scored = self.request.prompt_logprobs is not None
        logprobs = tuple(self._prompt_logprobs) if scored else None
        self.channel.put(PromptEvent(len(self._prompt), self._n_cached, logprobs))
        if self.request.max_tokens == 0:
            self._end("length")
        else:
            self._draw(logits)

    def _draw(self, logits: Logits) -> None:
        token = self._sampler.sample(logits)
        self._drawn.append(token)
        if token in self._stop_tokens:
            self._finish_reason, self._stop_logprob = "stop", self._logprob(token, logits)
        else:
            self._show(token, logits)
        if self._finish_reason is not None and not self._is_kept:
            self._end(self._finish_reason)

    def _show(self, token: int, logits: Logits) -> None:
        data = self._token_bytes(token)
        text = self._stream.push(data)
        self.channel.put(TokenEvent(token, data, text, self._logprob(token, logits)))
        if self._stream.stopped or (text and self._is_enough(text)):
            self._finish_reason = "stop"
        elif len(self._drawn) == self.request.max_tokens:
            self._finish_reason = "length"

    def _logprob(self, token: int, logits: Logits) -> TokenLogprob | None:
        n_top = self.request.logprobs
        return None if n_top is None else token_logprob(logits, token, n_top)

    def _is_enough(self, text: str) -> bool:
        return self.request.until is not None and self.request.until(text)

    @property
    def _is_kept(self) -> bool:
        """Whether somebody wants the state after the last token, which then is fed, too."""
        return self.request.return_state or self._cache is not None

    def _drawn_fed(self, logits: Logits) -> None:
        if self._finish_reason is None:
            self._draw(logits)
        else:
            self._keep(logits)
            self._end(self._finish_reason)

    def _keep(self, logits: Logits) -> None:
        if self._cache is not None and self._key is not None:
            tokens = np.array([*self._prompt[: self._n_read], *self._drawn], np.int32)
            self._cache.insert(self._key, tokens, self.state, logits)

    # How it ends

    def _end(self, reason: FinishReason) -> None:
        self.channel.ended, self.ending = True, reason
        usage = Usage(len(self._prompt), self._n_cached, len(self._drawn))
        state = self.state if self.request.return_state and reason != "cancelled" else None
        by_token = reason == "stop" and self._drawn[-1] in self._stop_tokens
        stop_token = self._drawn[-1] if by_token else None
        stop_logprob = self._stop_logprob if by_token else None
        self.channel.put(
            EndEvent(self._stream.finish(), reason, usage, stop_token, stop_logprob, state)
        )

    def cancel(self) -> None:
        """End, as nobody wants more."""
        self._end("cancelled")

    def fail(self, error: Exception) -> None:
        """End with an error, which the one who waits gets."""
        self.channel.ended, self.ending = True, "error"
        self.channel.put(error)


def _key(model: Model, state: State) -> PrefixKey | None:
    """None when nothing of it may be kept: its state continues approximately."""
    try:
        return PrefixKey.of(model, state)
    except StateError:
        return None


def _stop_tokens(model: Model, request: Request) -> frozenset[int]:
    if request.stop_tokens is not None:
        return frozenset(map(index, request.stop_tokens))
    end = model.tokenizer.end_of_text
    return frozenset() if end is None else frozenset([end])

"""What a generation tells, in this order: its prompt is read, each token, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rwkvcpp.engine.logprobs import TokenLogprob
from rwkvcpp.state import State

FinishReason: TypeAlias = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Usage:
    """Tokens of the prompt, how many of them cost nothing, and tokens drawn."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class PromptEvent:
    """The prompt is read.

    logprobs: of its tokens, if the request asks for them; None for the first, which nothing
        predicts.
    """

    n_tokens: int
    n_cached: int
    logprobs: tuple[TokenLogprob | None, ...] | None = None


@dataclass(frozen=True)
class TokenEvent:
    """A token was drawn.

    data: its bytes, whatever becomes of them.
    text: what is certain now and was not shown yet: whole characters, no part of a stop.
    """

    token: int
    data: bytes
    text: str
    logprob: TokenLogprob | None = None


@dataclass(frozen=True)
class EndEvent:
    """There is no more.

    text: what was held back until now.
    finish_reason: "stop" (a stop string or token), "length" or "cancelled".
    stop_token: the stop token that ended it, which has no TokenEvent; None for other reasons.
    stop_logprob: of the stop token, if the request asks for logprobs.
    state: after every token of prompt and completion, if the request asks for it.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    stop_token: int | None = None
    stop_logprob: TokenLogprob | None = None
    state: State | None = field(default=None, repr=False)


Event: TypeAlias = PromptEvent | TokenEvent | EndEvent

"""Asking: what a body says about an answer, as requests to the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flask import request as http

from rwkvcpp.engine import Request
from rwkvcpp.profiles import Profile
from rwkvcpp.server.errors import ApiError, refusing
from rwkvcpp.server.fields import GenerationFields
from rwkvcpp.server.limits import check_max_tokens, check_prompt
from rwkvcpp.server.state_exchange import NOTHING, Beginning
from rwkvcpp.tokenizer import Tokenizer

if TYPE_CHECKING:
    from rwkvcpp.server.service import Service, Serving

Until = Callable[[str], bool]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What is to be continued, and where its continuation ends.

    until: makes what `Request.until` is to be, for each answer anew.
    """

    tokens: Sequence[int]
    profile: Profile
    beginning: Beginning = NOTHING
    stops: Sequence[str] = ()
    stop_tokens: Sequence[int] | None = None
    until: Callable[[], Until | None] = lambda: None
    logprobs: int | None = None
    prompt_logprobs: int | None = None


def requests_for(
    service: Service, serving: Serving, body: GenerationFields, prompt: Prompt
) -> list[Request]:
    """`body.n` requests that continue `prompt`, with seeds of their own; ApiError 400."""
    settings, defaults = service.settings, service.defaults
    check_prompt(settings, prompt.tokens)
    _check_bias(serving, body)
    if body.max_tokens is not None:
        check_max_tokens(settings, body.max_tokens)
    with refusing():
        first = Request(
            tokens=prompt.tokens,
            state=prompt.beginning.state,
            sampling=body.sampling(prompt.profile, defaults),
            max_tokens=min(body.limit(prompt.profile, defaults), settings.max_tokens_limit),
            stop=prompt.stops,
            stop_tokens=prompt.stop_tokens,
            logprobs=prompt.logprobs,
            prompt_logprobs=prompt.prompt_logprobs,
            penalized=_words(serving, prompt.tokens) if body.counts_prompt(defaults) else (),
            return_state=body.return_state is not None,
            use_cache=body.uses_cache,
            client=http.remote_addr or "",
        )
        return [
            replace(
                first,
                sampling=body.sampling(prompt.profile, defaults, index),
                until=prompt.until(),
                prompt_logprobs=prompt.prompt_logprobs if index == 0 else None,
            )
            for index in range(body.n)
        ]


def _check_bias(serving: Serving, body: GenerationFields) -> None:
    n_vocab = serving.model.n_vocab
    for token in body.logit_bias:
        if token >= n_vocab:
            message = f"logit_bias is for token {token}, expected 0 to {n_vocab - 1}"
            raise ApiError(400, message, code="invalid_value", param="logit_bias")


def _words(serving: Serving, tokens: Sequence[int]) -> list[int]:
    """Those of `tokens` that say something: penalties leave marks, digits and blanks alone."""
    tokenizer = serving.model.tokenizer
    return [
        token for token in tokens if 0 <= token < tokenizer.n_vocab and _is_word(tokenizer, token)
    ]


def _is_word(tokenizer: Tokenizer, token: int) -> bool:
    """A part of a character is a part of a word."""
    data = tokenizer.token_bytes(token)
    try:
        return any(character.isalpha() for character in data.decode())
    except UnicodeDecodeError:
        return True

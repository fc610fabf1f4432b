"""Limits: how much one request may ask for; what is more gets a sentence with the limit."""

from __future__ import annotations

from collections.abc import Sized

from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.settings import Settings


def check_prompt(settings: Settings, tokens: Sized, param: str | None = None) -> None:
    """Of one prompt; ApiError with the code that clients know for it."""
    found = "the prompt has {} tokens"
    code = "context_length_exceeded"
    _check(found, len(tokens), settings.max_prompt_tokens, param, code)


def check_max_tokens(settings: Settings, max_tokens: int, param: str = "max_tokens") -> None:
    """Of what a request wants drawn."""
    _check(f"{param} is {{}}", max_tokens, settings.max_tokens_limit, param)


def check_choices(settings: Settings, n_prompts: int, n: int = 1, param: str | None = "n") -> None:
    """Of answers to one request."""
    found = f"{n_prompts} prompts with n={n} are {{}} answers"
    _check(found, n_prompts * n, settings.max_choices, param)


def _check(
    found: str, value: int, limit: int, param: str | None, code: str = "invalid_value"
) -> None:
    if value > limit:
        message = f"{found.format(value)}, expected at most {limit}"
        raise ApiError(400, message, code=code, param=param)

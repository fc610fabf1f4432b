"""What all of OpenAI's answers have: a head, and what it has cost."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rwkvcpp.engine import Usage
from rwkvcpp.engine.events import FinishReason

if TYPE_CHECKING:
    from rwkvcpp.server.choices import Choices
    from rwkvcpp.server.service import Service, Serving


def begun(
    service: Service, prefix: str, kind: str, serving: Serving, choices: Choices
) -> dict[str, Any]:
    """What an answer begins with, and every part of one; others can end it by its id from now."""
    answer = {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": serving.id,
    }
    service.active.add(str(answer["id"]), choices)
    return answer


def finish_reason(reason: FinishReason, *, stopped: bool = False) -> str:
    """As OpenAI names it; who was told to stop has stopped."""
    return "stop" if stopped or reason == "cancelled" else reason


def usage(usages: Iterable[Usage], n: int, n_reasoning: int | None = None) -> dict[str, Any]:
    """What an answer has cost: of `n` to the same prompt, the prompt counts once.

    usages: of all choices, in their order.
    """
    usages = list(usages)
    firsts = usages[::n]
    n_prompt = sum(each.prompt_tokens for each in firsts)
    n_drawn = sum(each.completion_tokens for each in usages)
    details = {} if n_reasoning is None else {"reasoning_tokens": n_reasoning}
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_drawn,
        "total_tokens": n_prompt + n_drawn,
        "prompt_tokens_details": {"cached_tokens": sum(each.cached_tokens for each in firsts)},
    } | ({"completion_tokens_details": details} if details else {})

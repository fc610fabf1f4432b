"""llama.cpp's /infill: the text between a prefix and a suffix, where the model has learnt that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import request as http
from pydantic import AliasChoices, Field

from rwkvcpp.engine import EndEvent, PromptEvent, Request, TokenEvent
from rwkvcpp.profiles import profile
from rwkvcpp.server import sse
from rwkvcpp.server.bodies import Body
from rwkvcpp.server.choices import Choices
from rwkvcpp.server.errors import not_supported, refusing
from rwkvcpp.server.fields import TOKEN_LIMIT, SamplingFields, StopFields
from rwkvcpp.server.limits import check_max_tokens, check_prompt
from rwkvcpp.server.refusals import Refusing
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service, Serving
from rwkvcpp.templates.prompts import Prompt, fill_in_the_middle

routes = Routes("infill")

# The chat templates of models that were trained on it: G1c and newer.
KNOW_IT = frozenset({"g1", "bot", "functions"})


def middle(serving: Serving, prefix: str, suffix: str, *, param: str) -> Prompt:
    """The prompt for what stands between; ApiError for a model that has not learnt it.

    param: the field of the request that asks for it.
    """
    if serving.template.name not in KNOW_IT:
        raise not_supported(
            f"{serving.id} was not trained to fill in the middle, expected G1c or newer "
            f"(its template is {serving.template.name})",
            param,
        )
    return fill_in_the_middle(prefix, suffix)


class Extra(Body):
    """A piece of another file."""

    text: str = ""


class InfillBody(SamplingFields, StopFields, Refusing):
    """What stands before and behind the text that is wanted, in llama.cpp's words."""

    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: list[Extra] = Field(default_factory=list)
    prompt: str = ""  # how the middle begins
    max_tokens: int | None = Field(
        None, ge=-1, le=TOKEN_LIMIT, validation_alias=AliasChoices("n_predict", "max_tokens")
    )
    stream: bool = False
    cache_prompt: bool = True


@routes.post("/infill", body=InfillBody)
def infill(service: Service, body: InfillBody) -> Answer:
    """Write what stands between a prefix and a suffix."""
    serving = service.serving()
    with refusing():
        choices = Choices(serving.engine, [[understand(service, serving, body)]])
    if body.stream:
        return sse.stream(pieces(choices, serving), done=b"")
    text, last = "", {}
    for piece in pieces(choices, serving):
        if piece is not None:
            text += piece["content"]
            last = piece
    return {**last, "content": text}


def understand(service: Service, serving: Serving, body: InfillBody) -> Request:
    """The request that `body` makes."""
    prompt = middle(serving, body.input_prefix, body.input_suffix, param="input_suffix")
    extra = "".join(each.text + "\n\n" for each in body.input_extra if each.text)
    tokens = [0, *serving.model.tokenizer.encode(extra + prompt.text + body.prompt)]
    check_prompt(service.settings, tokens, "input_prefix")
    chosen = profile(prompt.profile)
    if body.max_tokens is None or body.max_tokens < 0:  # llama.cpp's "as many as it takes"
        max_tokens = min(chosen.max_tokens or 500, service.settings.max_tokens_limit)
    else:
        max_tokens = body.max_tokens
        check_max_tokens(service.settings, max_tokens, "n_predict")
    return Request(
        tokens=tokens,
        sampling=body.sampling(chosen, {}),
        max_tokens=max_tokens,
        stop=[*prompt.stops, *body.stop_strings],
        stop_tokens=[*prompt.stop_tokens, *body.stop_token_ids],
        use_cache=body.cache_prompt,
        client=http.remote_addr or "",
    )


def pieces(choices: Choices, serving: Serving) -> Iterator[dict[str, Any] | None]:
    """The middle as it comes; the last piece tells what it has cost."""
    n_cached = 0
    with choices:
        for numbered in choices.events(silence=sse.SILENCE):
            event = None if numbered is None else numbered.event
            if event is None:
                yield None
            elif isinstance(event, PromptEvent):
                n_cached = event.n_cached
            elif isinstance(event, TokenEvent):
                if event.text:
                    yield {"index": 0, "content": event.text, "tokens": [], "stop": False}
            else:
                yield ending(event, serving, n_cached)


def ending(event: EndEvent, serving: Serving, n_cached: int) -> dict[str, Any]:
    """The last piece, in llama.cpp's words."""
    by_token = event.stop_token is not None
    kind = "limit" if event.finish_reason == "length" else "eos" if by_token else "word"
    return {
        "index": 0,
        "content": event.text,
        "tokens": [],
        "stop": True,
        "model": serving.id,
        "tokens_predicted": event.usage.completion_tokens,
        "tokens_evaluated": event.usage.prompt_tokens,
        "tokens_cached": n_cached,
        "truncated": False,
        "stop_type": kind,
    }

"""A completion's body understood: the prompts that it makes, and what an echo of them shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rwkvcpp.engine import Request
from rwkvcpp.profiles import profile
from rwkvcpp.server.asking import Prompt, requests_for
from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.limits import check_choices
from rwkvcpp.server.openai.completion_body import CompletionBody
from rwkvcpp.server.openai.texts import Text, check_ids
from rwkvcpp.server.routes.infill import middle
from rwkvcpp.server.state_exchange import Beginning, read_beginning

if TYPE_CHECKING:
    from rwkvcpp.server.service import Service, Serving


@dataclass(frozen=True)
class Echo:
    """What of a prompt an answer may show."""

    text: str
    n_hidden: int  # tokens in front that are ours


@dataclass(frozen=True)
class Asked:
    """What the engine is asked for: of each prompt, `n` times."""

    serving: Serving
    body: CompletionBody
    echoes: list[Echo]
    requests: list[list[Request]]


def understand(service: Service, body: CompletionBody) -> Asked:
    """What `body` asks for; ApiError for what it cannot."""
    serving = service.serving()
    body.check()
    prompts = body.prompts
    check_choices(service.settings, len(prompts), body.n)
    beginning = read_beginning(service, serving, body)
    understood = [_prompt(serving, body, prompt, beginning) for prompt in prompts]
    requests = [requests_for(service, serving, body, prompt) for _, prompt in understood]
    return Asked(serving, body, [echo for echo, _ in understood], requests)


def _prompt(
    serving: Serving, body: CompletionBody, prompt: Text, beginning: Beginning
) -> tuple[Echo, Prompt]:
    tokenizer = serving.model.tokenizer
    if not isinstance(prompt, str):
        check_ids(serving, prompt, "the prompt", "prompt")
    if body.suffix:
        return _middle(serving, body, prompt, body.suffix, beginning)
    if isinstance(prompt, str):
        hidden = [] if beginning.goes_on else serving.raw_begin(body.pad_zero)
        text = prompt.removeprefix(beginning.pending)
        tokens = hidden + tokenizer.encode(text)
        echo = Echo(text, len(hidden))
    else:
        tokens = prompt
        echo = Echo(tokenizer.decode(prompt), 0)
    return echo, Prompt(
        tokens=tokens,
        profile=profile("standard"),
        beginning=beginning,
        stops=body.stop_strings,
        stop_tokens=[*serving.end_of_text, *body.stop_token_ids],
        logprobs=body.logprobs,
        prompt_logprobs=body.logprobs if body.echo else None,
    )


def _middle(
    serving: Serving,
    body: CompletionBody,
    prompt: Text,
    suffix: str,
    beginning: Beginning,
) -> tuple[Echo, Prompt]:
    """The prompt for what stands between; an echo shows the prefix, and has no logprobs."""
    prefix = prompt if isinstance(prompt, str) else serving.model.tokenizer.decode(prompt)
    found = middle(serving, prefix, suffix, param="suffix")
    begins = body.pad_zero is not False and not beginning.goes_on
    hidden = serving.raw_begin(begins)
    tokens = hidden + serving.model.tokenizer.encode(found.text)
    if body.echo and body.logprobs is not None:
        raise ApiError(
            400, "echo has no logprobs with a suffix", code="invalid_value", param="echo"
        )
    return Echo(prefix, len(hidden)), Prompt(
        tokens=tokens,
        profile=profile(found.profile),
        beginning=beginning,
        stops=[*found.stops, *body.stop_strings],
        stop_tokens=[*found.stop_tokens, *body.stop_token_ids],
        logprobs=body.logprobs,
    )

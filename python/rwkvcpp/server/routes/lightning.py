"""What RWKV Chat and rwkv_lightning ask for: batches, the state of the server, and to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flask import request as http
from pydantic import Field

import rwkvcpp
from rwkvcpp.profiles import profile
from rwkvcpp.server.active import Active
from rwkvcpp.server.asking import Prompt, requests_for
from rwkvcpp.server.batches import Batch, batch
from rwkvcpp.server.bodies import Body
from rwkvcpp.server.choices import Choices
from rwkvcpp.server.errors import ApiError, refusing
from rwkvcpp.server.fields import GenerationFields
from rwkvcpp.server.languages import code_of, language_of
from rwkvcpp.server.limits import check_choices
from rwkvcpp.server.refusals import IsNothing, Refusing, empty
from rwkvcpp.server.routes.infill import middle
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service, Serving, Status
from rwkvcpp.templates import prompts

routes = Routes("lightning")

API_VERSION = "1"
TRANSLATION_TOKENS = 2048  # the most that a text may become

CAPABILITIES = {
    "chat_messages": True,
    "completion": True,
    "batch_completion": True,
    "stream": True,
    "stop": True,
    "token_count": True,
    "metrics": True,
    "tools": True,
    "sampling": True,
    "state_exchange": True,
    "prefix_cache": True,
    "session_cache": False,
    "pause": False,
}


class BatchBody(GenerationFields, Refusing):
    """Raw prompts, in which roles are written out, and how to go on from them."""

    refused: ClassVar[Mapping[str, IsNothing]] = {
        **Refusing.refused,
        "force_reasoning": empty,
        "logprobs": empty,
    }

    contents: list[str] = Field(min_length=1)
    pad_zero: bool | None = None  # whether token 0 comes first; None: as the model's texts have it


@routes.post("/v1/batch/completions", "/v2/chat/completions", body=BatchBody)
def batch_completions(service: Service, body: BatchBody) -> Answer:
    """Go on from several raw prompts together."""
    return batch(service, body, body.contents, body.pad_zero).answer(service)


@routes.post("/big_batch/completions", body=BatchBody)
def big_batch_completions(service: Service, body: BatchBody) -> Answer:
    """The same, always as a stream."""
    body.stream = True
    return batch(service, body, body.contents, body.pad_zero).answer(service)


class MiddlesBody(GenerationFields, Refusing):
    """Texts before and behind those that are wanted."""

    prefix: list[str] = Field(min_length=1)
    suffix: list[str]


@routes.post("/FIM/v1/batch-FIM", body=MiddlesBody)
def batch_middles(service: Service, body: MiddlesBody) -> Answer:
    """Write what stands between several prefixes and suffixes."""
    serving = service.serving()
    if len(body.prefix) != len(body.suffix):
        message = f"suffix has {len(body.suffix)} texts, expected {len(body.prefix)} as prefix has"
        raise ApiError(400, message, code="invalid_value", param="suffix")
    check_choices(service.settings, len(body.prefix), body.n, "prefix")
    pairs = zip(body.prefix, body.suffix, strict=True)
    found = [middle(serving, prefix, suffix, param="suffix") for prefix, suffix in pairs]
    requests = [
        requests_for(service, serving, body, _prompt(serving, body, each)) for each in found
    ]
    return Batch(serving, body, requests, kind="FIM.completion").answer(service)


def _prompt(serving: Serving, body: GenerationFields, prompt: prompts.Prompt) -> Prompt:
    return Prompt(
        tokens=[*serving.end_of_text, *serving.model.tokenizer.encode(prompt.text)],
        profile=profile(prompt.profile),
        stops=[*prompt.stops, *body.stop_strings],
        stop_tokens=[*serving.end_of_text, *body.stop_token_ids],
    )


class TranslateBody(Body):
    """Texts, and the languages that they are in and are wanted in."""

    source_lang: str = "auto"
    target_lang: str
    text_list: list[str]


@routes.post("/translate/v1/batch-translate", body=TranslateBody)
def batch_translate(service: Service, body: TranslateBody) -> Answer:
    """Translate texts, as Immersive Translate asks for it."""
    serving = service.serving()
    check_choices(service.settings, len(body.text_list), param="text_list")
    sources = [_source(body.source_lang, text) for text in body.text_list]
    fields = GenerationFields(max_tokens=_translation_tokens(service))
    with refusing("target_lang"):
        found = [
            prompts.translation(text, source, body.target_lang)
            for text, source in zip(body.text_list, sources, strict=True)
        ]
    requests = [
        requests_for(service, serving, fields, _prompt(serving, fields, each)) for each in found
    ]
    texts, _ = Batch(serving, fields, requests).texts(Choices(serving.engine, requests))
    translations = [
        {"detected_source_lang": code_of(source), "text": text.strip()}
        for source, text in zip(sources, texts, strict=True)
    ]
    return {"translations": translations}


def _source(asked: str, text: str) -> str:
    if asked in ("", "auto"):
        return language_of(text)
    with refusing("source_lang"):
        return prompts.language_name(asked)


def _translation_tokens(service: Service) -> int:
    return min(TRANSLATION_TOKENS, service.settings.max_tokens_limit)


@routes.get("/v1/server/status")
def server_status(service: Service) -> Answer:
    """What the server can do, which model it serves, and what it is busy with."""
    loaded = service.serving() if service.is_serving else None
    engine = None if loaded is None else loaded.engine.status()
    active = _active(service)
    return {
        "status": "loading" if service.status == Status.LOADING else "running",
        "api_version": API_VERSION,
        "engine_version": rwkvcpp.__version__,
        "model": None if loaded is None else _model(service, loaded),
        "capabilities": CAPABILITIES,
        "queue": {
            "slots": service.settings.max_batch,
            "running": 0 if engine is None else engine.running,
            "waiting": 0 if engine is None else engine.waiting,
        },
        "active_request": _shown(active),
        "active_requests": [_shown([each]) for each in active],
    }


def _model(service: Service, serving: Serving) -> dict[str, str]:
    """In deploy mode nobody is told where files are."""
    path = serving.model.path
    return {
        "id": serving.id,
        "name": serving.id,
        "path": path.name if service.deploy else str(path),
    }


def _active(service: Service) -> list[Active]:
    """Those of the same address; in deploy mode many may share one, and nobody is told."""
    return [] if service.deploy else service.active.of_client(http.remote_addr or "")


def _shown(active: Sequence[Active]) -> dict[str, Any] | None:
    """The oldest."""
    return {"request_id": active[0].id, "created": active[0].created} if active else None


class StopBody(Body):
    """Which request: the id that its answer has. Without one: all of the same address."""

    request_id: str | None = None


@routes.post("/v1/server/stop", changes_service=True, body=StopBody)
def server_stop(service: Service, body: StopBody) -> Answer:
    """End requests that are being answered: what there is, is their answer."""
    if body.request_id is not None:
        named = service.active.named(body.request_id)
        found = [] if named is None else [named]
    elif service.deploy:
        raise ApiError(
            400,
            "request_id is missing: in deploy mode a request is stopped by its id",
            code="invalid_value",
            param="request_id",
        )
    else:
        found = _active(service)
    for each in found:
        each.stop()
    left = [each for each in _active(service) if each not in found]
    return {"ok": True, "stopped": bool(found), "active_request": _shown(left)}

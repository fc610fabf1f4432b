"""OpenAI's list of models: the one that is served, and names that programs insist on."""

from __future__ import annotations

from typing import Any

from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service, Serving

routes = Routes("models")

OFFLINE = "rwkv"  # what is listed while there is no model


@routes.get("/v1/models", "/models", "/openai/v1/models")
def models(service: Service) -> Answer:
    """List the model that is served, and names that select it, too."""
    return {"object": "list", "data": [_served(service), *STAND_INS.values()]}


@routes.get("/v1/models/<path:id>", "/models/<path:id>")
def model(service: Service, id: str) -> Answer:
    """Tell of one model."""
    if id in STAND_INS:
        return STAND_INS[id]
    served = _served(service)
    if id == served["id"] or "rwkv" in id.lower():
        return served
    raise ApiError(404, f"the model {id!r} does not exist", code="model_not_found", param="model",
                   type="invalid_request_error")  # fmt: skip


def _served(service: Service) -> dict[str, Any]:
    if not service.is_serving:
        return _entry(OFFLINE, 0, "rwkv")
    serving = service.serving()
    return _entry(serving.id, serving.created, "rwkv") | {"meta": _facts(serving)}


def _facts(serving: Serving) -> dict[str, Any]:
    """What llama.cpp tells of a model, and which chat template it has."""
    model = serving.model
    return {
        "n_vocab": model.n_vocab,
        "n_ctx_train": model.metadata(f"{model.metadata('general.architecture')}.context_length"),
        "n_embd": model.n_embd,
        "n_layer": model.n_layer,
        "size": model.weight_bytes,
        "version": model.version,
        "weight_type": model.weight_type,
        "chat_template": serving.template.name,
    }


def _entry(id: str, created: int, owner: str) -> dict[str, Any]:
    return {
        "id": id,
        "object": "model",
        "created": created,
        "owned_by": owner,
        "root": id,
        "parent": None,
    }


def _stand_in(id: str, created: int, owner: str) -> dict[str, Any]:
    """One of OpenAI's own, as its list had them."""
    permission = {
        "id": f"modelperm-{id}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return _entry(id, created, owner) | {"permission": [permission]}


# Programs that list no models of other makers find these.
STAND_INS = {
    entry["id"]: entry
    for entry in (
        _stand_in("gpt-3.5-turbo", 1677610602, "openai"),
        _stand_in("text-davinci-003", 1669599635, "openai-internal"),
    )
}

"""RWKV-Runner's own routes: another model, defaults for requests, the cache of prompts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from rwkvcpp import ModelFormatError
from rwkvcpp.server.bodies import Body
from rwkvcpp.server.errors import ApiError, refusing
from rwkvcpp.server.fields import SamplingFields
from rwkvcpp.server.folders import file_in, is_there
from rwkvcpp.server.limits import check_max_tokens
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service
from rwkvcpp.server.settings import Settings

routes = Routes("runner")

SUCCESS = "success"

# What /update-config may set for requests to come.
DEFAULTS = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "penalty_decay",
    "global_penalty",
    "sampler",
    "state",
)


class Adapter(Body):
    """A LoRA to merge into the model."""

    path: str
    alpha: float | None = None  # None: as its own layout has it


class SwitchBody(Body):
    """Another model; "" is none."""

    model: str
    strategy: str = ""
    tokenizer: str | None = None
    type: str | None = None  # quantize a float file while it loads
    lora: list[Adapter] = Field(default_factory=list)
    customCuda: bool = False
    deploy: bool = False


@routes.post("/switch-model", touches_machine=True, body=SwitchBody)
def switch_model(service: Service, body: SwitchBody) -> Answer:
    """Serve another model, or none; the old one answers until the new one is there."""
    notes: list[str] = []
    if body.model:
        with _loading(body.model):
            notes += service.load(**_options(service.settings, body)).notes
    else:
        service.unload()
    if body.customCuda:
        notes.append("customCuda has no effect: this build computes on the CPU")
    if body.deploy:
        service.deploy = True
    return {"message": SUCCESS, "warnings": notes} if notes else SUCCESS


def _options(settings: Settings, body: SwitchBody) -> dict[str, Any]:
    """What the body says, as Model() takes it."""
    options: dict[str, Any] = {"path": find(settings, body.model, "model")}
    if body.strategy:
        options["strategy"] = body.strategy
    if body.tokenizer:
        options["tokenizer"] = find(settings, body.tokenizer, "tokenizer")
    if body.type:
        options["type"] = body.type
    if body.lora:
        found = [(find(settings, each.path, "lora"), each.alpha) for each in body.lora]
        options["lora"] = found
    return options


def find(settings: Settings, name: str, param: str) -> Path:
    """The file or folder that a client calls `name`: in the settings' folders, or anywhere.

    Relative names begin in the working directory, or in the one above. ApiError 404 if there is
    none.
    """
    if settings.model_folder:
        path = file_in(settings.model_folder, name, param=param)
        if path is None:
            raise _not_found(name, param, "expected a file in a folder of this server")
        return path
    for path in (Path(name), Path("..", name)):
        if is_there(path):
            return path
    raise _not_found(name, param, "expected a file or a folder")


def _not_found(name: str, param: str, expected: str) -> ApiError:
    message = f"{param} {name[:200]!r} is not there, {expected}"
    return ApiError(404, message, code="file_not_found", param=param)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """What cannot be loaded is the file's fault, or that of whoever asked for it."""
    try:
        with refusing():
            yield
    except FileNotFoundError as error:  # gone meanwhile
        raise _not_found(name, "model", "expected a file or a folder") from error
    except (ModelFormatError, OSError) as error:
        message = f"failed to load: {error}"
        raise ApiError(422, message, code="model_format", param="model") from error


class ConfigBody(SamplingFields):
    """Defaults for requests to come; what is not sent stays as it was."""

    state: str | None = None


@routes.post("/update-config", changes_service=True, body=ConfigBody)
def update_config(service: Service, body: ConfigBody) -> Answer:
    """Set defaults for requests to come: how tokens are drawn, and a tuned state."""
    sent = {name: getattr(body, name) for name in DEFAULTS if name in body.model_fields_set}
    if body.max_tokens is not None:
        check_max_tokens(service.settings, body.max_tokens)
    if body.state is not None:
        sent["state"] = body.state if _means_state(service, body.state) else ""
    service.defaults = {**service.defaults, **sent}
    return SUCCESS


def _means_state(service: Service, name: str) -> bool:
    """Whether it names a tuned state: folders and "" name none, and unmount the one there is."""
    if not service.is_serving:  # the model to come tells whether the state is one of its
        return bool(name) and name[-1] not in "/\\"
    return service.serving().states.named(name) is not None


@routes.get("/status")
def status(service: Service) -> Answer:
    """Whether there is a model (3), one is being loaded (2), or neither (0)."""
    return {"status": int(service.status), "pid": os.getpid(), "device_name": "CPU"}


@routes.post("/disable-state-cache", touches_machine=True)
def disable_state_cache(service: Service) -> Answer:
    """Read every prompt to come from its beginning."""
    service.keep_prefixes(False)
    return SUCCESS


@routes.post("/enable-state-cache", touches_machine=True)
def enable_state_cache(service: Service) -> Answer:
    """Begin prompts from what was read before."""
    service.keep_prefixes(True)
    return SUCCESS


@routes.post("/reset-state-cache", "/reset-state", touches_machine=True)
def reset_state_cache(service: Service) -> Answer:
    """Forget what was read before."""
    service.forget_prefixes()
    return SUCCESS

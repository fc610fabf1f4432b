"""Settings: everything that can be said about a server before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _setting(default: Any, help: str, **more: Any) -> Any:
    """A field with the text that --help shows for it."""
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server serves, to whom, and how much of it."""

    model: str | Path | None = _setting(
        None, "a model file or folder (without it: the small bundled storyteller)"
    )
    no_model: bool = _setting(False, "start empty; /switch-model loads one")
    type: str | None = _setting(None, "quantize a float file while it loads: q8_0, q5_1, q4_0 ...")
    tokenizer: str | Path | None = _setting(None, "vocabulary (the model's own)")
    template: str | None = _setting(None, "chat template, by its name or a file (the model's own)")
    threads: int | None = _setting(None, "threads to compute on (physical cores)")
    host: str = _setting("127.0.0.1", "address to listen on; 0.0.0.0 lets the network in")
    port: int = _setting(8000, "port to listen on; 0 for any that is free")
    max_batch: int = _setting(16, "requests that run at once")
    max_waiting: int = _setting(128, "requests that wait; more are told to come back later")
    api_key: Sequence[str] = _setting((), "a key that requests must bring; repeatable")
    cors: Sequence[str] = _setting(
        (), "an origin whose pages may ask, http://host:port; repeatable"
    )
    allow_host: Sequence[str] = _setting(
        (), "a name that this server goes by, beside localhost and its address; repeatable"
    )
    deploy: bool = _setting(False, "refuse what touches this machine: other models, the end")
    max_tokens_limit: int = _setting(102_400, "the most tokens that a request may ask for")
    max_prompt_tokens: int = _setting(1_048_576, "the longest prompt")
    max_choices: int = _setting(2048, "the most answers to one request: its prompts times n")
    max_body_bytes: int = _setting(16 * 2**20, "the longest body of a request")
    state: Sequence[str | Path] = _setting((), "a tuned state to load; repeatable")
    state_folder: Sequence[str | Path] = _setting(
        (), "a folder whose tuned states requests may name; repeatable"
    )
    model_folder: Sequence[str | Path] = _setting(
        (), "a folder that /switch-model loads from (without it: any file); repeatable"
    )
    log_requests: bool = _setting(False, "write the bodies of requests to the log")
    grace: float = _setting(10.0, "seconds that running requests get when the server ends")

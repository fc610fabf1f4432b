"""Settings: everything that can be said about a server before it starts.

The fields below are the only list of them: the options of `rwkvcpp serve`, the keys of its file and
the RWKVCPP_ variables are made of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from rwkvcpp.server.setting_kinds import ADAPTER, FLAG, INTEGER, PATH, SECONDS, TEXT, Kind

GROUPS = ("model", "address", "who may ask", "limits", "log and end")
ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+")


@dataclass(frozen=True)
class About:
    """What is known of a setting beside its name."""

    kind: Kind
    group: str
    help: str
    default: Any
    least: float = -math.inf
    most: float = math.inf

    @property
    def is_list(self) -> bool:
        """Whether it may be given several times."""
        return isinstance(self.default, tuple)

    @property
    def shows_default(self) -> bool:
        """Whether it says more than nothing or no."""
        return not self.is_list and self.default not in (None, False)


def _setting(default: Any, kind: Kind, group: str, help: str, **more: Any) -> Any:
    """A field; `more` is About's."""
    return field(default=default, metadata={"about": About(kind, group, help, default, **more)})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server serves, to whom, and how much of it."""

    model: str | Path | None = _setting(
        None, PATH, "model", "a model file or folder (without it: the small bundled storyteller)"
    )
    no_model: bool = _setting(False, FLAG, "model", "start empty; /switch-model loads one")
    type: str | None = _setting(
        None, TEXT, "model", "quantize a float file while it loads: q8_0, q5_1, q4_0 ..."
    )
    strategy: str | None = _setting(
        None, TEXT, "model", "the same in other programs' words, such as 'cuda fp16i8'"
    )
    lora: Sequence[tuple[str | Path, float | None]] = _setting(
        (), ADAPTER, "model", "merge a LoRA; may be given several times"
    )
    tokenizer: str | Path | None = _setting(None, PATH, "model", "vocabulary (the model's own)")
    template: str | None = _setting(
        None, TEXT, "model", "chat template, by its name or a file (the model's own)"
    )
    state: Sequence[str | Path] = _setting(
        (), PATH, "model", "a tuned state that requests may name; may be given several times"
    )
    state_folder: Sequence[str | Path] = _setting(
        (),
        PATH,
        "model",
        "a folder whose tuned states requests may name; may be given several times",
    )
    model_folder: Sequence[str | Path] = _setting(
        (),
        PATH,
        "model",
        "a folder that /switch-model loads from (without it: any file); may be given several times",
    )
    threads: int | None = _setting(
        None, INTEGER, "model", "threads to compute on (physical cores)", least=1
    )
    mmap: bool = _setting(
        False, FLAG, "model", "leave the weights in the file: starts at once, slower"
    )

    host: str = _setting(
        "127.0.0.1", TEXT, "address", "address to listen on; 0.0.0.0 lets the network in"
    )
    port: int = _setting(
        8000, INTEGER, "address", "port to listen on; 0 takes one that is free", least=0, most=65535
    )

    api_key: Sequence[str] = _setting(
        (), TEXT, "who may ask", "a key that requests must bring; may be given several times"
    )
    cors: Sequence[str] = _setting(
        (),
        TEXT,
        "who may ask",
        "an origin whose web pages may ask, such as http://localhost:3000, or * for all; may be "
        "given several times",
    )
    allow_host: Sequence[str] = _setting(
        (),
        TEXT,
        "who may ask",
        "another name that this server has, for what web pages may ask; may be given several times",
    )
    deploy: bool = _setting(
        False, FLAG, "who may ask", "refuse what touches this machine: other models, the end"
    )

    max_batch: int = _setting(16, INTEGER, "limits", "requests that run at once", least=1)
    max_waiting: int = _setting(
        128, INTEGER, "limits", "requests that wait; more are told to come back later", least=1
    )
    max_tokens_limit: int = _setting(
        102_400, INTEGER, "limits", "the most tokens that a request may ask for", least=1
    )
    max_prompt_tokens: int = _setting(
        1_048_576, INTEGER, "limits", "the longest prompt, in tokens", least=1
    )
    max_choices: int = _setting(
        2048, INTEGER, "limits", "the most answers to one request: its prompts times n", least=1
    )
    max_body_bytes: int = _setting(
        64 * 2**20, INTEGER, "limits", "the longest body of a request, in bytes", least=1
    )

    log_requests: bool = _setting(
        False, FLAG, "log and end", "write the bodies of requests to the log"
    )
    grace: float = _setting(
        10.0,
        SECONDS,
        "log and end",
        "how long running requests may go on when the server ends",
        least=0,
        most=86_400,
    )

    def __post_init__(self) -> None:
        """ValueError for what cannot be."""
        for each in fields(self):
            self._check(each, about(each))
        if self.no_model and self.model is not None:
            raise ValueError(f"model is {self.model} and no_model is set, expected one of them")
        if not all(self.api_key):
            raise ValueError("an api_key is empty, expected keys that nobody guesses")
        for origin in self.cors:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"cors is {origin!r}, expected an origin such as http://localhost:3000, or *"
                )

    def _check(self, each: Field[Any], about: About) -> None:
        value = getattr(self, each.name)
        if about.is_list:  # one alone may be given as it is
            value = (value,) if isinstance(value, str | Path) else tuple(value)
            object.__setattr__(self, each.name, value)
        elif isinstance(value, int | float) and not about.least <= value <= about.most:
            limits = f"at least {about.least}"
            if about.most < math.inf:
                limits = f"{about.least} to {about.most}"
            raise ValueError(f"{each.name} is {value}, expected {limits}")


def about(setting: Field[Any]) -> About:
    """What is known of one of the fields."""
    found: About = setting.metadata["about"]
    return found


SETTINGS: Mapping[str, About] = {each.name: about(each) for each in fields(Settings)}

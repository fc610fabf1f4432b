"""Fields that several shapes share, under all the names that clients know them by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field

from rwkvcpp import SamplingParams
from rwkvcpp.profiles import Profile
from rwkvcpp.server.bodies import Body

TOKEN_LIMIT = 2**31 - 1

# A field of SamplingParams -> the field of a request, where the names differ.
SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "penalty_decay": "penalty_decay",
    "order": "sampler",
}

Bias = Annotated[float, Field(ge=-100, le=100)]
TokenId = Annotated[int, Field(ge=0, le=TOKEN_LIMIT)]


class SamplingFields(Body):
    """How tokens are drawn, and how many; what is not sent is as the model's profile has it."""

    max_tokens: int | None = Field(
        None, ge=0, validation_alias=AliasChoices("max_tokens", "max_completion_tokens")
    )
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=TOKEN_LIMIT)
    presence_penalty: float | None = Field(
        None, ge=-100, le=100, validation_alias=AliasChoices("presence_penalty", "alpha_presence")
    )
    frequency_penalty: float | None = Field(
        None,
        ge=-100,
        le=100,
        validation_alias=AliasChoices("frequency_penalty", "alpha_frequency"),
    )
    penalty_decay: float | None = Field(
        None, ge=0, le=1, validation_alias=AliasChoices("penalty_decay", "alpha_decay")
    )
    global_penalty: bool = False
    sampler: Literal["rwkv", "openai", "rapid"] | None = None
    logit_bias: dict[TokenId, Bias] = Field(default_factory=dict)
    seed: int | None = None

    def sampling(self, profile: Profile, defaults: Mapping[str, Any]) -> SamplingParams:
        """The profile's parameters, with those of the server, with those of this request."""
        sent = {name: getattr(self, field) for name, field in SAMPLING.items()}
        set_before = {name: defaults.get(field) for name, field in SAMPLING.items()}
        changes = {
            name: value if value is not None else set_before[name] for name, value in sent.items()
        }
        return profile.params(
            **{name: value for name, value in changes.items() if value is not None},
            logit_bias=self.logit_bias,
            seed=self._seed(),
        )

    def _seed(self) -> int | None:
        """-1 is llama.cpp's "any"; other numbers below 0 are as good as those above."""
        return None if self.seed is None or self.seed == -1 else self.seed % 2**64

    def limit(self, profile: Profile, defaults: Mapping[str, Any]) -> int:
        """How many tokens may be drawn."""
        if self.max_tokens is not None:
            return self.max_tokens
        return defaults.get("max_tokens") or profile.max_tokens or 500


class StopFields(Body):
    """Where an answer ends, beside where its template says."""

    stop: str | list[str] = Field(default_factory=list)
    stop_token_ids: list[TokenId] = Field(default_factory=list)

    @property
    def stop_strings(self) -> list[str]:
        """Those that are none are no stops: clients send empty ones."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop
        return [stop for stop in stops if stop]

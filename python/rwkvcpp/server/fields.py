"""Fields that several shapes share, under all the names that clients know them by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from rwkvcpp import SamplingParams
from rwkvcpp.profiles import Profile
from rwkvcpp.server.bodies import Body

TOKEN_LIMIT = 2**31 - 1
UNTOLD_TOKENS = 4096  # where nobody says how many: room for a thought and what comes of it
MOST_STOPS = 128  # each of them is looked for at every token
LONGEST_STOP = 256

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
StopText = Annotated[str, Field(max_length=LONGEST_STOP)]


class SamplingFields(Body):
    """How tokens are drawn, and how many; what is not sent is as the model's profile has it."""

    max_tokens: int | None = Field(
        None,
        ge=0,
        le=TOKEN_LIMIT,
        validation_alias=AliasChoices("max_tokens", "max_completion_tokens"),
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
    global_penalty: bool | None = None
    sampler: Literal["rwkv", "openai", "rapid"] | None = None
    logit_bias: dict[TokenId, Bias] = Field(default_factory=dict)
    seed: int | None = None

    def sampling(
        self, profile: Profile, defaults: Mapping[str, Any], index: int = 0
    ) -> SamplingParams:
        """The profile's parameters, with those of the server, with those of this request.

        index: of several answers, which have seeds of their own.
        """
        sent = {name: getattr(self, field) for name, field in SAMPLING.items()}
        set_before = {name: defaults.get(field) for name, field in SAMPLING.items()}
        changes = {
            name: value if value is not None else set_before[name] for name, value in sent.items()
        }
        return profile.params(
            **{name: value for name, value in changes.items() if value is not None},
            logit_bias=self.logit_bias,
            seed=self._seed(index),
        )

    def _seed(self, index: int) -> int | None:
        """-1 is llama.cpp's "any"; other numbers below 0 are as good as those above."""
        if self.seed is None or self.seed == -1:
            return None
        return (self.seed + index) % 2**64

    def limit(self, profile: Profile, defaults: Mapping[str, Any]) -> int:
        """How many tokens may be drawn."""
        if self.max_tokens is not None:
            return self.max_tokens
        return defaults.get("max_tokens") or profile.max_tokens or UNTOLD_TOKENS

    def counts_prompt(self, defaults: Mapping[str, Any]) -> bool:
        """Whether penalties count the words of the prompt, too."""
        if self.global_penalty is not None:
            return self.global_penalty
        return bool(defaults.get("global_penalty"))


class StopFields(Body):
    """Where an answer ends, beside where its template says."""

    stop: StopText | Annotated[list[StopText | None], Field(max_length=MOST_STOPS)] = Field(
        default_factory=list
    )
    stop_token_ids: list[TokenId] = Field(default_factory=list)
    stop_tokens: list[TokenId | StopText] = Field(default_factory=list, max_length=MOST_STOPS)

    @property
    def stop_strings(self) -> list[str]:
        """Those that are none are no stops: clients send empty ones."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop
        texts = [each for each in self.stop_tokens if isinstance(each, str)]
        return [stop for stop in [*stops, *texts] if stop]

    @model_validator(mode="after")
    def _stop_tokens(self) -> StopFields:
        """Some programs have one list for both, tokens and texts."""
        ids = [each for each in self.stop_tokens if isinstance(each, int)]
        if ids:  # what is assigned counts as sent
            self.stop_token_ids = [*self.stop_token_ids, *ids]
        return self


class StreamOptions(Body):
    """What a stream tells beside the text."""

    include_usage: bool = False


class AnswerFields(Body):
    """How many answers, and in which form they come."""

    n: int = Field(1, ge=1, le=128)
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    chunk_size: int = Field(1, ge=1, le=1024)  # tokens that an event of a stream has
    metrics: bool = Field(
        False, validation_alias=AliasChoices("metrics", "report_metrics", "include_metrics")
    )


class StateFields(Body):
    """The state that a prompt continues, and the one that an answer leaves."""

    state: str | dict[str, Any] | None = None
    return_state: Literal["base64", "json"] | None = None
    state_dtype: Literal["float16", "float32"] = "float16"
    no_cache: bool = False
    use_prefix_cache: bool = Field(
        True, validation_alias=AliasChoices("use_prefix_cache", "cache_prompt")
    )

    @property
    def uses_cache(self) -> bool:
        """Whether the prompt may begin from what was read before."""
        return self.use_prefix_cache and not self.no_cache

    @field_validator("return_state", mode="before")
    @classmethod
    def _form(cls, value: Any) -> Any:
        """True is base64, and there are several ways to say no."""
        if isinstance(value, str):
            value = value.lower()
        named = {True: "base64", "true": "base64", False: None, "false": None, "no": None, "": None}
        return named.get(value, value) if isinstance(value, (bool, str)) else value


class GenerationFields(SamplingFields, StopFields, AnswerFields, StateFields):
    """What every body has that asks for text."""

"""The body of a completion: a prompt, or several, and how to go on from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from rwkvcpp.server.errors import not_supported
from rwkvcpp.server.fields import GenerationFields
from rwkvcpp.server.openai.texts import Text, Texts, as_list
from rwkvcpp.server.refusals import IsNothing, Refusing, empty

EMPTY = "\n"  # what RWKV-Runner goes on from where there is no prompt


class CompletionBody(GenerationFields, Refusing):
    """A prompt, or several, and how to go on from them.

    A prompt is a text or its token ids, which are taken as they are. A text has token 0 in front
    where the model's raw texts begin so; `pad_zero` says otherwise.
    """

    refused: ClassVar[Mapping[str, IsNothing]] = {**Refusing.refused, "use_beam_search": empty}

    prompt: Texts = ""
    suffix: str | None = None
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=20)
    best_of: int | None = Field(None, ge=0)
    pad_zero: bool | None = None

    @field_validator("logprobs", mode="before")
    @classmethod
    def _no_logprobs(cls, value: Any) -> Any:
        return None if value is False else value

    @property
    def prompts(self) -> list[Text]:
        """One or more; what stands before a suffix may be nothing."""
        return [prompt or ("" if self.suffix else EMPTY) for prompt in as_list(self.prompt)]

    def check(self) -> None:
        """ApiError for what goes beyond one field."""
        if self.best_of is not None and self.best_of > self.n:
            raise not_supported(
                f"best_of is {self.best_of}, expected n={self.n}: choosing is not supported",
                "best_of",
            )

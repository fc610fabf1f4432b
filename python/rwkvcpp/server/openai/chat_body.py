"""The body of a chat completion: a conversation, and how to answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field

from rwkvcpp.server.bodies import Body
from rwkvcpp.server.fields import GenerationFields
from rwkvcpp.server.refusals import IsNothing, Refusing, empty, empty_or

ThinkType = Literal["fast", "free", "preferChinese", "en", "enShort", "enLong"]


class TemplateKwargs(Body):
    """What programs that render Jinja are told; of these, our formats know four."""

    enable_thinking: bool | None = None
    reasoning_effort: str | None = None
    rwkv_prompt_template: Literal["assistant", "bot", "function_calling"] | None = None
    rwkv_generation_prompt: Literal["open_think", "fake_think"] | None = None


class ChatBody(GenerationFields, Refusing):
    """A conversation, and how to answer it."""

    refused: ClassVar[Mapping[str, IsNothing]] = {
        **Refusing.refused,
        "tool_choice": empty_or("none", "auto"),
        "functions": empty,
        "function_call": empty_or("none", "auto"),
        "audio": empty,
        "modalities": empty_or(["text"]),
        "web_search_options": empty,
        "force_reasoning": empty,
    }

    messages: list[dict[str, Any]] = Field(default_factory=list)
    system: str | None = None
    contents: list[str] = Field(default_factory=list)  # raw prompts, in place of messages
    pad_zero: bool | None = None  # of these
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: Literal["none", "auto", ""] = "auto"
    parallel_tool_calls: bool = True
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    enable_thinking: bool | None = Field(
        None, validation_alias=AliasChoices("enable_thinking", "enable_think", "think")
    )
    think_type: ThinkType | None = None
    reasoning_effort: str | None = None
    reasoning_format: Literal["auto", "deepseek", "none"] | None = None
    chat_template_kwargs: TemplateKwargs = Field(default_factory=TemplateKwargs)
    user_name: str | None = None
    assistant_name: str | None = None
    system_name: str | None = None
    presystem: bool = False

    @property
    def tools_offered(self) -> list[dict[str, Any]]:
        """Those that the model may call."""
        return [] if self.tool_choice == "none" else self.tools

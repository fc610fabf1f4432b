"""Which template a conversation is told in, and how its answer begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.openai.chat_body import ChatBody
from rwkvcpp.templates import TEMPLATES, Template
from rwkvcpp.templates.messages import ROLES

if TYPE_CHECKING:
    from rwkvcpp.server.service import Serving

USER_AND_ASSISTANT = ("world", "g1", "g1b", "g1a")

# What chat_template_kwargs of the models' Hugging Face form are here.
PROMPT_TEMPLATES = {"bot": "bot", "function_calling": "functions"}
GENERATION_PROMPTS = {"open_think": "think", "fake_think": "fake-think"}


# What RWKV Chat calls them; the first that the template has.
THINK_TYPES = {
    "fast": ("fake-think", "chat"),
    "free": ("think",),
    "preferChinese": ("think-zh", "think"),
    "en": ("think-medium", "think"),
    "enShort": ("think-a-bit", "think"),
    "enLong": ("think-a-lot", "think"),
}


def template_for(serving: Serving, body: ChatBody, tools: Sequence[Mapping[str, Any]]) -> Template:
    """The one that `body` asks for or the model has, with the names that `body` gives."""
    template = _named(serving, body.chat_template_kwargs.rwkv_prompt_template)
    if tools or any(map(_is_about_calls, body.messages)):
        template = template.for_tools()
    names = {"user": body.user_name, "assistant": body.assistant_name, "system": body.system_name}
    given = {role: name for role, name in names.items() if name is not None}
    return template.with_names(**given) if given else template


def _named(serving: Serving, asked: str | None) -> Template:
    if asked is None:
        return serving.template
    if asked in PROMPT_TEMPLATES:
        return TEMPLATES[PROMPT_TEMPLATES[asked]]
    candidates = (serving.template, serving.model.chat_template)
    ours = (each for each in candidates if each.name in USER_AND_ASSISTANT)
    return next(ours, TEMPLATES["g1"])


def _is_about_calls(message: Mapping[str, Any]) -> bool:
    role = str(message.get("role")).lower()
    return bool(message.get("tool_calls")) or ROLES.get(role) == "tool"


def mode_for(template: Template, body: ChatBody, begun: str | None) -> str:
    """How the answer begins; `begun` is what the client has written of it."""
    if begun is not None:
        return _of_begun(template, begun)
    kwargs = body.chat_template_kwargs
    if kwargs.rwkv_generation_prompt is not None:
        mode = GENERATION_PROMPTS[kwargs.rwkv_generation_prompt]
        if mode not in template.modes:
            raise ApiError(
                400,
                f"rwkv_generation_prompt is {kwargs.rwkv_generation_prompt!r}, "
                f"and the template {template.name} knows no thoughts",
                code="invalid_value",
                param="chat_template_kwargs",
            )
        return mode
    if body.think_type is not None:
        wanted = THINK_TYPES[body.think_type]
        return next((mode for mode in wanted if mode in template.modes), template.default_mode)
    thinks = kwargs.enable_thinking if body.enable_thinking is None else body.enable_thinking
    effort = body.reasoning_effort or kwargs.reasoning_effort
    return template.mode_for(enable_thinking=thinks, reasoning_effort=effort)


def _of_begun(template: Template, begun: str) -> str:
    """The mode that begins most like it: what it is good for is which parameters are usual."""
    wanted = template.default_mode
    if "<think" in begun:
        wanted = "fake-think" if "</think" in begun else "think"
    return wanted if wanted in template.modes else template.default_mode

"""`apply_chat_template` as Hugging Face's tokenizers have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rwkvcpp.templates.messages import MessageDict
from rwkvcpp.templates.template import Template

if TYPE_CHECKING:
    from rwkvcpp.tokenizer import Tokenizer


def apply_chat_template(
    messages: Sequence[MessageDict],
    *,
    template: Template,
    tokenizer: Tokenizer,
    tokenize: bool = True,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    enable_thinking: bool | None = None,
    reasoning_effort: str | None = None,
) -> list[int] | str:
    """The tokens of `messages`, or their text.

    tokenize: tokens, with token 0 in front where the template has it; else the text.
    add_generation_prompt: end with the beginning of a reply.
    continue_final_message: leave the last message open, so that the model goes on in it.
    tools: functions that may be called, as OpenAI's API has them.
    enable_thinking, reasoning_effort: how the reply begins (`Template.mode_for`).
    """
    if add_generation_prompt and continue_final_message:
        raise ValueError("a reply cannot begin while the final message continues: choose one")
    if continue_final_message and messages:
        messages = [*messages[:-1], {**messages[-1], "prefix": True}]
    is_told = enable_thinking is not None or reasoning_effort is not None
    mode = (
        template.mode_for(enable_thinking=enable_thinking, reasoning_effort=reasoning_effort)
        if is_told
        else None
    )
    text = template.render(
        messages, mode=mode, add_generation_prompt=add_generation_prompt, tools=tools
    )
    return with_begin_of_text(tokenizer, text, template) if tokenize else text


def with_begin_of_text(tokenizer: Tokenizer, text: str, template: Template) -> list[int]:
    """The tokens of a prompt, with the token in front that parts texts if the template has it."""
    end = tokenizer.end_of_text
    begin = [end] if template.begin_of_text and end is not None else []
    return begin + tokenizer.encode(text)

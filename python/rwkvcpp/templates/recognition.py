"""Jinja text that says what one of ours says: known by its words, and not run."""

from __future__ import annotations

import re

# llama.cpp's name for the form, in place of a text.
WORLD_NAME = "rwkv-world"

# Words that are all in a text -> our template. The first row that fits counts.
SIGNS: tuple[tuple[tuple[str, ...], str], ...] = (
    # The models' Hugging Face form has three formats in one text; this is the one for all of G1.
    (("rwkv_prompt_template", "Assistant: "), "g1"),
    (("✿", "Bot"), "bot"),
    (("User: ", "Assistant:", "enable_thinking is false"), "world"),  # llama.cpp: plain unless told
    (("User: ", "Assistant:", "<think>"), "g1"),  # rwkv-mobile: a fake thought unless told
    (("User: ", "Assistant:"), "world"),
)
FOREIGN = re.compile(r"<\|\w|\[INST\]|<start_of_turn>")  # marks of other models' templates


def of_twin(text: str) -> str | None:
    """The name of the template that `text` is the twin of; None where it is none of ours."""
    ours = re.match(r"\{#- rwkvcpp: ([\w-]+)", text)
    return ours[1] if ours else None


def recognised(text: str) -> str | None:
    """The name of the template of ours that `text` means; None for an unknown one."""
    if text.strip() == WORLD_NAME:
        return "world"
    if FOREIGN.search(text):
        return None
    return next((name for words, name in SIGNS if all(word in text for word in words)), None)

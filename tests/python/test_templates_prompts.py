"""Prompts that are no conversation: the trained strings, and their tokens."""

from __future__ import annotations

import pytest

from rwkvcpp.profiles import PROFILES
from rwkvcpp.templates import prompts
from rwkvcpp.tokenizer import load_tokenizer

GOLDENS = [
    (prompts.fill_in_the_middle("a = ", "\nb"), "✿prefix✿✿suffix✿\nb✿middle✿a = ", ("✿",)),
    (
        prompts.question_about("Rome is old.\n\nVery. \n", "How\n\nold?"),
        "Rome is old.\n\nVery.\n\nQuestion: How\nold? Answer:",
        ("\n\nQuestion:",),
    ),
    (prompts.translation(" Hi\r\n\r\nyou", "en", "zh-CN"), "English: Hi\n\nyou\n\nChinese:", ()),
    (
        prompts.instruction("Sort.", input="3 1 2"),
        "Instruction: Sort.\n\nInput: 3 1 2\n\nResponse:",
        ("\n\nInstruction:",),
    ),
    (prompts.instruction("Hi"), "Instruction: Hi\n\nResponse:", ("\n\nInstruction:",)),
    (
        prompts.raven_instruction("Sort."),
        "\nBelow is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n# Instruction:\nSort.\n\n# Response:\n",
        ("\n\n# ",),
    ),
    (
        prompts.raven_instruction("Sort.", input="3 1 2"),
        "\nBelow is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "# Instruction:\nSort.\n\n# Input:\n3 1 2\n\n# Response:\n",
        ("\n\n# ",),
    ),
    (prompts.question("Why?\n\nHow?"), "Question: Why?\nHow?\n\nAnswer:", ("\n\nQuestion:",)),
]


@pytest.mark.parametrize(("prompt", "text", "stops"), GOLDENS)
def test_prompts_are_written_as_the_models_were_trained(prompt, text, stops):
    assert prompt.text == text
    assert prompt.stops == stops
    assert prompt.stop_tokens == (0,)
    assert prompt.profile in PROFILES


def test_the_middle_is_the_tokens_that_models_were_trained_on(shared):
    tokenizer = load_tokenizer(shared / "vocab" / "rwkv_vocab_v20230424.txt", 65536)
    ids = tokenizer.encode(prompts.fill_in_the_middle("", "").text)
    assert ids == [10060, 42093, 10060, 10060, 42337, 10060, 10060, 41851, 10060]


@pytest.mark.parametrize(
    ("language", "name"),
    [("zh-TW", "Chinese"), ("zh_CN", "Chinese"), ("EN", "English"), ("japanese", "Japanese")],
)
def test_languages_go_by_code_or_name(language, name):
    assert prompts.language_name(language) == name


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="the language is 'Klingon', expected an English name"):
        prompts.translation("Qapla'", "Klingon", "en")

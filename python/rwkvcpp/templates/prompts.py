"""Prompts that are no conversation: a middle, an answer out of material, a translation, a task."""

from __future__ import annotations

from dataclasses import dataclass

from rwkvcpp.templates.cleaning import BLINKDL


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text for the model to go on with, and where it is to end."""

    text: str
    stops: tuple[str, ...] = ()
    stop_tokens: tuple[int, ...] = (0,)
    profile: str = "mechanical"  # of rwkvcpp.profiles


def fill_in_the_middle(prefix: str, suffix: str) -> Prompt:
    """For the text between `prefix` and `suffix`: G1c and newer. The prefix comes last."""
    text = f"✿prefix✿✿suffix✿{suffix}✿middle✿{prefix}"
    return Prompt(text=text, stops=("✿",))


def question_about(material: str, question: str) -> Prompt:
    """For an answer that is in `material`: G1."""
    text = f"{_trimmed(material)}\n\nQuestion: {_one_turn(question)} Answer:"
    return Prompt(text=text, stops=("\n\nQuestion:",))


def translation(text: str, source: str, target: str) -> Prompt:
    """For `text` in the language `target`; languages are codes ("en", "zh-CN") or English names."""
    languages = language_name(source), language_name(target)
    return Prompt(text=f"{languages[0]}: {_trimmed(text)}\n\n{languages[1]}:")


def instruction(task: str, *, input: str = "") -> Prompt:
    """For what `task` asks for, done with `input`: World and newer."""
    parts = [f"Instruction: {_one_turn(task)}", f"Input: {_one_turn(input)}", "Response:"]
    text = "\n\n".join(part for part in parts if part != "Input: ")
    return Prompt(text=text, stops=("\n\nInstruction:",), profile="standard")


def raven_instruction(task: str, *, input: str = "") -> Prompt:
    """For what `task` asks for, done with `input`: Raven, and ChatRWKV's +i."""
    begun = "Below is an instruction that describes a task"
    if input:
        begun += ", paired with an input that provides further context"
    begun += ". Write a response that appropriately completes the request."
    parts = [begun, f"# Instruction:\n{task}"]
    parts += [f"# Input:\n{input}"] if input else []
    text = "\n" + "\n\n".join([*parts, "# Response:\n"])
    return Prompt(text=text, stops=("\n\n# ",), profile="standard")


def question(text: str) -> Prompt:
    """For the answer to a question."""
    prompt = f"Question: {_one_turn(text)}\n\nAnswer:"
    return Prompt(text=prompt, stops=("\n\nQuestion:",), profile="standard")


# ISO 639-1. Chinese of any place is one language to the models.
LANGUAGES = {
    "ar": "Arabic", "bg": "Bulgarian", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "ko": "Korean", "ms": "Malay", "nl": "Dutch", "no": "Norwegian",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish",
    "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def language_name(language: str) -> str:
    """The English name of a language that is given by code or name."""
    code = language.lower().replace("_", "-").partition("-")[0]
    if code in LANGUAGES:
        return LANGUAGES[code]
    if language.capitalize() in LANGUAGES.values():
        return language.capitalize()
    raise ValueError(
        f"the language is {language!r}, expected an English name or one of {', '.join(LANGUAGES)}"
    )


def _one_turn(text: str) -> str:
    return BLINKDL.clean(text, True)


def _trimmed(text: str) -> str:
    return BLINKDL.clean(text, False)

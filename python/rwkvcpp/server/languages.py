"""Languages: which one a text is in, as far as its letters tell."""

from __future__ import annotations

import unicodedata
from collections import Counter

from rwkvcpp.templates.prompts import LANGUAGES

# Words in the Unicode names of letters; the first that a text has enough of. Japanese has Chinese
# characters among its own, so it comes before Chinese.
SCRIPTS = (
    (("HIRAGANA", "KATAKANA"), "Japanese"),
    (("HANGUL",), "Korean"),
    (("CJK",), "Chinese"),
    (("CYRILLIC",), "Russian"),
    (("ARABIC",), "Arabic"),
    (("HEBREW",), "Hebrew"),
    (("GREEK",), "Greek"),
    (("THAI",), "Thai"),
    (("DEVANAGARI",), "Hindi"),
)
ENOUGH = 0.2  # of the letters: there are foreign words in every language
USUAL = "English"  # of all that Latin letters may be
SAMPLE = 1000  # characters that are looked at

CODES = {name: code for code, name in LANGUAGES.items()}


def language_of(text: str) -> str:
    """The English name of the language that `text` is most likely in."""
    letters = [each for each in text[:SAMPLE] if each.isalpha()]
    scripts = Counter(unicodedata.name(each, "").partition(" ")[0] for each in letters)
    for words, language in SCRIPTS:
        if letters and sum(scripts[word] for word in words) >= ENOUGH * len(letters):
            return language
    return USUAL


def code_of(language: str) -> str:
    """The code of a language that is given by its English name."""
    return CODES[language]

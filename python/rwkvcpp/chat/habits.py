"""Habits: what ChatRWKV does to logits and tokens because RWKV-4 was trained as it was.

newline shaping     no line end at once, fewer at first, more and more once a reply is long
avoid repeat        ，：？！ never twice in a row
split blank lines   the 20B vocabulary's "\\n\\n" at the end of a prompt as two tokens, which is
                    how those models saw it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.tokenizer import BpeTokenizer

if TYPE_CHECKING:
    from rwkvcpp import Model, Tokenizer

PUNCTUATION = "，：？！"
SHORT, LONG = 40, 150  # tokens of a reply
BANNED = np.float32(-1e9)

Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Habits:
    """Which of them a conversation keeps."""

    newline_shaping: bool = False
    avoid_repeat: str = ""  # the characters, "" for none
    split_blank_lines: bool = False


def habits_of(model: Model) -> Habits:
    """What the family needs: RWKV-4 all of it, later ones nothing."""
    is_old = model.version == "4"
    return Habits(
        newline_shaping=is_old,
        avoid_repeat=PUNCTUATION if is_old else "",
        split_blank_lines=is_old and isinstance(model.tokenizer, BpeTokenizer),
    )


class Shaper:
    """Changes the logits of a reply's tokens as habits say, in one model's vocabulary."""

    def __init__(self, habits: Habits, tokenizer: Tokenizer) -> None:
        self._newline = _single(tokenizer, "\n") if habits.newline_shaping else None
        singles = (_single(tokenizer, character) for character in habits.avoid_repeat)
        self._unrepeated = frozenset(token for token in singles if token is not None)

    def shaped(self, logits: Logits, n: int, previous: int) -> Logits:
        """The logits of token number `n` of a reply, which follows the token `previous`."""
        repeats = previous in self._unrepeated
        if self._newline is None and not repeats:
            return logits
        logits = logits.copy()
        if self._newline is not None:
            logits[self._newline] += newline_bias(n)
        if repeats:
            logits[previous] = BANNED
        return logits


def newline_bias(n: int) -> np.float32:
    """What is added to the line end's logit for token number `n` of a reply."""
    said = n - 1  # ChatRWKV counts from the second token, and bans the first two
    if said <= 0:
        return BANNED
    if said <= SHORT:
        return np.float32((said - SHORT) / 10)
    return np.float32(min(3.0, max(0.0, (said - LONG) * 0.25)))


def missing_punctuation(habits: Habits, tokenizer: Tokenizer) -> str:
    """The characters of `avoid_repeat` that are no single tokens, and so cannot be avoided."""
    return "".join(c for c in habits.avoid_repeat if _single(tokenizer, c) is None)


def prompt_tokens(text: str, tokenizer: Tokenizer, habits: Habits) -> list[int]:
    """The tokens of a prompt's text."""
    tokens = tokenizer.encode(text)
    blank = _single(tokenizer, "\n\n")
    if habits.split_blank_lines and tokens and tokens[-1] == blank:
        return tokens[:-1] + tokenizer.encode("\n") * 2
    return tokens


def _single(tokenizer: Tokenizer, text: str) -> int | None:
    tokens = tokenizer.encode(text)
    return tokens[0] if len(tokens) == 1 else None

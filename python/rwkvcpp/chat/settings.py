"""Settings: what +set changes, a table with a row for every key.

What was not set follows the profile, and that follows the mode of the template; habits follow the
model's family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from rwkvcpp import SamplingParams
from rwkvcpp.chat.habits import PUNCTUATION, Habits
from rwkvcpp.chat.texts import LANGUAGES
from rwkvcpp.profiles import profile

MAX_COUNT = 10**6  # tokens of one answer
DEFAULT = "default"  # the value that takes a setting back
SWITCH = {"on": True, "yes": True, "true": True, "1": True,
          "off": False, "no": False, "false": False, "0": False}  # fmt: skip

# A story wants more surprise than an answer does.
STORY = SamplingParams(top_p=0.6, presence_penalty=0.2, frequency_penalty=0.2, penalty_decay=0.99)


@dataclass(frozen=True)
class Key:
    """Something that can be set: how its value is read, and what it means in each language."""

    read: Callable[[str], Any]
    help: tuple[str, str]


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MAX_COUNT:
        raise ValueError(text)
    return value


def _switch(text: str) -> bool:
    return SWITCH[text.lower()]


def _language(text: str) -> str:
    return LANGUAGES[LANGUAGES.index(text)]


def _characters(text: str) -> str:
    return {"on": PUNCTUATION, "off": ""}.get(text.lower(), text)


EXPECTED: dict[Callable[[str], Any], str] = {
    float: "a number",
    int: "a whole number",
    str: "a word",
    _count: f"a whole number from 1 to {MAX_COUNT}",
    _switch: "on or off",
    _language: " or ".join(LANGUAGES),
    _characters: "characters, or off",
}

KEYS: dict[str, Key] = {
    "temperature": Key(float, ("above 1 bolder, below 1 safer, 0 the likeliest token",
                                 "大于 1 更大胆，小于 1 更稳妥，0 总取最可能的 token")),
    "top_p": Key(float, ("draw from the likeliest tokens with this share; 0 the likeliest, 1 all",
                           "只从累计概率达到此值的 token 中抽取；0 取最可能的，1 不限制")),
    "top_k": Key(int, ("draw from so many of the likeliest tokens; 0 all",
                       "只从最可能的若干 token 中抽取；0 不限制")),
    "presence_penalty": Key(float, ("against tokens that were there", "对已出现 token 的惩罚")),
    "frequency_penalty": Key(float, ("against tokens, for each time they were there",
                                       "按出现次数对 token 的惩罚")),
    "penalty_decay": Key(float, ("what is left of a count after each token; 1 all",
                                   "每个 token 之后计数保留的比例；1 不衰减")),
    "order": Key(str, ("rwkv, openai or rapid: when the temperature applies",
                       "rwkv、openai 或 rapid：温度在何时起作用")),
    "seed": Key(int, ("the same seed gives the same answers", "相同的种子给出相同的回答")),
    "max_tokens": Key(_count, ("tokens of an answer at most", "每个回答最多的 token 数")),
    "gen_tokens": Key(_count, ("tokens of +gen, +i, +qq and +qa at most",
                               "+gen、+i、+qq、+qa 最多的 token 数")),
    "newline_shaping": Key(_switch, ("few line ends at first, many once an answer is long",
                                     "回答开头少换行，太长时促使换行")),
    "avoid_repeat": Key(_characters, ("characters that never follow themselves; off: none",
                                      "不会连续出现两次的字符；off 表示没有")),
    "split_blank_lines": Key(_switch, ("a prompt's last blank line as two tokens (20B vocabulary)",
                                       "提示末尾的空行作为两个 token（20B 词表）")),
    "begin_of_text": Key(_switch, ("token 0 in front; begins a new conversation",
                                   "开头加 token 0；会开始新对话")),
    "thoughts": Key(_switch, ("show what the model thinks", "显示模型的思考过程")),
    "language": Key(_language, ("en or zh: of this program, not of the model",
                                "en 或 zh：本程序的语言，与模型无关")),
}  # fmt: skip

COUNTS = frozenset(key for key in KEYS if KEYS[key].read is _count)
_SAMPLING = frozenset(field.name for field in fields(SamplingParams))
_HABITS = frozenset(field.name for field in fields(Habits))


class Settings:
    """What was set, and what follows from it."""

    def __init__(
        self, given: dict[str, Any] | None = None, profile_name: str | None = None
    ) -> None:
        """Settings with the values given, by the keys of KEYS."""
        self.given: dict[str, Any] = dict(given or {})
        self.profile_name = profile_name
        for key in self.given.keys() & COUNTS:
            self.set(key, str(self.given[key]))

    def set(self, key: str, text: str) -> Any:
        """Set `key` to what `text` says; the value, or None for the default. ValueError if bad."""
        if key not in KEYS:
            raise ValueError(f"there is nothing called {key!r} to set, only {', '.join(KEYS)}")
        if text.lower() == DEFAULT:
            self.given.pop(key, None)
            return None
        try:
            value = KEYS[key].read(text)
        except (ValueError, KeyError) as error:
            expected = EXPECTED[KEYS[key].read]
            raise ValueError(f"{key} is to be {text!r}, expected {expected}") from error
        if key in _SAMPLING:
            SamplingParams(**{key: value})  # says what is wrong with it
        self.given[key] = value
        return value

    def sampling(self, *, mode_profile: str, is_story: bool) -> SamplingParams:
        """How tokens are drawn in a mode that has this profile."""
        named = self.profile_name or (None if is_story else mode_profile)
        base = STORY if named is None else profile(named).sampling
        return replace(base, **{key: self.given[key] for key in self.given.keys() & _SAMPLING})

    def habits(self, family: Habits) -> Habits:
        """The habits of a model whose family has these."""
        return replace(family, **{key: self.given[key] for key in self.given.keys() & _HABITS})

    def get(self, key: str, default: Any) -> Any:
        """What `key` was set to."""
        return self.given.get(key, default)

"""What somebody typed: a message or a command, and the options inside it.

    Hello!                          a message
    +qa How far is it? -temp=0      a command, its argument, one option for this answer
     +1 from me                     begins with a space: a message to the letter

In messages and texts the two characters \\n are a line end (\\\\n: a backslash and an n).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# ChatRWKV's names of what can be set for one answer, and ours.
INLINE_OPTIONS = {"temp": "temperature", "top_p": "top_p"}

_COMMAND = re.compile(r"(\+\S*)\s*(.*)", re.DOTALL)
_OPTION = re.compile(r"(?<!\S)-(temp|top_p)=(\S*)[ \t]*")
_LINE_END = re.compile(r"\\\\n|\\n")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was typed, taken apart. `command` is None for a message, else a name such as +gen."""

    command: str | None = None
    text: str = ""  # the message, or the command's argument
    options: dict[str, float] = field(default_factory=dict)  # of SamplingParams, for one answer


def read_line(typed: str) -> Line:
    """What `typed` says; ValueError for an option that is no number."""
    if typed[:1] in (" ", "\t", "\u3000"):
        return Line(text=typed.strip())
    words = typed.strip()
    command = _COMMAND.fullmatch(words)
    if command is not None:
        return Line(command=command[1].lower(), text=command[2])
    text, options = take_options(words)
    return Line(text=with_line_ends(text), options=options)


def take_options(text: str) -> tuple[str, dict[str, float]]:
    """`text` without its inline options, which go exactly as they were typed, and their values."""
    options = {}
    for name, value in _OPTION.findall(text):
        try:
            options[INLINE_OPTIONS[name]] = float(value)
        except ValueError:
            raise ValueError(f"-{name}={value}: expected a number, as in -{name}=0.5") from None
    return _OPTION.sub("", text).strip(), options


def with_line_ends(text: str) -> str:
    """`text` with line ends for every \\n that was typed as two characters."""
    return _LINE_END.sub(lambda found: "\\n" if found[0] == r"\\n" else "\n", text)

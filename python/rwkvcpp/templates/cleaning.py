"""Rules for the text of a turn: blank lines part turns, so a turn's own must not look like that.

Each rule stands here twice, in Python and as the Jinja macro `clean(text, closed_up)`; closed_up
says that the blank lines of this role's turns go.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cleaning:
    """What becomes of a turn's text: clean(text, closed_up), and the same in Jinja."""

    clean: Callable[[str, bool], str]
    jinja: str


def _blinkdl(text: str, closed_up: bool) -> str:
    text = text.replace("\r\n", "\n")
    return (re.sub(r"\n{2,}", "\n", text) if closed_up else text).strip()


# BlinkDL's templates: re.sub(r'\n{2,}', '\n', text).strip() for users and system.
BLINKDL = Cleaning(
    _blinkdl,
    r"""
{%- macro clean(text, closed_up) -%}
  {%- set text = text.replace('\r\n', '\n') -%}
  {%- if closed_up -%}
    {%- set kept = namespace(lines=[]) -%}
    {%- for line in text.split('\n') -%}
      {%- if line -%}{%- set kept.lines = kept.lines + [line] -%}{%- endif -%}
    {%- endfor -%}
    {%- set text = kept.lines | join('\n') -%}
  {%- endif -%}
  {{- text.strip() -}}
{%- endmacro -%}
""",
)


def _hugging_face(text: str, closed_up: bool) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    trimmed = (line.rstrip(" \t") for line in lines)
    return "\n".join(line for line in trimmed if line or not closed_up).rstrip(" \t\n")


# The template of the models' Hugging Face form: lines lose what blanks they end in.
HUGGING_FACE = Cleaning(
    _hugging_face,
    r"""
{%- macro clean(text, closed_up) -%}
  {%- set kept = namespace(lines=[]) -%}
  {%- for line in text.replace('\r\n', '\n').replace('\r', '\n').split('\n') -%}
    {%- set line = line.rstrip(' \t') -%}
    {%- if line or not closed_up -%}{%- set kept.lines = kept.lines + [line] -%}{%- endif -%}
  {%- endfor -%}
  {{- (kept.lines | join('\n')).rstrip(' \t\n') -}}
{%- endmacro -%}
""",
)


# Text that goes on: nothing in it is ours to change.
AS_IT_IS = Cleaning(
    lambda text, _: text,
    r"""
{%- macro clean(text, closed_up) -%}{{- text -}}{%- endmacro -%}
""",
)

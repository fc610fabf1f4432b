"""The Jinja twin of a format: what a GGUF file or a server gives to programs that render Jinja.

It says what `Turns.render` says of `messages`, with `add_generation_prompt`; `enable_thinking` and
`reasoning_effort` choose a mode as `Template.mode_for` does. Every variable but `messages` may be
missing, and no other is read: there are clients that know no other and refuse what they do not
know. It tells nothing of tools, and shows their results as they are.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from rwkvcpp.templates.messages import ROLES
from rwkvcpp.templates.reply import CLOSE, OPEN
from rwkvcpp.templates.template import EFFORTS

if TYPE_CHECKING:
    from rwkvcpp.templates.turns import Turns

# @words@ are what differs between formats.
TWIN = r"""
{%- macro text_of(content) -%}
  {%- if content is string -%}
    {{- content -}}
  {%- elif content -%}
    {%- for part in content -%}
      {{- '' if loop.first else '\n' -}}{{- part if part is string else part.text -}}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- macro named(name, text) -%}
  {{- @before@ ~ name ~ @mark@ if name -}}{{- @gap@ if name and text -}}{{- text -}}
{%- endmacro -%}
{%- set roles = @roles@ -%}
{%- set names = @names@ -%}
{%- set is_prompted = add_generation_prompt is not defined or add_generation_prompt -%}
{%- for message in messages -%}
  {%- set role = roles[message.role | lower] -%}
  {%- set text = text_of(message.content) if message.content is defined else '' -%}
  {%- set is_open = loop.last and not is_prompted and message.prefix is defined -%}
  {%- if role == 'assistant' and not (is_open and message.prefix) -%}
    {%- set text = text.split(@close@)[-1] -%}
  {%- endif -%}
  {%- if role == 'tool' -%}{%- set text = @before_result@ ~ text ~ @after_result@ -%}{%- endif -%}
  {%- if message.raw is not defined or not message.raw -%}
    {%- set text = clean(text, role in @closed_up@) -%}
  {%- endif -%}
  {%- if role == 'user' and loop.last and is_prompted -%}
    {%- set text = text ~ mode.hint -%}
  {%- endif -%}
  {{- '' if loop.first else @between@ -}}
  {{- named(names[role], text) -}}
  {{- '' if is_open and message.prefix else @after@ -}}
{%- endfor -%}
{%- if is_prompted -%}
  {{- @between@ if messages -}}{{- named(names.assistant, '') -}}{{- mode.prefill -}}
{%- endif -%}
"""


def twin(template: Turns, *, closed: bool = False) -> str:
    """The Jinja text that renders messages as `template` does.

    closed: the tag that ends a prompt gets its `>`, for programs that show a reply as it comes.
    """
    names = {"user": template.user, "assistant": template.assistant, "system": template.system}
    words = {
        "before": template.before,
        "mark": template.mark,
        "gap": template.gap,
        "after": template.after,
        "between": template.between,
        "close": CLOSE + ">",
        "closed_up": sorted(template.closed_up),
        "roles": ROLES,
        "names": names | {"tool": template.tool or template.user},
        "before_result": template.tool_form.around_result[0],
        "after_result": template.tool_form.around_result[1],
    }
    body = re.sub("@(.*?)@", lambda found: _literal(words[found[1]]), TWIN)
    head = f"{{#- {_mark(template)} -#}}"
    return (head + template.cleaning.jinja + _choice(template, closed) + body).replace("\n\n", "\n")


def _mark(template: Turns) -> str:
    """The comment in front. llama.cpp, where it reads no Jinja, knows World by this word."""
    is_world = (template.user, template.assistant, template.between) == WORLD_NAMES
    return f"rwkvcpp: {template.name}" + (", rwkv-world" if is_world else "")


WORLD_NAMES = ("User", "Assistant", "\n\n")


def _choice(template: Turns, closed: bool) -> str:
    """`mode`, as the variables of a request choose it."""

    def beginning(*names: str) -> str:
        mode = next((template.modes[n] for n in names if n in template.modes), template.mode())
        is_open = closed and mode.prefill.endswith((OPEN, CLOSE))
        return _literal({"prefill": mode.prefill + ">" * is_open, "hint": mode.hint})

    if len(template.modes) == 1:
        return f"{{%- set mode = {beginning()} -%}}"
    efforts = ", ".join(f"{_literal(effort)}: {beginning(*EFFORTS[effort])}" for effort in EFFORTS)
    return f"""
{{%- set efforts = {{{efforts}}} -%}}
{{%- set mode = {beginning()} -%}}
{{%- if enable_thinking is defined and enable_thinking is false -%}}
  {{%- set mode = efforts.none -%}}
{{%- elif reasoning_effort is defined and reasoning_effort -%}}
  {{%- set mode = efforts[reasoning_effort] -%}}
{{%- elif enable_thinking is defined and enable_thinking -%}}
  {{%- set mode = {beginning("think")} -%}}
{{%- endif -%}}"""


def _literal(value: Any) -> str:
    """A value as Jinja spells it: as JSON does."""
    return json.dumps(value, ensure_ascii=False)

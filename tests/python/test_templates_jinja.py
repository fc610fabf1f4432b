"""Jinja: twins that say what the templates say, foreign texts, and hostile ones."""

from __future__ import annotations

import contextlib
import sys
from functools import cache
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rwkvcpp.errors import ModelFormatError, UnsupportedError
from rwkvcpp.templates import TEMPLATES, Template, choose_template, jinja_for_others
from rwkvcpp.templates.foreign import JinjaTemplate, jinja_template
from rwkvcpp.templates.sandbox import CHILD, MAX_OUTPUT, MAX_TEXT, render_jinja
from rwkvcpp.templates.twin import twin

ALL = pytest.mark.parametrize("template", TEMPLATES.values(), ids=lambda t: t.name)

# As lm-eval does it: nothing set up, nothing known but the two variables.
STRICT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
# As Hugging Face's tokenizers do it.
TRIMMING = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

PIECES = st.sampled_from([*"ab \n\r\t:✿<>/'\"\\{%}。", "User", "</think>"])
TEXTS = st.lists(PIECES, max_size=12).map("".join)
PARTS = st.lists(
    st.one_of(TEXTS, st.builds(lambda text: {"type": "text", "text": text}, TEXTS)), max_size=3
)
ROLES = st.sampled_from(["system", "developer", "user", "User", "assistant", "tool"])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES, "content": st.one_of(TEXTS, PARTS, st.none())},
        optional={"prefix": st.booleans(), "raw": st.booleans(), "type": st.just("text")},
    ),
    max_size=6,
)


# Twins


@cache
def compiled(text: str) -> list[jinja2.Template]:
    return [STRICT.from_string(text), TRIMMING.from_string(text)]


@ALL
@settings(max_examples=50, deadline=None)
@given(messages=MESSAGES, add_generation_prompt=st.booleans())
def test_a_twin_says_what_its_template_says(
    template: Template, messages: list[dict[str, Any]], add_generation_prompt: bool
):
    if template.name == "functions":  # its results are JSON anew, which Jinja cannot read
        messages = [message for message in messages if message["role"] != "tool"]
    expected = template.render(messages, add_generation_prompt=add_generation_prompt)
    for jinja in compiled(template.jinja):
        assert expected == jinja.render(
            messages=messages, add_generation_prompt=add_generation_prompt
        )


@ALL
@pytest.mark.parametrize(
    "words",
    [
        {},
        {"enable_thinking": True},
        {"enable_thinking": False},
        {"enable_thinking": None, "reasoning_effort": None},
        *({"reasoning_effort": effort} for effort in ("none", "minimal", "low", "medium", "high")),
        {"enable_thinking": True, "reasoning_effort": "low"},
        {"enable_thinking": False, "reasoning_effort": "high"},
    ],
)
def test_a_twin_chooses_the_mode_that_its_template_would(template, words):
    messages = [{"role": "user", "content": "Hi"}]
    mode = template.mode_for(**words)
    jinja = STRICT.from_string(template.jinja)
    assert jinja.render(messages=messages, **words) == template.render(messages, mode=mode)
    unprompted = jinja.render(messages=messages, add_generation_prompt=False, **words)
    assert unprompted == template.render(messages, mode=mode, add_generation_prompt=False)


@ALL
def test_a_twin_for_other_programs_closes_the_tag(template):
    messages = [{"role": "user", "content": "Hi"}]
    closed = STRICT.from_string(twin(template, closed=True))
    for mode, words in (("think", {"enable_thinking": True}), ("fake-think", {})):
        if mode in template.modes and template.mode_for(**words) == mode:
            assert closed.render(messages=messages, **words) == (
                template.render(messages, mode=mode) + ">"
            )


@ALL
def test_a_twin_is_known_again(template):
    known = choose_template(metadata={"tokenizer.chat_template": template.jinja}, path="g1c.gguf")
    assert known is template


@pytest.mark.parametrize(
    ("path", "name", "expected"),
    [
        ("rwkv7-g1b-1.5b.pth", "", "g1b"),
        ("model.pth", "RWKV7 G1d 1.5B", "g1"),
        ("RWKV-x060-World-1B6.pth", "", "world"),
        ("model.pth", "", "world"),
        ("RWKV-4-Raven.pth", "", "world"),  # asked for files of the World vocabulary only
    ],
)
def test_the_template_for_other_programs_is_known_again(path, name, expected):
    text = jinja_for_others(path, name)
    assert text == twin(TEMPLATES[expected], closed=True)
    assert choose_template(metadata={"tokenizer.chat_template": text}).name == expected


# Texts of others, written anew after what they say

LLAMA_CPP = """{%- if not add_generation_prompt is defined -%}
{%- set add_generation_prompt = true -%}{%- endif -%}{{bos_token}}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- 'User: ' + message['content']|trim + '\\n\\n' -}}{%- endif -%}
{%- if message['role'] == 'assistant' -%}
{{- 'Assistant: ' + message['content'].split('</think>')[-1]|trim + '\\n\\n' -}}
{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- ' <think>\\n</think>' }}{% endif %}
{%- if enable_thinking is defined and enable_thinking is true %}{{- ' <think>' }}{% endif %}
{%- endif -%}"""
RWKV_MOBILE = """{%- for m in messages -%}
{{- ('User: ' if m['role'] == 'user' else 'Assistant: ') + m['content']|trim + '\\n\\n' -}}
{%- endfor -%}{{- 'Assistant:' -}}
{%- if enable_thinking is defined and enable_thinking is true %}{{- ' <think>' }}
{%- else %}{{- ' <think>\\n</think>' }}{%- endif %}"""
CHATML = """{%- for m in messages -%}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and not enable_thinking -%}{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- elif enable_thinking is defined -%}{{- '<think>\\n' -}}{%- endif -%}{%- endif -%}"""


@pytest.mark.parametrize(
    ("text", "stem", "name"),
    [
        ("rwkv-world", "model", "world"),
        ("rwkv-world", "rwkv7-g1d-1.5b", "g1"),
        (LLAMA_CPP, "model", "world"),
        (LLAMA_CPP, "rwkv7-g1a-0.4b-20250905", "g1a"),
        (RWKV_MOBILE, "model", "g1"),
        (RWKV_MOBILE, "RWKV-x070-World-0.4B", "world"),
        ("{{ 'User✿' }}{{ 'Bot✿' }}", "rwkv7-g1h-1.5b", "bot"),
        ("rwkv_prompt_template … 'Bot✿' … 'Assistant: '", "model", "g1"),
        ("rwkv_prompt_template … 'Bot✿' … 'Assistant: '", "rwkv7-g1b-1.5b", "g1b"),
        (CHATML, "model", "jinja"),
        (CHATML + "{# not 'User: ' and 'Assistant:' #}", "model", "jinja"),
        (CHATML, "rwkv7-g1d-1.5b", "g1"),
        ("", "model", "world"),
        (["no", "text"], "model", "world"),
    ],
)
def test_what_a_files_template_means_comes_before_names_and_unknown_text_after(text, stem, name):
    metadata = {"tokenizer.chat_template": text}
    assert choose_template(metadata=metadata, path=f"{stem}.gguf").name == name


def test_jinja_text_may_be_asked_for_as_a_file(tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text(CHATML)
    template = choose_template(str(file), path="rwkv7-g1d-1.5b.gguf")
    assert template.render([{"role": "user", "content": "Hi"}]) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    file.write_text(LLAMA_CPP)
    assert choose_template(str(file), path="rwkv7-g1d-1.5b.gguf").name == "g1"


def test_a_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF\xff\xfe")
    with pytest.raises(ModelFormatError, match=r"model\.gguf: a chat template is UTF-8 text"):
        choose_template(str(file))
    file.write_bytes(bytes(4 * MAX_TEXT + 1))
    with pytest.raises(ModelFormatError, match=r"model\.gguf: has 1048577 bytes, too many"):
        choose_template(str(file))


# Foreign templates


@pytest.fixture
def chatml() -> JinjaTemplate:
    return jinja_template(CHATML, where="model.gguf")


def test_a_foreign_template_speaks_as_it_does_and_ends_where_it_does(chatml):
    assert chatml.stops == ("<|im_end|>",)
    assert list(chatml.modes) == ["chat", "think", "fake-think"]
    messages = [{"role": "developer", "content": ["a", "b"]}]
    assert chatml.render(messages, add_generation_prompt=False) == (
        "<|im_start|>system\na\nb<|im_end|>\n"
    )
    assert chatml.render([], mode="think") == "<|im_start|>assistant\n<think>\n"


def test_turns_of_a_foreign_template_join_up(chatml):
    consumed = chatml.render([{"role": "user", "content": "Hi"}]) + "Hello."
    turn = chatml.next_turn("Why?", pending="<|im_end|>")
    history = [("user", "Hi"), ("assistant", "Hello."), ("user", "Why?")]
    messages = [{"role": role, "content": content} for role, content in history]
    assert consumed + "<|im_end|>" + turn == chatml.render(messages)


def test_replies_to_a_foreign_template_are_taken_apart(chatml):
    assert chatml.split_reply("Hm.\n</think>\n\nYes.", mode="think").reasoning == "Hm."
    assert chatml.split_reply("Yes.", mode="fake-think").content == "Yes."
    assert chatml.reply_message("Yes.")["content"] == "Yes."


def test_the_last_message_of_a_foreign_template_may_stay_open(chatml):
    messages = [{"role": "assistant", "content": "Well", "prefix": True}]
    assert chatml.render(messages, add_generation_prompt=False) == "<|im_start|>assistant\nWell"
    shouting = jinja_template("{{ messages[0].content | upper }}", where="model.gguf")
    with pytest.raises(UnsupportedError, match=r"model\.gguf: .* changes the last message"):
        shouting.render(messages, add_generation_prompt=False)


def test_a_foreign_template_is_told_of_tools():
    template = jinja_template("{{ tools[0].name if tools is defined }}", where="model.gguf")
    assert template.render([], tools=[{"name": "now"}]) == "now"
    assert template.render([]) == ""


def test_a_template_that_hides_replies_says_so():
    template = jinja_template("{{ messages | length }}", where="model.gguf")
    with pytest.raises(UnsupportedError, match=r"model\.gguf: its chat template does not show"):
        template.next_turn("Hi")
    with pytest.raises(ValueError, match="names of its own"):
        template.with_names(user="Ann")


def test_nothing_is_rendered_before_somebody_talks(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    template = choose_template(metadata={"tokenizer.chat_template": CHATML}, path="model.gguf")
    assert template.stops == ("<|im_end|>",)
    with pytest.raises(UnsupportedError, match=r"model\.gguf: .* cannot be started: .*/no/such"):
        template.render([])


def test_the_variables_of_hugging_face_are_known():
    text = "{{ {'a': 'é<'} | tojson }} {{ strftime_now('%Y') | length }} {{ bos_token }}."
    assert jinja_template(text, where="m").render([]) == '{"a": "é<"} 4 .'


# Hostile texts

REFUSED = {
    "too long": ("x" * (MAX_TEXT + 1), "has 262145 characters, expected 262144 at most"),
    "loops in loops": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "it takes more than 2 s of computing",
    ),
    "multiplied text": ("{{ 'a' * 10**10 }}", "it needs too much memory"),
    "doubled text": (
        "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}"
        "{% endfor %}{{ n.x }}",
        "too much memory",
    ),
    "padded text": ("{{ 'a'.center(10**11) }}", "it needs too much memory"),
    "lists in lists": (
        "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}"
        "{% endfor %}{{ n.x }}",
        "it takes more than 2 s|too much memory",
    ),
    "powers": ("{{ (10 ** 100000) ** 10000 }}", "it takes more than 2 s"),
    "endless output": (
        "{% for i in range(99999) %}{{ 'a' * 10000 }}{% endfor %}",
        f"it gives more than {MAX_OUTPUT} characters",
    ),
    "endless calls": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deeply"),
    "parentheses": ("{{" + "(" * 30000 + "1" + ")" * 30000 + "}}", "nested too deeply"),
    "a way out": ("{{ ().__class__.__base__.__subclasses__() }}", "'__class__' .* is unsafe"),
    "another": ("{{ cycler.__init__.__globals__ }}", "'__init__' .* is unsafe"),
    "and another": ("{{ messages.clear.__self__ }}", "'clear' .* is unsafe"),
    "changes": ("{{ messages.append(1) }}", "'append' .* is unsafe"),
    "files": ("{% include '/etc/passwd' %}", "no loader"),
    "not Jinja": ("{% for %}", "line 1: "),
    "undefined": ("\n{{ x.y.z }}", "'x' is undefined"),
    "its own refusal": ("{{ raise_exception('no tools here') }}", "no tools here"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_a_hostile_text_costs_one_error(text, message):
    with pytest.raises(ModelFormatError, match=message) as caught:
        render_jinja(text, {"messages": []}, where="model.gguf")
    assert str(caught.value).startswith("model.gguf: the chat template ")
    assert len(str(caught.value)) < 700


def test_half_a_character_does_not_reach_the_tokenizer():
    assert render_jinja("a{{ '\\ud800' }}", {}, where="m") == "a?"


@settings(max_examples=20, deadline=None)
@given(text=st.text(st.sampled_from("{}%-#'\" .|()[]abfor\n0*"), max_size=40))
def test_any_text_renders_or_is_one_error(text):
    with contextlib.suppress(ModelFormatError):
        assert isinstance(render_jinja(text, {"messages": []}, where="model.gguf"), str)


def test_the_process_gets_nothing_of_ours(monkeypatch):
    monkeypatch.setenv("SECRET", "value")
    seen: dict[str, Any] = {}

    class Done:
        returncode, stdout, stderr = 0, b'{"text": "ok"}', b""

    def run(command: list[str], **options: Any) -> Done:
        seen.update(options, command=command)
        return Done()

    monkeypatch.setattr("subprocess.run", run)
    assert render_jinja("x", {}, where="m") == "ok"
    assert seen["command"][1:] == ["-I", "-S", "-B", str(CHILD)]
    assert "SECRET" not in seen["env"]


def test_without_jinja2_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"pip install 'rwkvcpp\[chat\]', or choose a temp"):
        jinja_template(CHATML, where="model.gguf").render([])
    assert choose_template("g1").render([]) == "Assistant: <think></think"


def test_a_process_that_cannot_start_is_one_error(monkeypatch):
    monkeypatch.setattr("rwkvcpp.templates.sandbox.CHILD", CHILD.with_name("no_such_file.py"))
    with pytest.raises(ModelFormatError, match=r"was not rendered: .*no_such_file"):
        render_jinja("x", {}, where="model.gguf")

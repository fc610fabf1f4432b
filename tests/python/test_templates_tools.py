"""Tools: the trained forms to the letter, and calls read from replies however they come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkvcpp.templates import Reply, ReplyStream, ToolCall, choose_template
from rwkvcpp.templates.reply import split
from rwkvcpp.templates.tools import Tool, signature

FENCE = "```"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a day",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string"},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
        },
    },
}
NOW = {"name": "now"}
ASK = [{"role": "user", "content": "Weather in 東京?"}]
CALL = {
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"location": "東京"}'},
}
RESULT = {"role": "tool", "tool_call_id": "1", "content": '{"celsius": 21}'}
HISTORY = [*ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT]


# What the models were trained on


def test_blinkdls_signatures():
    assert choose_template("g1").render(ASK, tools=[WEATHER, NOW]) == (
        "System: Tools:\n"
        '- get_weather(location: string, unit?: "celsius" | "fahrenheit")\n'
        "- now()\n"
        "Return only a JSON function call.\n\n"
        f"User: Weather in 東京?\n\nAssistant: {FENCE}json"
    )


def test_blinkdls_json_list():
    template = choose_template("world").with_tool_form("json")
    assert template.render(ASK, tools=[WEATHER, NOW]) == (
        "System: Tools:\n[\n"
        '{"name":"get_weather","description":"Weather of a day","arguments":'
        '{"location":{"type":"string"},"unit":{"enum":["celsius","fahrenheit"]}}},\n'
        '{"name":"now","arguments":{}}\n'
        "]\nReturn only a JSON function call.\n\n"
        f"User: Weather in 東京?\n\nAssistant: {FENCE}json"
    )


def test_blinkdls_calls_and_results():
    assert choose_template("g1").render(HISTORY, mode="call") == (
        "User: Weather in 東京?\n\n"
        f'Assistant: {FENCE}json\n{{"name":"get_weather","arguments":{{"location":"東京"}}}}\n'
        f"{FENCE}\n\n"
        f'User: Function output:\n{{"celsius": 21}}\n\nAssistant: {FENCE}json'
    )


HEADINGS = f"""### System
Be brief.
### `get_weather`
**Description:** Weather of a day
**Parameters:**
{FENCE}json
{json.dumps(WEATHER["function"]["parameters"], indent=2)}
{FENCE}
### `now`
**Parameters:**
{FENCE}json
{{}}
{FENCE}
To call one of these tools, write exactly this format:
**Tool Call:**
{FENCE}json
{{"name": "tool_name", "arguments": {{"key": "value"}}}}
{FENCE}
Do not invent tool call IDs or write tool outputs yourself.
### User
Weather in 東京?
### Assistant
**Tool Call:**
{FENCE}json
{{
  "name": "get_weather",
  "arguments": {{
    "location": "東京"
  }}
}}
{FENCE}
### Tool Output
{FENCE}json
{{
  "celsius": 21
}}
{FENCE}
### Assistant
<think"""


def test_the_form_with_headings():
    messages = [{"role": "system", "content": "Be brief."}, *HISTORY]
    template = choose_template("functions")
    assert template.render(messages, tools=[WEATHER, NOW]) == HEADINGS
    faked = template.render(messages, tools=[WEATHER, NOW], mode="fake-think")
    assert faked == HEADINGS + "></think"
    assert template.stops == ("\n### User", "\n### Tool Output", "\nUser:")


def test_the_bot_format_leaves_tools_to_the_one_with_headings():
    bot = choose_template("bot")
    assert bot.for_tools() is choose_template("functions")
    messages = [{"role": "system", "content": "Be brief."}, *HISTORY]
    assert bot.render(messages, tools=[WEATHER, NOW]) == HEADINGS
    assert choose_template("g1").for_tools() is choose_template("g1")


def test_a_result_that_is_no_json_is_a_string():
    messages = [{"role": "tool", "content": 'He said "no"'}]
    assert choose_template("functions").render(messages, add_generation_prompt=False) == (
        f'### Tool Output\n{FENCE}json\n"He said \\"no\\""\n{FENCE}'
    )


def test_what_the_system_says_stands_before_its_tools():
    messages = [{"role": "system", "content": "Be brief."}, *ASK]
    text = choose_template("world").render(messages, tools=[NOW])
    assert text.startswith("System: Be brief.\nTools:\n- now()\nReturn only")


def test_a_result_is_a_turn_too():
    g1 = choose_template("g1")
    consumed = g1.render(ASK, tools=[NOW]) + f'\n{{"name":"now"}}\n{FENCE}' + "\n\nUser:"
    consumed += g1.next_turn("12:00", pending="\n\nUser:", role="tool", mode="call")
    assert consumed.endswith(f"{FENCE}\n\nUser: Function output:\n12:00\n\nAssistant: {FENCE}json")


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "integer"}, "integer"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number | null"),
        ({"type": "array", "items": {"type": "string"}}, "string[]"),
        ({"type": "array"}, "any[]"),
        ({"enum": [1, "é"]}, '1 | "é"'),
        ({}, "any"),
        (True, "any"),
    ],
)
def test_signatures_name_types(schema, shown):
    tool = Tool("f", parameters={"properties": {"x": schema}, "required": ["x"]})
    assert signature(tool) == f"f(x: {shown})"


@pytest.mark.parametrize(
    ("tools", "error", "message"),
    [
        ([{"type": "function"}], ValueError, r"tools\[0\] has no function with a name"),
        ([NOW, {"name": "f", "parameters": []}], None, ""),
        ([NOW, {"name": "f", "parameters": 5}], TypeError, r"tools\[1\].parameters must be a JSON"),
        ("now", TypeError, "tools must be a list of functions, got 'now'"),
    ],
)
def test_tools_that_are_none_are_refused_by_their_place(tools, error, message):
    if error is None:
        assert "f()" in choose_template("g1").render(ASK, tools=tools)
    else:
        with pytest.raises(error, match=message):
            choose_template("g1").render(ASK, tools=tools)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="no form of tools 'xml', only signatures, json, headings"):
        choose_template("g1").with_tool_form("xml")


# Calls in replies

CITY = ToolCall("get_weather", {"location": "東京"})
BODY = '{"name": "get_weather", "arguments": {"location": "東京"}}'
FENCED = f"{FENCE}json\n{BODY}\n{FENCE}"

CALLS = [
    (f"**Tool Call:**\n{FENCED}", "", [CITY]),
    (f"I will look.\n\n**Tool Call:**\n{FENCED}\n", "I will look.", [CITY]),
    (FENCED, "", [CITY]),
    (FENCED.replace("json", "", 1), "", [CITY]),
    (FENCED.replace("arguments", "parameters"), "", [CITY]),
    (FENCED.replace('{"location": "東京"}', '"{\\"location\\": \\"東京\\"}"'), "", [CITY]),
    (f"{FENCE}json\n[{BODY}, {BODY}]\n{FENCE}", "", [CITY, CITY]),
    (f"{FENCED}\n{FENCED}", "", [CITY, CITY]),
    (f"<tool_call>{BODY}</tool_call>", "", [CITY]),
    (f"<tool_call>\n{BODY}\n</tool_call> Well.", "Well.", [CITY]),
    (f"<tool_call>{BODY}", "", [CITY]),
    ('<tool_call>{"name": "other"}</tool_call>', "", [ToolCall("other", {})]),
    (f"{FENCE}json\n{BODY}", "", [CITY]),  # the stop was the end of the fence
    (f"{FENCE}json\n{BODY}{FENCE}", "", [CITY]),
    ('**Tool Call:**\n```json\n{"name": "other"}\n```', "", [ToolCall("other", {})]),
    (FENCED.replace("get_weather", "other"), FENCED.replace("get_weather", "other"), []),
    ('```json\n{"celsius": 21}\n```', '```json\n{"celsius": 21}\n```', []),
    ("```json\n{broken\n```", "```json\n{broken\n```", []),
    (f"```python\nx = '''\n{BODY}\n'''\n```", f"```python\nx = '''\n{BODY}\n'''\n```", []),
    ("```py\n1\n```\nand\n```\n{}\n```", "```py\n1\n```\nand\n```\n{}\n```", []),
    (f"```py\n1\n```\n{FENCED}", "```py\n1\n```", [CITY]),
    (f"```py\n1\n```\n{BODY}\n```", f"```py\n1\n```\n{BODY}\n```", []),
    (f"```json\n[{BODY}, 5]\n```", f"```json\n[{BODY}, 5]\n```", []),
    ("**Tool Call:** none", "**Tool Call:** none", []),
    ("a ** b ``c`` <tool", "a ** b ``c`` <tool", []),
    ("<tool_call>nothing", "<tool_call>nothing", []),
    ("```", "```", []),
]


@pytest.mark.parametrize(("text", "content", "calls"), CALLS)
def test_calls_are_read_and_everything_else_is_text(text, content, calls):
    assert split(text, tools=["get_weather"]) == Reply("", content, tuple(calls))
    thought = split(f">Hm.</think>\n{text}", " <think", tools=["get_weather"])
    assert thought == Reply("Hm.", content, tuple(calls))


@pytest.mark.parametrize(("text", "content", "calls"), CALLS)
def test_calls_may_come_letter_by_letter(text, content, calls):
    stream = ReplyStream(tools=["get_weather"])
    deltas = [delta for letter in text for delta in stream.push(letter)] + stream.finish()
    assert stream.reply == Reply("", content, tuple(calls))
    assert "".join(delta.text for delta in deltas) == content


def test_json_that_is_nested_too_deeply_is_text():
    deep = "[" * 100_000
    assert split(f"```json\n{deep}\n```", tools=[]).content == f"```json\n{deep}\n```"
    assert split(f"<tool_call>{deep}", tools=[]).content == f"<tool_call>{deep}"
    shown = choose_template("functions").render([{"role": "tool", "content": deep}])
    assert f'"{deep}"' in shown
    call = {"name": "f", "arguments": deep}
    with pytest.raises(ValueError, match=r"arguments is no JSON: '\[\[\["):
        choose_template("g1").render([{"role": "assistant", "tool_calls": [call]}])


def test_without_tools_a_fence_is_text():
    assert split(FENCED) == Reply("", FENCED)


def test_what_follows_a_prefilled_fence_is_a_call():
    g1 = choose_template("g1")
    call = ToolCall("any", {"x": 1})
    text = f'\n{{"name":"any","arguments":{{"x":1}}}}\n{FENCE}'
    assert g1.split_reply(text, mode="call").tool_calls == (call,)
    assert g1.split_reply(text, tools=[NOW]).tool_calls == (call,)
    message = g1.reply_message(text, mode="call")
    assert message["tool_calls"] == [call.message()]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"x": 1}
    assert g1.render([message], verbatim=True, add_generation_prompt=False) == (
        f"Assistant: {FENCE}json{text}"
    )
    assert g1.render([message], add_generation_prompt=False) == f"Assistant: {FENCE}json{text}"


@settings(max_examples=300, deadline=None)
@given(data=st.data(), text=st.sampled_from([text for text, _, _ in CALLS]))
def test_a_reply_with_calls_may_come_in_any_pieces(data: st.DataObject, text: str):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    stream = ReplyStream(tools=["get_weather"])
    deltas: list[Any] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        deltas += stream.push(text[start:end])
    deltas += stream.finish()
    assert stream.reply == split(text, tools=["get_weather"])
    assert "".join(delta.text for delta in deltas) == stream.reply.content


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from(
            ["**Tool Call:**", "```", "json", "\n", BODY, "<tool_call>", "</tool_call>", "{", "}",
             " ", "a", "`", "*"]
        ),
        max_size=12,
    ),
)  # fmt: skip
def test_no_text_is_lost_but_that_of_calls(pieces):
    stream = ReplyStream(tools=["get_weather"])
    for piece in pieces:
        stream.push(piece)
    stream.finish()
    whole = "".join(pieces)
    assert stream.reply == split(whole, tools=["get_weather"])
    if not stream.reply.tool_calls:
        assert stream.reply.content == whole.strip()

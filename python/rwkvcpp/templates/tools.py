"""Tools: how a format tells a model of functions, writes calls and results, and reads calls.

Models were trained on three forms. BlinkDL's two stand in World's turns: a line of signatures or a
JSON list in the system's turn, calls as fenced JSON, results in the user's turn. The third has
headings of its own and goes with the format `functions`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rwkvcpp.templates.messages import NO_JSON, ToolCall, text_of

FENCE = "```json"
END = "```"
CALL_HEADING = "**Tool Call:**"


@dataclass(frozen=True)
class Tool:
    """A function that a model may ask for; `parameters` is a JSON schema of an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def properties(self) -> Mapping[str, Any]:
        """The schemas of the arguments, by their names."""
        found = self.parameters.get("properties")
        return found if isinstance(found, Mapping) else {}


def read_tools(tools: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """Tools as OpenAI's API has them; ValueError or TypeError names the one that is wrong."""
    if isinstance(tools, (str, Mapping)) or not isinstance(tools, Sequence):
        raise TypeError(f"tools must be a list of functions, got {tools!r:.60}")
    return tuple(_read(tool, f"tools[{i}]") for i, tool in enumerate(tools))


def _read(tool: Mapping[str, Any], where: str) -> Tool:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f"{where} has no function with a name: {tool!r:.60}")
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise TypeError(f"{where}.parameters must be a JSON schema, got {parameters!r:.60}")
    description = text_of(function.get("description"), f"{where}.description")
    return Tool(function["name"], description, parameters)


@dataclass(frozen=True)
class ToolForm:
    """One way to speak of tools."""

    name: str
    describe: Callable[[Sequence[Tool]], str]  # what the system's turn says
    call: Callable[[ToolCall], str]  # what the assistant's turn says
    around_result: tuple[str, str]  # what stands around a result in the turn after it
    result_is_json: bool  # and is spelled anew

    def result(self, text: str) -> str:
        """What the turn after a call says of the result `text`."""
        before, after = self.around_result
        return before + (_as_json(text) if self.result_is_json else text) + after


# ---- BlinkDL's -------------------------------------------------------------------------------

REQUEST = "Return only a JSON function call."


def _signatures(tools: Sequence[Tool]) -> str:
    return "\n".join(["Tools:", *(f"- {signature(tool)}" for tool in tools), REQUEST])


def signature(tool: Tool) -> str:
    """`get_weather(location: string, unit?: "celsius" | "fahrenheit")`."""
    listed = tool.parameters.get("required")
    required = listed if isinstance(listed, list) else []
    arguments = (
        f"{name}{'' if name in required else '?'}: {_type(schema)}"
        for name, schema in tool.properties.items()
    )
    return f"{tool.name}({', '.join(arguments)})"


def _type(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    if isinstance(schema.get("enum"), list):
        return " | ".join(compact(value) for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            return " | ".join(_type(each) for each in schema[key])
    found = schema.get("type")
    if isinstance(found, list):
        return " | ".join(map(str, found))
    if found == "array":
        return f"{_type(schema.get('items'))}[]"
    return found if isinstance(found, str) else "any"


def _json_list(tools: Sequence[Tool]) -> str:
    return "\n".join(["Tools:", "[", ",\n".join(map(_json_tool, tools)), "]", REQUEST])


def _json_tool(tool: Tool) -> str:
    described = {"description": tool.description} if tool.description else {}
    return compact({"name": tool.name, **described, "arguments": tool.properties})


def _fenced_call(call: ToolCall) -> str:
    return f"{FENCE}\n{compact({'name': call.name, 'arguments': call.arguments})}\n{END}"


OUTPUT = ("Function output:\n", "")

SIGNATURES = ToolForm("signatures", _signatures, _fenced_call, OUTPUT, result_is_json=False)
JSON_LIST = ToolForm("json", _json_list, _fenced_call, OUTPUT, result_is_json=False)

# ---- with headings ---------------------------------------------------------------------------

INSTRUCTIONS = f"""To call one of these tools, write exactly this format:
{CALL_HEADING}
{FENCE}
{{"name": "tool_name", "arguments": {{"key": "value"}}}}
{END}
Do not invent tool call IDs or write tool outputs yourself."""


def _headings(tools: Sequence[Tool]) -> str:
    return "\n".join([*map(_heading, tools), INSTRUCTIONS])


def _heading(tool: Tool) -> str:
    lines = [f"### `{tool.name}`"]
    if tool.description:
        lines.append(f"**Description:** {tool.description}")
    return "\n".join([*lines, "**Parameters:**", FENCE, pretty(tool.parameters), END])


def _headed_call(call: ToolCall) -> str:
    payload = pretty({"name": call.name, "arguments": call.arguments})
    return "\n".join([CALL_HEADING, FENCE, payload, END])


FENCES = (f"{FENCE}\n", f"\n{END}")

HEADINGS = ToolForm("headings", _headings, _headed_call, FENCES, result_is_json=True)

TOOL_FORMS = {form.name: form for form in (SIGNATURES, JSON_LIST, HEADINGS)}


def compact(value: Any) -> str:
    """JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def pretty(value: Any) -> str:
    """JSON with two blanks a level."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def _as_json(text: str) -> str:
    """`text` as JSON: anew if it is some, else as a string."""
    try:
        value = json.loads(text)
    except NO_JSON:
        value = text
    return pretty(value)


# ---- calls in a reply ------------------------------------------------------------------------


def read_calls(text: str) -> tuple[ToolCall, ...]:
    """The calls that the JSON `text` is: one, or a list of them; none if it is something else."""
    try:
        value = json.loads(text)
    except NO_JSON:
        return ()
    values = value if isinstance(value, list) else [value]
    calls = [_call(each) for each in values]
    return tuple(call for call in calls if call) if all(calls) else ()


def _call(value: Any) -> ToolCall | None:
    """A call; its arguments may be called parameters, and be spelled as JSON in a string."""
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except NO_JSON:
            return None
    return ToolCall(value["name"], arguments) if isinstance(arguments, Mapping) else None

"""Messages as OpenAI's API and Hugging Face's tokenizers shape them, read and checked.

`{"role": "user", "content": "Hi"}`, where content is text, a list of text parts, or None. Keys that
nobody asked for are let pass: clients send many.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

MessageDict: TypeAlias = "Mapping[str, Any]"

NO_JSON = (ValueError, RecursionError)  # what json.loads says of what is none

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants called, and what with."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def message(self) -> dict[str, Any]:
        """The call as messages have it."""
        arguments = json.dumps(self.arguments, ensure_ascii=False)
        return {"type": "function", "function": {"name": self.name, "arguments": arguments}}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message: who, what, and of a reply what is known of how it came about."""

    role: str  # of ROLES' values
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    is_open: bool = False  # "prefix": the model goes on in this message
    is_raw: bool = False  # "raw": the text stands as it is
    # What `Template.reply_message` adds:
    mode: str | None = None  # the mode that the reply was asked for in
    generated: str | None = None  # what the model wrote after the prompt, to the letter


def read_messages(messages: Sequence[MessageDict]) -> list[Message]:
    """`messages`, checked; ValueError or TypeError names the message that is wrong."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise TypeError(f"messages must be a list of dicts, got {_shown(messages)}")
    return [_read(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _read(message: MessageDict, where: str) -> Message:
    if not isinstance(message, Mapping):
        raise TypeError(f"{where} must be a dict with role and content, got {_shown(message)}")
    role = message.get("role")
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise ValueError(f"{where}.role is {role!r}, expected one of {', '.join(ROLES)}")
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, Sequence):
        raise TypeError(f"{where}.tool_calls must be a list, got {_shown(calls)}")
    return Message(
        role=ROLES[role.lower()],
        text=text_of(message.get("content"), f"{where}.content"),
        tool_calls=tuple(
            _read_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)
        ),
        is_open=bool(message.get("prefix")),
        is_raw=bool(message.get("raw")),
        mode=_text_or_none(message, "mode", where),
        generated=_text_or_none(message, "generated", where),
    )


def text_of(content: Any, where: str) -> str:
    """The text of a content: itself, or its text parts, one a line; nothing is the empty text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return "\n".join(_part(part, f"{where}[{i}]") for i, part in enumerate(content))
    raise TypeError(f"{where} must be text or a list of text parts, got {_shown(content)}")


def _part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, Mapping) else part
    raise ValueError(f"{where} is of type {_shown(kind)}, expected 'text': models read text only")


def _read_call(call: Any, where: str) -> ToolCall:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f"{where} has no function with a name: {_shown(call)}")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except NO_JSON as error:
            raise ValueError(f"{where}.arguments is no JSON: {_shown(arguments)}") from error
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{where}.arguments is {_shown(arguments)}, expected a JSON object")
    return ToolCall(function["name"], arguments)


def _text_or_none(message: MessageDict, key: str, where: str) -> str | None:
    value = message.get(key)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{where}.{key} must be text, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """A value, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"

"""A template that is none of ours: the Jinja text of a model file, as it is.

What ours know of themselves, the end of a reply and what its beginning is, is read off its text and
off small conversations that it renders: nothing is rendered before somebody wants to talk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from rwkvcpp.errors import UnsupportedError
from rwkvcpp.templates.messages import Message, MessageDict, read_messages
from rwkvcpp.templates.sandbox import render_jinja
from rwkvcpp.templates.template import Mode, Template, Tools

# What a template says -> where replies end.
ENDS = {
    "<|im_end|>": "<|im_end|>",
    "<|eot_id|>": "<|eot_id|>",
    "<|end|>": "<|end|>",
    "<end_of_turn>": "<end_of_turn>",
    "</s>": "</s>",
    "✿": "✿",
    "### User": "\n### User",
    "User:": "\n\nUser:",
    "Human:": "\n\nHuman:",
    "Question:": "\n\nQuestion:",
}

QUESTION, REPLY = "⟦question⟧", "⟦reply⟧"  # of conversations that show what is around them

THINKING = {"think": True, "fake-think": False}  # mode -> enable_thinking


@dataclass(frozen=True, kw_only=True)
class JinjaTemplate(Template):
    """Unknown Jinja text, rendered in a sandbox."""

    text: str
    where: str  # the file that it is from, for messages
    _begun: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def jinja(self) -> str:
        return self.text

    def render(
        self,
        messages: Sequence[MessageDict],
        *,
        mode: str | None = None,
        add_generation_prompt: bool = True,
        verbatim: bool = False,
        tools: Tools = None,
    ) -> str:
        """As `Template.render`; earlier thoughts are the text's to leave out, verbatim or not."""
        turns = read_messages(messages)
        variables: dict[str, Any] = {
            "messages": [_plain(turn) for turn in turns],
            "add_generation_prompt": add_generation_prompt,
            "bos_token": "",  # begin_of_text says whether there is one
            "eos_token": "",
        }
        if tools:
            variables["tools"] = [dict(tool) for tool in tools]
        name = self.mode(mode).name
        if name in THINKING:
            variables["enable_thinking"] = THINKING[name]
        text = render_jinja(self.text, variables, where=self.where)
        if turns and turns[-1].is_open and not add_generation_prompt:
            return self._open(text, turns[-1].text.strip())
        return text

    def _open(self, text: str, last: str) -> str:
        """`text` up to the end of what was said `last`."""
        at = text.rfind(last)
        if at < 0:
            raise UnsupportedError(
                f"{self.where}: its chat template changes the last message: it cannot be left open"
            )
        return text[: at + len(last)]

    def next_turn(
        self, text: str, *, pending: str | bytes = "", mode: str | None = None, role: str = "user"
    ) -> str:
        """As `Template.next_turn`; UnsupportedError where the text shows no reply as it is."""
        shown = self.render(
            [
                {"role": "user", "content": QUESTION},
                {"role": "assistant", "content": REPLY},
                {"role": role, "content": text},
            ],
            mode=mode,
        )
        _, reply, following = shown.partition(REPLY)
        if not reply:
            raise UnsupportedError(
                f"{self.where}: its chat template does not show replies: "
                "a conversation can only be rendered as a whole"
            )
        return following.removeprefix(self._text_of(pending))

    def with_names(self, **names: str | None) -> Template:
        """ValueError: the names are in the text."""
        raise ValueError(f"{self.where}: its chat template has names of its own")

    def with_tool_form(self, name: str) -> Template:
        """ValueError: how tools are told is in the text."""
        raise ValueError(f"{self.where}: its chat template has a form of its own for tools")

    def begun(self, mode: str | None = None) -> str:
        name = self.mode(mode).name
        if name not in self._begun:
            prompt = self.render([{"role": "user", "content": QUESTION}], mode=name)
            tag = re.search(r"\s?<think>?[^<]*(</think>?\s*)?\Z", prompt)
            self._begun[name] = tag[0] if tag else ""
        return self._begun[name]


def jinja_template(text: str, *, where: str) -> JinjaTemplate:
    """The template that is the Jinja `text`, found in the file `where`. Renders nothing yet."""
    can_think = "enable_thinking" in text
    modes = [Mode("chat")]
    modes += [Mode("think", profile="open-think"), Mode("fake-think", profile="fake-think")]
    return JinjaTemplate(
        name="jinja",
        description="the model's own Jinja text",
        text=text,
        where=where,
        stops=tuple(end for mark, end in ENDS.items() if mark in text),
        modes=MappingProxyType({mode.name: mode for mode in modes[: 3 if can_think else 1]}),
        default_mode="chat",
    )


def _plain(message: Message) -> dict[str, Any]:
    """A message as foreign templates know it."""
    plain: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        plain["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.tool_calls
        ]  # the arguments as an object: templates are written for that
    return plain

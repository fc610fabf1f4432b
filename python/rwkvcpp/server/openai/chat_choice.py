"""ChatChoice: one reply while it comes. Whole answers and streams are made of the same pieces."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rwkvcpp.engine import EndEvent, TokenEvent
from rwkvcpp.server.openai.answer_parts import finish_reason
from rwkvcpp.server.openai.chat_asked import Asked
from rwkvcpp.server.openai.token_names import TokenNames
from rwkvcpp.server.openai.token_trail import TokenTrail
from rwkvcpp.server.service import Service
from rwkvcpp.server.state_exchange import written
from rwkvcpp.templates import Delta, ToolCall


@dataclass(frozen=True)
class Piece:
    """More of a reply: `delta` as a chunk has it, and the logprobs of its tokens."""

    delta: Mapping[str, Any]
    logprobs: list[dict[str, Any]] = field(default_factory=list)


class ChatChoice:
    """One of the replies to a request."""

    def __init__(self, service: Service, asked: Asked) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.logprobs: list[dict[str, Any]] = []  # of the content
        self.end: EndEvent | None = None
        self._service, self._asked = service, asked
        self._reading = asked.reading()
        self._trail = TokenTrail()
        self._names = TokenNames(asked.serving.model.tokenizer)
        self._n_before_words = 0

    def push(self, event: TokenEvent | EndEvent) -> list[Piece]:
        """What the event adds to the reply."""
        if isinstance(event, TokenEvent):
            self._trail.push(event)
        deltas = self._reading.push(event.text)
        if isinstance(event, EndEvent):
            self.end = event
            deltas += self._reading.finish()
        pieces = [self._words(delta) for delta in deltas]
        pieces += [piece for call in self._new_calls() for piece in self._call(call)]
        if isinstance(event, TokenEvent) and not (self._content or self.calls):
            self._n_before_words += 1
        return pieces

    @property
    def finish_reason(self) -> str | None:
        """Why it ended; None before."""
        if self.end is None:
            return None
        reason = finish_reason(self.end.finish_reason, stopped=self._reading.stopped)
        return "tool_calls" if self.calls and reason == "stop" else reason

    @property
    def n_reasoning(self) -> int:
        """Tokens of thoughts."""
        return self._n_before_words if self._reasoning else 0

    @property
    def state(self) -> dict[str, Any] | None:
        """What is left of the model's state, if the client wants it."""
        if self.end is None or self.end.state is None:
            return None
        return written(self.end.state, self._asked.body, self._trail.unshown)

    @property
    def message(self) -> dict[str, Any]:
        """The reply as a message; content is text, always."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._content)}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self.calls:
            message["tool_calls"] = self.calls
        return message

    def _words(self, delta: Delta) -> Piece:
        tokens = self._trail.take(delta.text)
        if delta.kind == "reasoning":
            self._reasoning.append(delta.text)
            return Piece({"reasoning_content": delta.text})
        self._content.append(delta.text)
        logprobs = [self._names.chat(token.logprob) for token in tokens if token.logprob]
        self.logprobs += logprobs
        return Piece({"content": delta.text}, logprobs)

    def _new_calls(self) -> list[ToolCall]:
        calls = self._reading.tool_calls
        if not self._asked.body.parallel_tool_calls:
            calls = calls[:1]
        return [*calls[len(self.calls) :]]

    def _call(self, call: ToolCall) -> list[Piece]:
        """First what is called, then what with."""
        self._trail.skip()
        call_id = "call_" + secrets.token_hex(12)
        self._service.tools_of_calls.remember(call_id, self._asked.conversation.tools)
        index, arguments = len(self.calls), json.dumps(call.arguments, ensure_ascii=False)
        what = {"name": call.name, "arguments": ""}
        begun = {"index": index, "id": call_id, "type": "function", "function": what}
        rest = {"index": index, "function": {"arguments": arguments}}
        whole = {"name": call.name, "arguments": arguments}
        self.calls.append({"id": call_id, "type": "function", "function": whole})
        return [Piece({"tool_calls": [begun]}), Piece({"tool_calls": [rest]})]

"""A chat body understood: the prompt that it makes, and how replies to it are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rwkvcpp.engine import Request
from rwkvcpp.profiles import profile
from rwkvcpp.server.asking import Prompt, requests_for
from rwkvcpp.server.errors import ApiError, refusing
from rwkvcpp.server.openai.chat_body import ChatBody
from rwkvcpp.server.openai.chat_template import mode_for, template_for
from rwkvcpp.server.reading import Inline, Reading, until_stop
from rwkvcpp.server.state_exchange import Beginning, read_beginning
from rwkvcpp.templates import ReplyStream, Template
from rwkvcpp.templates.messages import text_of
from rwkvcpp.templates.tools import FENCE, read_tools
from rwkvcpp.templates.turns import Turns

if TYPE_CHECKING:
    from rwkvcpp.server.service import Service, Serving

KEYS = ("role", "content", "tool_calls", "prefix", "raw")  # of a message; others are not for us

# `presystem`: the turns that demos of World models begin with.
GREETING = (
    {"role": "user", "content": "hi"},
    {
        "role": "assistant",
        "content": "Hi. I am your assistant, and an expert who answers in full and in detail. "
        "Ask me anything, and I will always answer.",
    },
)


@dataclass(frozen=True)
class Conversation:
    """What is told to the model, and the way in which it answers."""

    template: Template
    mode: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]
    begun: str | None  # of the answer, by the client

    def text(self, *, add_generation_prompt: bool = True) -> str:
        """The prompt, with the beginning of the reply or without."""
        return self.template.render(
            self.messages,
            mode=self.mode,
            add_generation_prompt=add_generation_prompt and self.begun is None,
            tools=self.tools or None,
        )

    def reply_stream(self) -> ReplyStream:
        """Takes a reply apart; what the client has written of it is not shown again."""
        if self.begun is None:
            return self.template.reply_stream(mode=self.mode, tools=self.tools or None)
        names = [tool.name for tool in read_tools(self.tools)] if self.tools else None
        begun = self.begun.rstrip()
        if names is None:
            begun = begun.removesuffix(FENCE)  # JSON, and no call
        stream = ReplyStream(begun, tools=names)
        stream.push("")
        return stream

    @property
    def is_thinking(self) -> bool:
        """Whether the client has begun a thought, and so takes it from the text."""
        return self.begun is not None and "<think" in self.begun and "</think" not in self.begun


@dataclass(frozen=True)
class Asked:
    """What the engine is asked for, and how its replies are read."""

    serving: Serving
    body: ChatBody
    conversation: Conversation
    requests: list[Request]

    def reading(self) -> Reading:
        """A reader for one reply."""
        return _reading(self.body, self.conversation)


def understand(service: Service, body: ChatBody) -> Asked:
    """What `body` asks for; ApiError for what it cannot."""
    serving = service.serving()
    if not body.messages:
        raise ApiError(400, "messages not found", code="invalid_value", param="messages")
    if body.top_logprobs and not body.logprobs:
        raise ApiError(
            400, "top_logprobs needs logprobs", code="invalid_value", param="top_logprobs"
        )
    beginning = read_beginning(service, serving, body)
    with refusing():
        conversation = _conversation(service, serving, body)
    with refusing("tools"):
        read_tools(conversation.tools)
    with refusing("messages"):
        tokens = _tokens(serving, conversation, beginning)
    template = conversation.template
    usual = "tools" if conversation.tools else template.mode(conversation.mode).profile
    prompt = Prompt(
        tokens=tokens,
        profile=profile(usual),
        beginning=beginning,
        stops=template.stops,
        stop_tokens=[*template.stop_tokens, *body.stop_token_ids],
        until=lambda: until_stop(_reading(body, conversation), body.stop_strings),
        logprobs=body.top_logprobs if body.logprobs else None,
    )
    return Asked(serving, body, conversation, requests_for(service, serving, body, prompt))


def _conversation(service: Service, serving: Serving, body: ChatBody) -> Conversation:
    messages = [*GREETING] * body.presystem + [_known(message) for message in body.messages]
    if body.system is not None and messages[0].get("role") not in ("system", "developer"):
        messages = [{"role": "system", "content": body.system}, *messages]
    last = messages[-1]
    is_open = bool(last.get("prefix")) and str(last.get("role")).lower() == "assistant"
    with refusing("messages"):
        begun = text_of(last.get("content"), "the last message") if is_open else None
    tools: Sequence[Mapping[str, Any]] = body.tools_offered
    if not tools and body.tool_choice != "none":
        tools = service.tools_of_calls.recall(body.messages)
    template = template_for(serving, body, tools)
    return Conversation(template, mode_for(template, body, begun), messages, tools, begun)


def _known(message: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a message that mean something; a call in its old form is one in the new."""
    known = {key: message[key] for key in KEYS if key in message}
    if message.get("function_call") and not known.get("tool_calls"):
        known["tool_calls"] = [message["function_call"]]
    return known


def _tokens(serving: Serving, conversation: Conversation, beginning: Beginning) -> list[int]:
    """The prompt's tokens; what goes on after a reply is parted from it."""
    tokenizer, template = serving.model.tokenizer, conversation.template
    text = conversation.text()
    if beginning.goes_on:
        parted = (template.after if isinstance(template, Turns) else "") + template.between + text
        return tokenizer.encode(parted.removeprefix(beginning.pending))
    begin = serving.end_of_text if template.begin_of_text else []
    return begin + tokenizer.encode(text)


def _reading(body: ChatBody, conversation: Conversation) -> Reading:
    inline = None
    is_thinking = conversation.is_thinking
    if body.reasoning_format == "none" or (body.reasoning_format is None and is_thinking):
        inline = Inline(is_begun=is_thinking)
    return Reading(conversation.reply_stream(), body.stop_strings, inline=inline)

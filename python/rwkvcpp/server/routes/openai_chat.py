"""OpenAI's chat completions, which RWKV-Runner's clients ask for, too."""

from __future__ import annotations

from rwkvcpp.server import sse
from rwkvcpp.server.choices import Choices
from rwkvcpp.server.errors import refusing
from rwkvcpp.server.openai.chat_answer import chunks, whole
from rwkvcpp.server.openai.chat_asked import understand
from rwkvcpp.server.openai.chat_body import ChatBody
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service

routes = Routes("openai_chat")


@routes.post("/v1/chat/completions", "/chat/completions", body=ChatBody)
def chat(service: Service, body: ChatBody) -> Answer:
    """Answer a conversation."""
    asked = understand(service, body)
    with refusing("messages"):
        choices = Choices(asked.serving.engine, [asked.requests])
    if body.stream:
        return sse.stream(chunks(service, asked, choices))
    return whole(service, asked, choices)

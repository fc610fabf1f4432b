"""OpenAI's chat completions, which RWKV-Runner's clients ask for, too."""

from __future__ import annotations

from rwkvcpp.server.answering import answer
from rwkvcpp.server.batches import batch
from rwkvcpp.server.choices import Choices
from rwkvcpp.server.errors import refusing
from rwkvcpp.server.openai.chat_answer import chunks, whole
from rwkvcpp.server.openai.chat_asked import understand
from rwkvcpp.server.openai.chat_body import ChatBody
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service

routes = Routes("openai_chat")


@routes.post(
    "/v1/chat/completions", "/chat/completions", "/openai/v1/chat/completions", body=ChatBody
)
def chat(service: Service, body: ChatBody) -> Answer:
    """Answer a conversation; with `contents` in place of `messages`, go on from raw prompts."""
    if body.contents and not body.messages:
        return batch(service, body, body.contents, body.pad_zero).answer(service)
    asked = understand(service, body)
    with refusing("messages"):
        choices = Choices(asked.serving.engine, [asked.requests])
    return answer(
        body,
        choices,
        whole=lambda: whole(service, asked, choices),
        chunks=lambda: chunks(service, asked, choices),
    )

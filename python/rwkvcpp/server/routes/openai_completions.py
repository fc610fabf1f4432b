"""OpenAI's completions: a text that goes on, or is scored, or has its middle filled in."""

from __future__ import annotations

from rwkvcpp.server.answering import answer
from rwkvcpp.server.choices import Choices
from rwkvcpp.server.errors import refusing
from rwkvcpp.server.openai.completion_answer import chunks, whole
from rwkvcpp.server.openai.completion_asked import understand
from rwkvcpp.server.openai.completion_body import CompletionBody
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service

routes = Routes("openai_completions")


@routes.post("/v1/completions", "/completions", body=CompletionBody)
def completions(service: Service, body: CompletionBody) -> Answer:
    """Go on from a text."""
    asked = understand(service, body)
    with refusing("prompt"):
        choices = Choices(asked.serving.engine, asked.requests)
    return answer(
        body,
        choices,
        whole=lambda: whole(service, asked, choices),
        chunks=lambda: chunks(service, asked, choices),
    )

"""The answer to a completion: at once, or in chunks as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from rwkvcpp.engine import EndEvent, PromptEvent, TokenEvent, TokenLogprob
from rwkvcpp.server import sse
from rwkvcpp.server.choices import Choices, Numbered
from rwkvcpp.server.openai.answer_parts import begun, usage
from rwkvcpp.server.openai.completion_asked import Asked
from rwkvcpp.server.openai.completion_choice import CompletionChoice, Logprobs, Piece
from rwkvcpp.server.service import Service


class Continuations:
    """All choices of one request while they come."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.choices = [
            CompletionChoice(asked, echo, cast("Sequence[int]", row[0].tokens))
            for echo, row in zip(asked.echoes, asked.requests, strict=True)
            for _ in row
        ]
        self._prompts: dict[int, Sequence[TokenLogprob | None] | None] = {}

    def push(self, numbered: Numbered) -> Piece | None:
        """What the event adds to its choice."""
        index, event = numbered
        choice = self.choices[index]
        if isinstance(event, TokenEvent | EndEvent):
            return choice.push(event)
        return choice.prompt(self._echoed(index, event)) if self.asked.body.echo else None

    def _echoed(self, index: int, event: PromptEvent) -> Sequence[TokenLogprob | None] | None:
        """The first of equal prompts is scored, and the others follow it."""
        prompt = index // self.asked.body.n
        if index % self.asked.body.n == 0:
            self._prompts[prompt] = event.logprobs
        return self._prompts[prompt]

    def usage(self) -> dict[str, Any]:
        """What it has cost."""
        usages = [choice.end.usage for choice in self.choices if choice.end is not None]
        return usage(usages, self.asked.body.n)

    def logprobs(self, found: Logprobs) -> dict[str, Any] | None:
        """As an answer has them."""
        return None if self.asked.body.logprobs is None else found.body

    def state_of_only(self) -> dict[str, Any]:
        """The state that the answer leaves, where there is one answer."""
        state = self.choices[0].state if len(self.choices) == 1 else None
        return {} if state is None else {"state": state}

    def state_of_each(self, index: int) -> dict[str, Any]:
        """Of several answers, each has the state that it leaves."""
        state = self.choices[index].state if len(self.choices) > 1 else None
        return {} if state is None else {"state": state}


def whole(service: Service, asked: Asked, choices: Choices) -> dict[str, Any]:
    """The answer at once."""
    answer = begun(service, "cmpl", "text_completion", asked.serving, choices)
    all_of_them = Continuations(asked)
    with choices:
        for numbered in choices.events():
            if numbered is not None:
                all_of_them.push(numbered)
    answer["choices"] = [
        {
            "index": index,
            "text": choice.text,
            "logprobs": all_of_them.logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }
        | all_of_them.state_of_each(index)
        for index, choice in enumerate(all_of_them.choices)
    ]
    return answer | {"usage": all_of_them.usage()} | all_of_them.state_of_only()


def chunks(service: Service, asked: Asked, choices: Choices) -> Iterator[dict[str, Any] | None]:
    """The answer as it comes; None after a silence."""
    head = begun(service, "cmpl", "text_completion", asked.serving, choices)
    return _chunks(head, asked, choices)


def _chunks(
    head: Mapping[str, Any], asked: Asked, choices: Choices
) -> Iterator[dict[str, Any] | None]:
    all_of_them = Continuations(asked)
    with_usage = asked.body.stream_options.include_usage
    with choices:
        for numbered in choices.events(silence=sse.SILENCE):
            if numbered is None:
                yield None
                continue
            piece = all_of_them.push(numbered)
            if piece is None or not (
                piece.text or piece.logprobs or isinstance(numbered.event, EndEvent)
            ):
                continue
            last = {} if with_usage else all_of_them.state_of_only()
            yield {**head} | {"choices": [_chunk(all_of_them, numbered.choice, piece)]} | last
    if with_usage:
        last = all_of_them.state_of_only()
        yield {**head} | {"choices": [], "usage": all_of_them.usage()} | last


def _chunk(all_of_them: Continuations, index: int, piece: Piece) -> dict[str, Any]:
    chunk = {
        "index": index,
        "text": piece.text,
        "logprobs": all_of_them.logprobs(piece.logprobs),
        "finish_reason": all_of_them.choices[index].finish_reason,
    }
    return chunk | all_of_them.state_of_each(index)

"""Batches: raw prompts answered together, in the shape of rwkv_lightning.

More prompts than slots wait for these, and leave the line to others meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rwkvcpp.engine import EndEvent, Request, TokenEvent
from rwkvcpp.profiles import profile
from rwkvcpp.server.answering import answer
from rwkvcpp.server.asking import Prompt, requests_for
from rwkvcpp.server.choices import Choices
from rwkvcpp.server.errors import not_supported, refusing
from rwkvcpp.server.fields import GenerationFields
from rwkvcpp.server.limits import check_choices
from rwkvcpp.server.openai.answer_parts import begun, finish_reason, usage
from rwkvcpp.server.routing import Answer
from rwkvcpp.server.state_exchange import read_beginning

if TYPE_CHECKING:
    from rwkvcpp.server.service import Service, Serving

# Fields of chats that mean nothing to a batch, and are not passed over in silence.
NOT_HERE = ("return_state", "logprobs", "tools")


@dataclass(frozen=True)
class Batch:
    """What a batch asks for: of each prompt `n` times."""

    serving: Serving
    body: GenerationFields
    requests: Sequence[Sequence[Request]]
    kind: str = "chat.completion"  # `object` of the answer
    is_trimmed: bool = False  # blanks around an answer belong to the prompt's form

    def answer(self, service: Service) -> Answer:
        """All answers, at once or as they come."""
        with refusing():
            choices = Choices(self.serving.engine, self.requests)
        kind = self.kind + ".chunk" if self.body.stream else self.kind
        head = begun(service, "batch", kind, self.serving, choices)
        return answer(
            self.body,
            choices,
            whole=lambda: self._whole(head, choices),
            chunks=lambda: self._chunks(head, choices),
        )

    def texts(self, choices: Choices) -> tuple[list[str], list[EndEvent]]:
        """What each one wrote, and how it ended."""
        texts, ends = [""] * len(choices), dict[int, EndEvent]()
        with choices:
            for numbered in choices.events():
                assert numbered is not None  # without a silence there is no None
                index, event = numbered
                if isinstance(event, TokenEvent | EndEvent):
                    texts[index] += event.text
                if isinstance(event, EndEvent):
                    ends[index] = event
        return texts, [ends[index] for index in range(len(choices))]

    def _whole(self, head: Mapping[str, Any], choices: Choices) -> dict[str, Any]:
        texts, ends = self.texts(choices)
        found = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish_reason(end.finish_reason),
            }
            for index, (text, end) in enumerate(zip(texts, ends, strict=True))
        ]
        return {**head, "choices": found, "usage": self._usage(ends)}

    def _chunks(self, head: Mapping[str, Any], choices: Choices) -> Iterator[dict[str, Any] | None]:
        """No pings: the programs that read batches take every line for an event."""
        ends: dict[int, EndEvent] = {}
        with choices:
            for numbered in choices.events():
                assert numbered is not None
                index, event = numbered
                if isinstance(event, TokenEvent | EndEvent) and event.text:
                    yield {**head, "choices": [_chunk(index, {"content": event.text}, None)]}
                if isinstance(event, EndEvent):
                    ends[index] = event
                    reason = finish_reason(event.finish_reason)
                    yield {**head, "choices": [_chunk(index, {}, reason)]}
        if self.body.stream_options.include_usage:
            found = self._usage([ends[index] for index in range(len(choices))])
            yield {**head, "choices": [], "usage": found}

    def _usage(self, ends: Sequence[EndEvent]) -> dict[str, Any]:
        return usage([end.usage for end in ends], self.body.n)


def _chunk(index: int, delta: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": reason}


def batch(
    service: Service, body: GenerationFields, contents: Sequence[str], pad_zero: bool | None
) -> Batch:
    """What `contents` ask for: raw prompts, in which roles are written out.

    They end where the model's template says, unless `body` has stops of its own.
    """
    for name in NOT_HERE:
        if getattr(body, name, None):
            raise not_supported(f"{name} is not for batches", name)
    serving = service.serving()
    check_choices(service.settings, len(contents), body.n, "contents")
    beginning = read_beginning(service, serving, body)
    stops_are_sent = bool({"stop", "stop_tokens", "stop_token_ids"} & body.model_fields_set)
    begins = [] if beginning.goes_on else serving.raw_begin(pad_zero)
    requests = [
        requests_for(
            service,
            serving,
            body,
            Prompt(
                tokens=[
                    *begins,
                    *serving.model.tokenizer.encode(text.removeprefix(beginning.pending) or "\n"),
                ],
                profile=profile("standard"),
                beginning=beginning,
                stops=body.stop_strings if stops_are_sent else serving.template.stops,
                stop_tokens=[*serving.end_of_text, *body.stop_token_ids],
            ),
        )
        for text in contents
    ]
    return Batch(serving, body, requests)

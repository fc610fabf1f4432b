"""Many requests through one model at once: a thread that batches them, step by step.

>>> with Engine(model) as engine:
...     generation = engine.submit(Request(tokens=model.tokenizer.encode("Once upon a time")))
...     for event in generation:
...         if isinstance(event, TokenEvent):
...             print(event.text, end="", flush=True)
"""

from rwkvcpp.engine.engine import Engine, EngineStatus
from rwkvcpp.engine.errors import EngineClosedError, QueueFullError
from rwkvcpp.engine.events import EndEvent, Event, PromptEvent, TokenEvent, Usage
from rwkvcpp.engine.generation import Answer, Generation
from rwkvcpp.engine.logprobs import TokenLogprob
from rwkvcpp.engine.request import Request

__all__ = [
    "Answer",
    "EndEvent",
    "Engine",
    "EngineClosedError",
    "EngineStatus",
    "Event",
    "Generation",
    "PromptEvent",
    "QueueFullError",
    "Request",
    "TokenEvent",
    "TokenLogprob",
    "Usage",
]

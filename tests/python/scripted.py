"""A model that says what it is told to: everything is real but the tokens that are drawn.

The bundled model tells stories and was trained on nothing else; replies with thoughts and calls
are put into its mouth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from unittest import mock

from rwkvcpp import SamplingParams
from rwkvcpp.tokenizer import Tokenizer

Script = str | Sequence[int]


@contextmanager
def saying(tokenizer: Tokenizer, scripts: Script | Mapping[int, Script]) -> Iterator[None]:
    """Inside of it, requests draw the tokens of a text, then the end of text for ever.

    scripts: by seed; a single one is for all seeds.
    """

    class Scripted:
        def __init__(self, params: SamplingParams) -> None:
            script = scripts[params.seed or 0] if isinstance(scripts, Mapping) else scripts
            tokens = tokenizer.encode(script) if isinstance(script, str) else script
            self._tokens = iter(tokens)

        def observe(self, token: int) -> None:
            pass

        def sample(self, logits: object) -> int:
            end = tokenizer.end_of_text
            assert end is not None
            return next(self._tokens, end)

    with mock.patch("rwkvcpp.engine.run.Sampler", Scripted):
        yield

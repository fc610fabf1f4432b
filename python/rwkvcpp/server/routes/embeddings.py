"""OpenAI's embeddings: what a text is about, as a vector of length 1 and n_embd numbers."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rwkvcpp.embedding import embed
from rwkvcpp.server.bodies import Body
from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.limits import check_prompt
from rwkvcpp.server.openai.texts import Text, Texts, as_list, check_ids
from rwkvcpp.server.record import current_record
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service, Serving

MOST_INPUTS = 2048  # OpenAI's
TURN = threading.Lock()  # of requests, call by call: so those who write are every second one

routes = Routes("embeddings")


class EmbeddingsBody(Body):
    """A text or a list of such, each as it is or as token ids of this model's vocabulary."""

    input: Texts | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)


@routes.post(
    "/v1/embeddings",
    "/embeddings",
    "/v1/engines/text-embedding-ada-002/embeddings",
    "/engines/text-embedding-ada-002/embeddings",
    body=EmbeddingsBody,
)
def embeddings(service: Service, body: EmbeddingsBody) -> Answer:
    """Turn texts into vectors."""
    serving = service.serving()
    rows = _token_rows(service, serving, body)
    vectors = Embedding(serving, rows).vectors()
    n_tokens = sum(map(len, rows))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _written(vector, body)}
            for index, vector in enumerate(vectors)
        ],
        "model": serving.id,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }


def _token_rows(service: Service, serving: Serving, body: EmbeddingsBody) -> list[list[int]]:
    """The tokens of each text; ApiError for what is none."""
    width = serving.model.n_embd
    if body.dimensions not in (None, width):
        message = f"dimensions is {body.dimensions}, expected the {width} of this model"
        raise ApiError(400, message, code="invalid_value", param="dimensions")
    texts = as_list(body.input)
    if body.input is None or not all(texts):
        message = "input not found" if body.input is None else "input is empty, expected a text"
        raise ApiError(400, message, code="invalid_value", param="input")
    if len(texts) > MOST_INPUTS:
        message = f"input has {len(texts)} texts, expected at most {MOST_INPUTS}"
        raise ApiError(400, message, code="invalid_value", param="input")
    rows = [_tokens(serving, text, f"input {i}") for i, text in enumerate(texts)]
    for row in rows:
        check_prompt(service.settings, row, "input")
    return rows


def _tokens(serving: Serving, text: Text, where: str) -> list[int]:
    if isinstance(text, str):
        return serving.model.tokenizer.encode(text)
    check_ids(serving, text, where, "input")
    return text


class Embedding:
    """The vectors of one request, as long as somebody waits for them."""

    def __init__(self, serving: Serving, rows: Sequence[list[int]]) -> None:
        self._serving = serving
        self._rows = [np.array(row, np.int32) for row in rows]
        self._is_gone = False

    def leave(self) -> None:
        """The client hung up."""
        self._is_gone = True

    def vectors(self) -> NDArray[np.float32]:
        """One for each text, [n_texts, n_embd]; ApiError when nobody waits."""
        record = current_record()
        unwatch = None if record is None else record.watch(self.leave)
        try:
            return embed(self._serving.model, self._rows, turn=self._turn)
        finally:
            if unwatch is not None:
                unwatch()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with TURN:
            if self._is_gone:
                raise ApiError(400, "the client hung up", code="cancelled")
            yield


def _written(vector: NDArray[np.float32], body: EmbeddingsBody) -> Any:
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()

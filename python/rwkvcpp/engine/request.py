"""Request: what an engine is asked for, and the checks that need no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.errors import StateError
from rwkvcpp.sampling import SamplingParams
from rwkvcpp.state import State

if TYPE_CHECKING:
    from rwkvcpp.model import Model, Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A prompt, and how to go on from it.

    tokens: the prompt, at least one token; a text begins with [0].
    state: what the prompt continues: a tuned state, or one that a request returned. It is copied
        when the request gets its slot, so leave it alone until the first event. None: nothing.
    stop, stop_tokens: as of `session.generate`: strings that end the text, and tokens that do
        (None: the vocabulary's end of text).
    until: is shown each new text, in the engine's thread, and ends the request by True: what stops
        cannot say, such as a stop that only counts behind a thought. The text is not cut.
    logprobs: tell the logarithm of each token's probability, and of so many likeliest ones.
    prompt_logprobs: the same for the prompt, which then is computed whole.
    penalized: tokens that penalties count as if they had been drawn before.
    return_state: the end comes with the state.
    use_cache: begin from what the engine's cache knows, and leave it what is read.
    boundaries: keep a snapshot after so many tokens of the prompt, too.
    client: who asks. Those who wait take turns, however many requests each of them has.
    """

    tokens: Tokens
    state: State | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int = 256
    stop: str | Sequence[str] = ()
    stop_tokens: Sequence[int] | None = None
    until: Callable[[str], bool] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    penalized: Sequence[int] = ()
    return_state: bool = False
    use_cache: bool = True
    boundaries: Sequence[int] = ()
    client: str = ""

    def __post_init__(self) -> None:
        _check_count("max_tokens", self.max_tokens)
        for name in ("logprobs", "prompt_logprobs"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        for place in self.boundaries:
            if not 0 <= place <= len(self.tokens):
                raise ValueError(f"a boundary is {place}, expected 0 to {len(self.tokens)} tokens")


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")


def checked_tokens(request: Request, model: Model) -> NDArray[np.int32]:
    """The prompt as an array; IndexError for a token that the model does not have."""
    row = np.asarray(request.tokens)
    if row.size == 0:
        raise ValueError("the prompt has no tokens, expected at least one: a text begins with [0]")
    if row.ndim != 1 or row.dtype.kind not in "iu":
        raise TypeError(
            f"the prompt is {row.dtype} {list(row.shape)}, expected one row of integers"
        )
    _check_vocabulary("token {} of the prompt", row, model)
    _check_vocabulary("token {} of those to be penalized", np.asarray(request.penalized), model)
    _check_vocabulary("token {} of logit_bias", np.array([*request.sampling.logit_bias]), model)
    return row.astype(np.int32)


def _check_vocabulary(name: str, row: NDArray[Any], model: Model) -> None:
    wrong = np.flatnonzero((row < 0) | (row >= model.n_vocab))
    if len(wrong):
        raise IndexError(
            f"{name.format(wrong[0])} is {row[wrong[0]]}, expected 0 to {model.n_vocab - 1}"
        )


def check_state(request: Request, model: Model) -> None:
    """StateError for a state of other weights."""
    if request.state is None:
        return
    found, expected = request.state.identity, model.identity
    if found.fingerprint != expected.fingerprint:
        raise StateError(f"the state is one of {found}, expected one of {expected}")


def begin_state(request: Request, model: Model) -> State:
    """A copy of what the prompt continues."""
    return model.initial_state() if request.state is None else request.state.clone()

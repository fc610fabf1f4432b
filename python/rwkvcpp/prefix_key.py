"""PrefixKey: what two sessions must share before equal tokens mean equal states."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from rwkvcpp import _core
from rwkvcpp.errors import StateError

if TYPE_CHECKING:
    from rwkvcpp.model import Model
    from rwkvcpp.session import Checkpoint
    from rwkvcpp.state import State

_stamps: WeakKeyDictionary[Model, str] = WeakKeyDictionary()


@dataclass(frozen=True)
class PrefixKey:
    """One model, to the last bit of its logits, and the state that its texts begin with.

    What comes from a file has a key of its own: that its tokens led to its state is only claimed,
    and sessions that computed theirs do not rely on it.
    """

    model: Model
    start: tuple[int, int]  # n_tokens and tokens_hash of that state
    claim: str = ""  # of the file that a state or session was loaded from

    @classmethod
    def of(cls, model: Model, state: State | None = None) -> PrefixKey:
        """The key of sessions of `model` that begin with `state`, a tuned one, or from nothing.

        StateError for a state that continues approximately: nothing of it is kept.
        """
        begin = model.initial_state() if state is None else state
        if not _is_exact(begin, model):
            raise StateError(
                f"{begin!r} of {begin.identity} continues approximately with {model.identity}, "
                "expected a state that can be kept for the same text"
            )
        return cls(model, (begin.n_tokens, begin.tokens_hash), begin._claim)

    @classmethod
    def of_moment(cls, moment: Checkpoint) -> PrefixKey | None:
        """The key of a session at one moment; None when its tokens do not say what its state is."""
        key = cls(moment.model, moment.start, moment.state._claim)
        return key if key.fits(moment.tokens, moment.state) else None

    def fits(self, tokens: Sequence[int], state: State) -> bool:
        """Whether `state` is, to the last bit, what follows from `tokens`.

        It is not after it was changed by hand, or when it continues approximately.
        """
        return (
            _is_exact(state, self.model)
            and state._claim == self.claim
            and state.n_tokens == self.start[0] + len(tokens)
            and state.tokens_hash == _core.hash_tokens(tokens, self.start[1])
        )

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that only equal keys share, in other processes, too.

        Another version of rwkvcpp may round otherwise, so it has other keys.
        """
        parts = (_core.__version__, _stamp(self.model), *self.start, self.claim)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).digest()


def _is_exact(state: State, model: Model) -> bool:
    """Whether `state` is what this very model makes of its tokens."""
    same = state.identity.exact_fingerprint == model.identity.exact_fingerprint
    return same and state.is_exact


def _stamp(model: Model) -> str:
    """The exact weights: their fingerprint, made of samples, and when their files changed last."""
    if model not in _stamps:
        status = [path.stat() for path in _files(model.path)]
        changed = " ".join(f"{found.st_size} {found.st_mtime_ns}" for found in status)
        _stamps[model] = f"{model.identity.exact_fingerprint} {changed}"
    return _stamps[model]


def _files(path: Path) -> list[Path]:
    """Of a model; none when it was deleted after it was loaded."""
    if path.is_dir():
        return sorted(child for child in path.iterdir() if child.is_file())
    return [path] if path.exists() else []

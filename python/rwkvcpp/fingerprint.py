"""Which weights a state belongs to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from rwkvcpp import _core


@dataclass(frozen=True)
class ModelIdentity:
    """The weights of a model, told by two hashes.

    Files of the same weights share `fingerprint`, whatever container and weight types they have:
    the SHA-256 of the architecture, the sizes and all token-shift vectors, rounded to bfloat16. A
    state of one is a state of all of them. Only models that compute the same logits, to the last
    bit, share `exact_fingerprint`: the SHA-256 of every tensor's name, types, shape and a kilobyte
    of its bytes, of the epsilons and of the activations. Two trainings that differ in a few weights
    only, none of them among those bytes, are not told apart.
    """

    name: str  # of the file, for messages
    description: str  # "RWKV 7, 12 layers of 768", for messages
    fingerprint: str
    exact_fingerprint: str

    def is_near(self, other: ModelIdentity) -> bool:
        """Whether these are the same weights in other types, or with other options."""
        same = self.fingerprint == other.fingerprint
        return same and self.exact_fingerprint != other.exact_fingerprint

    def __str__(self) -> str:
        return f"{self.name} ({self.description})"


def identity_of(model: _core.Model, name: str) -> ModelIdentity:
    """The identity of a loaded model, whose file is called `name`."""
    return ModelIdentity(
        name,
        model.description,
        hashlib.sha256(model.identity).hexdigest(),
        hashlib.sha256(model.exact_identity).hexdigest(),
    )

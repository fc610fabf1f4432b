"""Prints a digest of what the engine computes on model files, one line for each.

    RWKVCPP_ISA=scalar python -m tests.reference.digest FILE...

The instruction set is chosen once per process, so comparing two takes two processes.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import rwkvcpp
from tests.reference.cases import TOKENS


def digest(path: Path, *, activations: str = "int8") -> str:
    """A hash of the bits of all logits and of the state, of 1, 2, 4 and 7 rows together."""
    model = rwkvcpp.Model(path, activations=activations)
    state = model.initial_state()
    bits = hashlib.sha256()
    for tokens in (TOKENS[:7], TOKENS[7:8], TOKENS[8:12], TOKENS[12:14], TOKENS[14:15]):
        bits.update(model.forward(tokens, state, all_logits=True).tobytes())
    for name, array in sorted(state.to_numpy().items()):
        bits.update(name.encode() + array.tobytes())
    return bits.hexdigest()


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        for activations in ("int8", "float32"):
            print(digest(Path(argument), activations=activations))

"""State: everything a model remembers of one sequence, in a size that never grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rwkvcpp import _core

if TYPE_CHECKING:
    from rwkvcpp.model import Model


class State:
    """The recurrent state of one sequence: `model.initial_state()` makes one.

    `Model.forward` advances it in place; `clone()` keeps a copy to come back to. It belongs to
    weights, not to a Model object: another Model of the same weights takes it. One thread at a
    time may use a state; different states may be used at once.
    """

    def __init__(self, native: _core.State) -> None:
        self._native = native

    @classmethod
    def from_numpy(cls, arrays: Mapping[str, ArrayLike], model: Model) -> State:
        """A state of `model` with the values of `arrays`, as `to_numpy` gave them.

        >>> model = rwkvcpp.Model()
        >>> np.savez("state.npz", **state.to_numpy())
        >>> state = rwkvcpp.State.from_numpy(np.load("state.npz"), model)
        """
        state = model.initial_state()
        state.assign(arrays)
        return state

    @property
    def nbytes(self) -> int:
        """Bytes that the state takes, however many tokens it has seen."""
        return self._native.nbytes

    @property
    def n_tokens(self) -> int:
        """Tokens consumed since the initial state."""
        return self._native.n_tokens

    def clone(self) -> State:
        """An independent copy."""
        return State(self._native.clone())

    def to_numpy(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the arrays, by name: "blocks.0.att.x", "blocks.0.att.wkv", "blocks.0.ffn.x".

        Version 4 has "blocks.0.att.aa", "bb" and "pp" in the place of "wkv". The matrices are
        [head][key][value] in versions 5 and 6 and [head][value][key] in version 7, as in the torch
        package.
        """
        return self._native.arrays()

    def assign(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Take over the values of `arrays`, all of them or, with a StateError, none."""
        named = {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}
        self._native.assign(named)

    def __copy__(self) -> State:
        return self.clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        return self.clone()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a State cannot be pickled: it belongs to the weights of a loaded model; "
            "save to_numpy() and restore it with State.from_numpy(arrays, model)"
        )

    def __repr__(self) -> str:
        return f"<rwkvcpp.State after {self.n_tokens} tokens, {self.nbytes} bytes>"

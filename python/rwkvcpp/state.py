"""State: everything a model remembers of one sequence, in a size that never grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rwkvcpp import _core
from rwkvcpp.fingerprint import ModelIdentity
from rwkvcpp.whole_file import PathArgument

if TYPE_CHECKING:
    from rwkvcpp.model import Model
    from rwkvcpp.state_file import DType


class State:
    """The recurrent state of one sequence: `model.initial_state()` makes one.

    `Model.forward` advances it in place; `clone()` keeps a copy to come back to. It belongs to
    weights, not to a Model object: another Model of the same weights takes it. One thread at a
    time may use a state; different states may be used at once.
    """

    def __init__(
        self,
        native: _core.State,
        identity: ModelIdentity,
        *,
        is_exact: bool = True,
        claim: str = "",
    ) -> None:
        self._native = native
        self._identity = identity
        self._is_exact = is_exact
        self._claim = claim  # of the file that alone says which tokens led here; "" if they did

    @classmethod
    def from_numpy(cls, arrays: Mapping[str, ArrayLike], model: Model) -> State:
        """A state of `model` with the values of `arrays`, as `to_numpy` gave them.

        >>> model = rwkvcpp.Model()
        >>> np.savez("state.npz", **state.to_numpy())
        >>> state = rwkvcpp.State.from_numpy(np.load("state.npz"), model)
        """
        state = model._empty_state()
        state.assign(arrays)
        return state

    @staticmethod
    def blend(parts: Sequence[tuple[State, float]]) -> State:
        """A state between others, all of the same weights: the sum of each times its weight.

        Weights that add up to 1 stay in between; tuned states may also be added whole, or
        subtracted. Version 4 keeps averages with their weights, so there none may be negative.
        """
        from rwkvcpp.state_blend import blended

        return blended(parts)

    @property
    def nbytes(self) -> int:
        """Bytes that the state takes, however many tokens it has seen."""
        return self._native.nbytes

    @property
    def n_tokens(self) -> int:
        """Tokens consumed since the initial state."""
        return self._native.n_tokens

    @property
    def tokens_hash(self) -> int:
        """A hash of the tokens consumed, and of the values that it began with unless from nothing.

        64 bits; the same tokens give the same hash, however they were cut up.
        """
        return self._native.tokens_hash

    @property
    def identity(self) -> ModelIdentity:
        """The weights that it belongs to."""
        return self._identity

    @property
    def is_exact(self) -> bool:
        """Whether it is, to the last bit, what these weights make of its tokens.

        False after a float16 file, and after one that comes from the same weights in other types.
        """
        return self._is_exact

    @property
    def layout(self) -> list[tuple[str, tuple[int, ...]]]:
        """(name, shape) of its arrays, in order."""
        return [(name, tuple(shape)) for name, shape in self._native.layout]

    def clone(self) -> State:
        """An independent copy."""
        native = self._native.clone()
        return State(native, self._identity, is_exact=self._is_exact, claim=self._claim)

    def save(self, path: PathArgument, *, dtype: DType = "float32", durable: bool = False) -> None:
        """Write the state to `path`, for `model.load_state`: the whole file, or nothing at all.

        dtype: "float16" makes half as much of it, which is inexact and says so when it is loaded.
        durable: return when the disk has it, and not only the system.
        """
        from rwkvcpp import state_container

        state_container.write(path, self._pieces(dtype), durable=durable)

    def to_bytes(self, *, dtype: DType = "float32") -> bytes:
        """What `save` would write, for `model.state_from_bytes`."""
        return b"".join(self._pieces(dtype))

    def _pieces(self, dtype: DType) -> Sequence[bytes | memoryview]:
        from rwkvcpp.state_container import pack
        from rwkvcpp.state_file import state_fields, state_section

        section = state_section(self, dtype)
        return pack({"kind": "state", **state_fields(self, dtype)}, {"state": section})

    def to_rwkv_cpp(self) -> NDArray[np.float32]:
        """The state as rwkv.cpp has it: floats without names, for `model.state_from_rwkv_cpp`."""
        from rwkvcpp.rwkv_cpp_state import to_rwkv_cpp

        return to_rwkv_cpp(self)

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
            "send to_bytes() and restore it with model.state_from_bytes(data)"
        )

    def __repr__(self) -> str:
        exact = "" if self.is_exact else ", inexact"
        return f"<rwkvcpp.State after {self.n_tokens} tokens, {self.nbytes} bytes{exact}>"

"""States as rwkv.cpp has them: floats one behind the other, without names or a header.

Layer by layer: the input of channel mixing and that of time mixing, both of the last token; then in
version 4 aa, bb and pp, later the matrices, [head][key][value] in versions 5 and 6 and
[head][value][key] in version 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rwkvcpp.errors import StateError
from rwkvcpp.state import State

if TYPE_CHECKING:
    from rwkvcpp.model import Model


def to_rwkv_cpp(state: State) -> NDArray[np.float32]:
    """All values of a state, float32 [n]."""
    arrays = state.to_numpy()
    return np.concatenate([arrays[name].reshape(-1) for name in _order(arrays)])


def from_rwkv_cpp(values: ArrayLike, model: Model) -> State:
    """A state of `model` with these values; StateError when there are more or fewer."""
    state = model._empty_state()
    arrays = state.to_numpy()
    flat = np.asarray(values, np.float32).reshape(-1)
    n_values = sum(array.size for array in arrays.values())
    if flat.size != n_values:
        raise StateError(
            f"a state of rwkv.cpp has {flat.size} values, expected {n_values} for {model.identity}"
        )
    begin = 0
    for name in _order(arrays):
        end = begin + arrays[name].size
        arrays[name] = flat[begin:end].reshape(arrays[name].shape)
        begin = end
    state.assign(arrays)
    return state


def _order(arrays: dict[str, Any]) -> list[str]:
    """Ours has the input of channel mixing last."""
    blocks: dict[str, list[str]] = {}
    for name in arrays:
        blocks.setdefault(name.partition(".att.")[0].partition(".ffn.")[0], []).append(name)
    return [name for names in blocks.values() for name in (names[-1], *names[:-1])]

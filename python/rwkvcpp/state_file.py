"""A State in a container: which weights it belongs to, where it comes from, and its arrays.

The section "state" holds all arrays one behind the other, in the order of the model's layers,
named and turned as `State.to_numpy` has them: float32 or, when it is asked for, float16, which is
half as long and inexact.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.errors import StateError
from rwkvcpp.fingerprint import ModelIdentity
from rwkvcpp.header_fields import Fields, shown
from rwkvcpp.state_container import Buffer, Container

if TYPE_CHECKING:
    from rwkvcpp.model import Model
    from rwkvcpp.state import State

DType: TypeAlias = Literal["float32", "float16"]

DTYPES = ("float32", "float16")
DIGEST = 64  # hexadecimal digits of SHA-256

# Version 4's largest exponent so far. A state that has seen nothing has -1e30, and exp() of that is
# 0, as is exp() of the lowest float16.
EXPONENTS = ".att.pp"


def state_fields(state: State, dtype: DType) -> dict[str, Any]:
    """What a header says of a state."""
    identity = state.identity
    return {
        "model": {
            "name": _printable(identity.name),
            "description": identity.description,
            "fingerprint": identity.fingerprint,
            "exact": identity.exact_fingerprint,
        },
        "state": {
            "dtype": dtype,
            "exact": state.is_exact and dtype == "float32",
            "n_tokens": state.n_tokens,
            "tokens_hash": f"{state.tokens_hash:016x}",
            "arrays": [[name, *shape] for name, shape in state.layout],
        },
    }


def state_section(state: State, dtype: DType) -> Buffer:
    """The arrays as bytes."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, expected {' or '.join(map(repr, DTYPES))}")
    values = state._native.values()
    return (values if dtype == "float32" else _halved(state, values)).data.cast("B")


def _halved(state: State, values: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if np.isfinite(half).all():
        return half
    begin = 0
    for name, shape in state.layout:
        end = begin + prod(shape)
        part = half[begin:end]
        if name.endswith(EXPONENTS):
            np.nan_to_num(part, copy=False)  # the lowest number for -inf
        elif not np.isfinite(part).all():
            worst = float(np.abs(values[begin:end]).max())
            raise StateError(
                f"state array {name} holds {worst:g}, expected at most 65504 for float16: "
                "save it as float32"
            )
        begin = end
    return half


def read_state(container: Container, model: Model) -> State:
    """The state in a container, of any kind; StateError unless it is one of `model`."""
    where, header = container.where, container.header
    saved = header.object("model")
    _check_model(where, saved, model.identity)
    fields = header.object("state")
    dtype = fields.one_of("dtype", *DTYPES)
    state = model._empty_state()
    _check_arrays(fields, state)
    values = _values(container, dtype, state)
    n_tokens = fields.integer("n_tokens")
    history = int(fields.hexadecimal("tokens_hash", 16), 16)
    try:
        state._native.restore(values, n_tokens, history)
    except StateError as error:
        raise StateError(f"{where}: {error}") from None
    exact = fields.one_of("exact", True, False) and dtype == "float32"
    same = saved.hexadecimal("exact", DIGEST) == model.identity.exact_fingerprint
    state._is_exact = exact and same
    state._claim = secrets.token_hex(16)  # nobody can check it, so it is like no other
    if not state.is_exact:
        model._tell_approximate(where, *_reason(saved, exact))
    return state


def _check_model(where: str, saved: Fields, own: ModelIdentity) -> None:
    name, description = saved.text("name"), saved.text("description")
    if saved.hexadecimal("fingerprint", DIGEST) != own.fingerprint:
        raise StateError(
            f"{where}: belongs to the weights of {name} ({description}), expected those of {own}"
        )


def _check_arrays(fields: Fields, state: State) -> None:
    found = fields.raw("arrays")
    expected = [[name, *shape] for name, shape in state.layout]
    if found == expected:
        return
    if not isinstance(found, list) or len(found) != len(expected):
        raise fields.wrong("arrays", f"a list of {len(expected)} arrays")
    number = next(i for i, array in enumerate(expected) if found[i] != array)
    raise StateError(
        f"{fields.where}: state.arrays[{number}] is {shown(found[number])}, "
        f"expected {expected[number]}"
    )


def _values(container: Container, dtype: DType, state: State) -> NDArray[np.float32]:
    n_values = sum(prod(shape) for _, shape in state.layout)
    n_bytes = n_values * np.dtype(dtype).itemsize
    values: NDArray[Any] = np.frombuffer(container.section("state", n_bytes), dtype)
    return np.asarray(values, np.float32)


def _reason(saved: Fields, exact: bool) -> tuple[str, str]:
    """A key, to tell each only once, and what is told."""
    if not exact:
        return "inexact", "it was saved as float16, or is itself such a continuation"
    return saved.hexadecimal("exact", DIGEST), (
        f"it comes from {saved.text('name')}, the same weights in other types or with other options"
    )


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)[:255]


def summary(header: Fields) -> Mapping[str, Any]:
    """What `rwkvcpp info` tells of a file, its header checked as far as that goes."""
    model, state = header.object("model"), header.object("state")
    return {
        "model": model.text("name"),
        "version": model.text("description"),
        "fingerprint": model.hexadecimal("fingerprint", DIGEST),
        "n_tokens": state.integer("n_tokens"),
        "tokens_hash": state.hexadecimal("tokens_hash", 16),
        "dtype": state.one_of("dtype", *DTYPES),
        "exact": state.one_of("exact", True, False),
    }

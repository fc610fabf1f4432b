"""States that clients keep: one comes with a request, another goes with its answer.

    {"format": "base64", "data": "cndrdnN0DQo…", "n_tokens": 57, "pending": "\\n\\nUser:"}

The data are the bytes of a state file. As "json" they are its header and its arrays by name, each a
flat list of numbers. `pending` is the end of what the state has read that the answer does not show,
such as the stop; a client that sends it back is not told it twice.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rwkvcpp import State, StateError
from rwkvcpp.server.errors import ApiError
from rwkvcpp.state_container import pack, read_bytes
from rwkvcpp.state_file import DIGEST, DTYPES, DType, read_state, state_fields, state_section

if TYPE_CHECKING:
    from rwkvcpp import Model
    from rwkvcpp.server.fields import StateFields
    from rwkvcpp.server.service import Service, Serving


@dataclass(frozen=True)
class Beginning:
    """What a prompt continues."""

    state: State | None = None  # None: nothing, or what the model begins with
    pending: str = ""  # the end of what it has read, which the prompt need not say again

    @property
    def goes_on(self) -> bool:
        """Whether there is a text before the prompt."""
        return self.state is not None and self.state.n_tokens > 0


NOTHING = Beginning()


def read_beginning(service: Service, serving: Serving, body: StateFields) -> Beginning:
    """What `body` says: a tuned state by its name, a state that an answer had, or nothing.

    ApiError 409 for a state of other weights, 400 for what is none.
    """
    asked = service.defaults.get("state") if body.state is None else body.state
    if not asked:
        return NOTHING
    if isinstance(asked, str):
        return Beginning(serving.states.named(asked))
    pending = asked.get("pending") or ""
    if not isinstance(pending, str):
        raise _wrong(f"state.pending is {pending!r:.60}, expected text")
    return Beginning(_read(asked, serving.model), pending)


def _read(asked: Mapping[str, Any], model: Model) -> State:
    form = asked.get("format", "base64")
    if not isinstance(form, str) or form not in FORMATS:
        raise _wrong(f"state.format is {form!r:.60}, expected one of {', '.join(FORMATS)}")
    with _refusing():
        container = read_bytes(FORMATS[form](asked.get("data")), "the state")
        found = container.header.object("model").hexadecimal("fingerprint", DIGEST)
    if found != model.identity.fingerprint:
        read_state(container, model)  # says whose it is
    with _refusing():
        return read_state(container, model)


def _of_base64(data: Any) -> bytes:
    if not isinstance(data, str):
        raise _wrong(f"state.data is {data!r:.60}, expected base64")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong(f"state.data is no base64: {error}") from None


def _of_json(data: Any) -> bytes:
    """The bytes of the state file that `data` tells of: whether it is one, its reader says."""
    header, arrays = _object(data, "header"), _object(data, "arrays")
    about = _object(header, "state")
    dtype, layout = about.get("dtype"), about.get("arrays")
    if not isinstance(dtype, str) or dtype not in DTYPES or not isinstance(layout, list):
        raise _wrong("state.data.header.state has no dtype and arrays, expected an answer's state")
    names = [entry[0] if isinstance(entry, list) and entry else entry for entry in layout]
    rows = [
        _row(name, arrays.get(name) if isinstance(name, str) else None, dtype) for name in names
    ]
    section = np.concatenate([np.zeros(0, dtype), *rows]).tobytes()
    return b"".join(pack({"kind": "state", **header}, {"state": section}))


def _object(data: Any, name: str) -> Mapping[str, Any]:
    found = data.get(name) if isinstance(data, Mapping) else None
    if not isinstance(found, Mapping):
        raise _wrong(f"state.data has no {name}, expected the state of an answer")
    return found


def _row(name: Any, values: Any, dtype: str) -> NDArray[Any]:
    try:
        row = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        row = np.zeros((0, 0))
    if row.ndim != 1:
        raise _wrong(f"state.data.arrays has no flat list of numbers {name!r:.60}")
    with np.errstate(over="ignore"):
        return row.astype(dtype)


FORMATS = {"base64": _of_base64, "json": _of_json}


@contextmanager
def _refusing() -> Iterator[None]:
    """What is no state is the client's mistake."""
    try:
        yield
    except (StateError, ValueError) as error:
        raise _wrong(str(error)) from error


def _wrong(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_value", param="state")


# ---- in an answer --------------------------------------------------------------------------------


def written(state: State, body: StateFields, pending: str) -> dict[str, Any]:
    """What an answer has of the state that it leaves."""
    form = body.return_state or "base64"
    dtype = _possible(state, body.state_dtype)
    data = WRITERS[form](state, dtype)
    return {"format": form, "data": data, "n_tokens": state.n_tokens, "pending": pending}


def _possible(state: State, dtype: DType) -> DType:
    """float16 as long as it can hold the values."""
    if dtype == "float16":
        try:
            state_section(state, dtype)
        except StateError:
            return "float32"
    return dtype


def _as_base64(state: State, dtype: DType) -> str:
    return base64.b64encode(state.to_bytes(dtype=dtype)).decode()


def _as_json(state: State, dtype: DType) -> dict[str, Any]:
    values = np.frombuffer(state_section(state, dtype), dtype)
    sizes = [int(np.prod(shape)) for _, shape in state.layout]
    parts = np.split(values, np.cumsum(sizes)[:-1])
    names = [name for name, _ in state.layout]
    arrays = {name: part.tolist() for name, part in zip(names, parts, strict=True)}
    return {"header": state_fields(state, dtype), "arrays": arrays}


WRITERS = {"base64": _as_base64, "json": _as_json}

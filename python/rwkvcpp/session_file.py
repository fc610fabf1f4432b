"""A Session in a container: its state, and what it takes to go on with the same tokens.

Sections besides "state": "tokens" (uint32), "logits" (float32; missing before the first token),
"text" (UTF-8, for whoever has no model at hand), "counted" and "counts" (uint32 and float64: what
penalties remember), "metadata" (JSON).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rwkvcpp import _core
from rwkvcpp.errors import RwkvError, StateError
from rwkvcpp.header_fields import Fields, parse_object, shown_text
from rwkvcpp.sampling import Sampler, SamplerMemory, SamplingParams, settings
from rwkvcpp.session import Checkpoint, Session
from rwkvcpp.state_container import Buffer, Container, is_state_file, pack, read_file
from rwkvcpp.state_file import DType, read_state, state_fields, state_section
from rwkvcpp.tuned_state import load_tuned

if TYPE_CHECKING:
    from rwkvcpp.model import Model

KIND = "session"
LARGEST_METADATA = 16 * 2**20

# ---- writing -------------------------------------------------------------------------------------


def pieces(moment: Checkpoint, dtype: DType) -> list[Buffer]:
    """The file of a session, one piece behind the other."""
    memory = SamplerMemory(0, 0, [], []) if moment.sampler is None else moment.sampler.memory()
    sections: dict[str, Buffer] = {"state": state_section(moment.state, dtype)}
    if moment.logits is not None:
        sections["logits"] = _bytes(moment.logits, np.float32)
    sections |= {
        "tokens": _bytes(moment.tokens, np.uint32),
        "text": _text(moment),
        "counted": _bytes(memory.tokens, np.uint32),
        "counts": _bytes(memory.counts, np.float64),
        "metadata": _metadata_bytes(moment.metadata),
    }
    header = {
        "kind": KIND,
        **state_fields(moment.state, dtype),
        "session": {
            "tokens_before": moment.start[0],
            "hash_before": f"{moment.start[1]:016x}",
            "tokens_settled": moment.mark[0],
            "bytes_shown": moment.mark[1],
            "finish_reason": moment.finish_reason,
        },
        "sampler": None if moment.sampler is None else _sampler_fields(moment.sampler, memory),
    }
    return pack(header, sections)


def _bytes(values: Any, dtype: type[np.generic]) -> bytes:
    return np.asarray(values, dtype).tobytes()


def _text(moment: Checkpoint) -> bytes:
    """All that the tokens say; nothing for a model without a vocabulary."""
    try:
        tokenizer = moment.model.tokenizer
    except RwkvError:
        return b""
    data = b"".join(map(tokenizer.token_bytes, moment.tokens))
    return data.decode("utf-8", "replace").encode()


def _metadata_bytes(metadata: Mapping[str, Any]) -> bytes:
    try:
        data = json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"session.metadata cannot be saved as JSON: {error}") from None
    if not isinstance(metadata, dict) or len(data) > LARGEST_METADATA:
        raise ValueError(
            f"session.metadata is a {type(metadata).__name__} of {len(data)} bytes as JSON, "
            f"expected a dict of at most {LARGEST_METADATA}"
        )
    return data


def _sampler_fields(sampler: Sampler, memory: SamplerMemory) -> dict[str, Any]:
    return {"settings": settings(sampler.params), "seed": memory.seed, "rng": memory.rng}


# ---- reading -------------------------------------------------------------------------------------


def read_session(container: Container, model: Model) -> Checkpoint:
    """The session in a container; StateError unless it is one of `model`."""
    container.header.one_of("kind", KIND)
    state = read_state(container, model)
    fields = container.header.object("session")
    tokens = _array(container, "tokens", np.uint32)
    start = (fields.integer("tokens_before"), int(fields.hexadecimal("hash_before", 16), 16))
    _check_tokens(fields, tokens, start, (state.n_tokens, state.tokens_hash), model.n_vocab)
    return Checkpoint(
        model,
        state,
        start,
        tuple(tokens.tolist()),
        (fields.integer("tokens_settled", 0, len(tokens)), fields.integer("bytes_shown")),
        _logits(container, model.n_vocab),
        _sampler(container),
        fields.one_of("finish_reason", None, "stop", "length"),
        _metadata(container),
    )


def session_summary(container: Container) -> dict[str, Any]:
    """What `rwkvcpp info` tells of a session, which needs no model."""
    container.header.object("session")
    sampler = _sampler(container)
    return {
        "session_tokens": len(_array(container, "tokens", np.uint32)),
        "sampler": "no sampler yet" if sampler is None else _asked_for(sampler.params),
        "text": str(container.section("text"), "utf-8", "replace"),
    }


def _asked_for(params: SamplingParams) -> str:
    """What is not as it is by default."""
    default = settings(SamplingParams())
    changed = {k: v for k, v in settings(params).items() if v != default[k]}
    text = ", ".join(f"{name} {value}" for name, value in changed.items())
    return shown_text(f"sampling with {text or 'the defaults'}")


def open_session(path: Path, model: Model) -> Session:
    """A session that goes on from a file: a saved session, a saved state, or a tuned one."""
    if not is_state_file(path):
        return Session(model, load_tuned(path, model))
    container = read_file(path)
    if container.header.text("kind") == KIND:
        return Session.at(read_session(container, model))
    return Session(model, read_state(container, model))


def _array(container: Container, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    data = container.section(name)
    size = np.dtype(dtype).itemsize
    if len(data) % size:
        raise StateError(
            f"{container.where}: section {name} has {len(data)} bytes, "
            f"expected a multiple of {size}"
        )
    return np.frombuffer(data, dtype)


def _check_tokens(
    fields: Fields,
    tokens: NDArray[Any],
    start: tuple[int, int],
    end: tuple[int, int],
    n_vocab: int,
) -> None:
    if len(tokens) and tokens.max() >= n_vocab:
        raise StateError(f"{fields.where}: has token {tokens.max()}, expected ids below {n_vocab}")
    if (start[0] + len(tokens), _core.hash_tokens(tokens.tolist(), start[1])) != end:
        raise StateError(
            f"{fields.where}: its {len(tokens)} tokens, after {start[0]} others, do not lead to "
            f"its state, which is one of {end[0]}"
        )


def _logits(container: Container, n_vocab: int) -> NDArray[np.float32] | None:
    if "logits" not in container.sections:
        return None
    logits = np.frombuffer(container.section("logits", 4 * n_vocab), np.float32).copy()
    if not np.isfinite(logits).all():
        raise StateError(f"{container.where}: holds logits that are no finite numbers")
    return logits


def _sampler(container: Container) -> Sampler | None:
    if container.header.raw("sampler") is None:
        return None
    fields = container.header.object("sampler")
    rng, seed = fields.integer("rng"), fields.integer("seed")
    counted = _array(container, "counted", np.uint32).tolist()
    counts = _array(container, "counts", np.float64).tolist()
    try:
        params = _params(fields.object("settings"))
        return Sampler.recall(params, SamplerMemory(seed, rng, counted, counts))
    except (TypeError, ValueError) as error:
        raise StateError(
            f"{container.where}: has a sampler that cannot be: {shown_text(str(error))}"
        ) from None


def _params(fields: Fields) -> SamplingParams:
    values = {name: fields.raw(name) for name in fields.names()}
    if "logit_bias" in values:
        bias = fields.object("logit_bias")
        values["logit_bias"] = {int(token): bias.raw(token) for token in bias.names()}
    if "banned_tokens" in values:
        values["banned_tokens"] = fields.array("banned_tokens")
    return SamplingParams(**values)


def _metadata(container: Container) -> dict[str, Any]:
    data = container.section("metadata")
    if len(data) > LARGEST_METADATA:
        raise StateError(
            f"{container.where}: section metadata has {len(data)} bytes, expected "
            f"{LARGEST_METADATA} at most"
        )
    return parse_object(container.where, "section metadata", data)

"""A snapshot of the prefix cache in a container of state files.

Sections besides "state": "tokens" (uint32) and "logits" (float32). The header's "prefix" has the
digest of the key that it belongs to. Any program that reads states reads this one, too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rwkvcpp.errors import StateError
from rwkvcpp.prefix_key import PrefixKey
from rwkvcpp.snapshots import Snapshot
from rwkvcpp.state_container import Buffer, pack, read_file
from rwkvcpp.state_file import DIGEST, read_state, state_fields, state_section
from rwkvcpp.token_tree import Row, packed

KIND = "snapshot"


def pieces(key: PrefixKey, row: Row, snapshot: Snapshot) -> list[Buffer]:
    """The file of a snapshot, one piece behind the other."""
    with snapshot.reading() as state:
        header = {
            "kind": KIND,
            **state_fields(state, "float32"),
            "prefix": {"key": key.digest.hex()},
        }
        sections: dict[str, Buffer] = {
            "tokens": packed(row),
            "logits": snapshot.logits().data.cast("B"),
            "state": state_section(state, "float32"),
        }
    return pack(header, sections)


def read_snapshot(path: Path, key: PrefixKey, row: Row) -> Snapshot:
    """The snapshot of exactly these tokens; StateError for any other file."""
    container = read_file(path)
    header = container.header
    header.one_of("kind", KIND)
    if header.object("prefix").hexadecimal("key", DIGEST) != key.digest.hex():
        raise header.object("prefix").wrong("key", key.digest.hex())
    if container.section("tokens") != packed(row):
        raise StateError(f"{container.where}: has other tokens than its name says")
    header.object("state").one_of("exact", True)
    state = read_state(container, key.model)
    state._claim = key.claim  # a file of ours
    if not key.fits(row.tolist(), state):
        raise StateError(f"{container.where}: its tokens do not lead to its state")
    logits = np.frombuffer(container.section("logits", 4 * key.model.n_vocab), np.float32)
    return Snapshot(len(row), state, logits.copy())

"""PrefixCache: what was fed before is not computed again.

A recurrent state cannot be cut back, so a text can be come back to only where it was kept: a
snapshot of the state and of the logits after it. They are kept where texts tend to part: at
boundaries that the caller names (of messages, before an open think), at the end of a prompt and of
a reply, and every 256 tokens of a prompt.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, replace
from operator import index
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.errors import StateError
from rwkvcpp.prefix_key import PrefixKey
from rwkvcpp.snapshots import Snapshot, SnapshotMemory
from rwkvcpp.token_tree import Row, packed
from rwkvcpp.whole_file import PathArgument

if TYPE_CHECKING:
    from rwkvcpp.model import Model, Tokens
    from rwkvcpp.session import Checkpoint, Prompt, Session
    from rwkvcpp.snapshot_folder import SnapshotFolder
    from rwkvcpp.state import State

MEBIBYTE = 2**20
SPACING = 256  # tokens of a prompt from one snapshot to the next


@dataclass(frozen=True)
class PrefixCacheStats:
    """What a cache holds now, and what it has been good for since it was made."""

    entries: int  # in memory
    nbytes: int
    files: int
    file_bytes: int
    hits: int
    misses: int
    tokens_saved: int


class PrefixCache:
    """Snapshots by the tokens that led to them. Threads may share one.

    >>> cache = PrefixCache()
    >>> session = model.session()
    >>> cache.prefill(session, prompt)  # how many of the tokens cost nothing
    0
    >>> reply = "".join(session.generate(max_tokens=100))
    >>> cache.store(session)

    With a cache and without, logits and text are the same, bit for bit.
    """

    def __init__(
        self,
        budget: int = 512 * MEBIBYTE,
        directory: PathArgument | None = None,
        *,
        disk_budget: int | None = None,
    ) -> None:
        """A cache of at most `budget` bytes; what was used longest ago goes first.

        directory: a folder for snapshots, which are then there after a restart, and for other
            processes; it is made if there is none.
        disk_budget: bytes of the files in it; None: as many as in memory.
        """
        self._memory = SnapshotMemory(_checked_bytes("budget", budget))
        on_disk = _checked_bytes("disk_budget", budget if disk_budget is None else disk_budget)
        self._folder = None if directory is None else _folder(directory, on_disk)
        self._hits = self._misses = self._tokens_saved = 0
        self._counting = threading.Lock()

    # For sessions

    def prefill(self, session: Session, prompt: Prompt, *, boundaries: Iterable[int] = ()) -> int:
        """How many tokens of `prompt` cost nothing; the session has then consumed all of them.

        boundaries: keep a snapshot after so many of these tokens, too.

        An error, or Ctrl-C, leaves the session as it was; what was kept until then stays.
        """
        with closing(self.prefill_steps(session, prompt, boundaries=boundaries)) as steps:
            n_cached = next(steps)
            for _ in steps:
                pass
        return n_cached

    def prefill_steps(
        self, session: Session, prompt: Prompt, *, boundaries: Iterable[int] = ()
    ) -> Generator[int, None, None]:
        """`prefill` in steps: how many tokens are consumed, first those that cost nothing.

        All of them are when the steps end. Until then leave the session alone: steps that are
        closed before they end put it back to what it was.
        """
        tokens = session._encode(prompt)
        places = _checked_places(boundaries, len(tokens))
        before = session._now()
        key, row = PrefixKey.of_moment(before), _row_of([*before.tokens, *tokens], session.model)
        if key is None or row is None or len(tokens) == 0:
            yield 0
            session.feed(tokens)  # where the tokens are wrong, the model says how
            return
        n_before = len(before.tokens)
        if 0 in places:
            self.store(session)
        found = self.lookup(key, row, beyond=n_before)
        begin = n_before if found is None else found.n_tokens
        try:
            session._become(_moved(before, row, found))
            yield begin - n_before
            boundaries = {n_before + place for place in places}
            for end in self.stops(session.model, before.state, begin, len(row), boundaries):
                session.feed(row[begin:end])
                self._keep_now(key, row[:end], session)
                begin = end
                if end < len(row):
                    yield end - n_before
        except BaseException:
            session._become(before)
            raise

    def store(self, session: Session) -> None:
        """Keep a snapshot of where the session is now: the end of a reply."""
        moment = session._now()
        key = PrefixKey.of_moment(moment)
        if key is not None and moment.tokens and moment.logits is not None:
            self._keep_now(key, np.array(moment.tokens), session)

    def _keep_now(self, key: PrefixKey, row: Row, session: Session) -> None:
        assert session.logits is not None, "what was fed has logits"
        self._keep(key, row, session.state, session.logits)

    # For schedulers that feed many sessions together

    def stops(
        self,
        model: Model,
        state: State,
        begin: int,
        end: int,
        places: AbstractSet[int] = frozenset(),
    ) -> list[int]:
        """Where snapshots of a prompt are to be made after `begin`: a grid, `places` and `end`.

        `state` is one of the prompt, as large as all of them.
        """
        n_bytes = state.nbytes + 4 * model.n_vocab
        n_affordable = max(1, self._memory.budget // 2 // n_bytes)
        spacing = SPACING
        while end - begin > n_affordable * spacing:  # one prompt takes half of the budget at most
            spacing *= 2
        grid = range(begin - begin % spacing + spacing, end, spacing)
        inner = {*grid, *(place for place in places if begin < place < end)}
        return [*sorted(inner), end] if begin < end else []

    def lookup(self, key: PrefixKey, tokens: Tokens, *, beyond: int = 0) -> Snapshot | None:
        """The snapshot after the longest prefix of `tokens` that has one, longer than `beyond`."""
        row = _row_of(tokens, key.model)
        found = None if row is None else self._longest(key, row, beyond)
        with self._counting:
            self._hits += found is not None
            self._misses += found is None
            self._tokens_saved += 0 if found is None else found.n_tokens - beyond
        return found

    def _longest(self, key: PrefixKey, row: Row, beyond: int) -> Snapshot | None:
        """From memory, or from the folder if that knows a longer one."""
        found = self._memory.longest(key.digest + packed(row))
        n_found = beyond if found is None else max(beyond, found.n_tokens)
        if self._folder is not None and n_found < len(row):
            on_disk = self._folder.longest(key, row, n_found)
            if on_disk is not None:
                self._memory.put(key.digest + packed(row[: on_disk.n_tokens]), on_disk)
                return on_disk
        if found is None or found.n_tokens <= beyond:
            return None
        if self._folder is not None:
            self._folder.touch(key, row[: found.n_tokens])
        return found

    def insert(
        self, key: PrefixKey, tokens: Tokens, state: State, logits: NDArray[np.float32]
    ) -> None:
        """Keep copies of `state` and `logits` as what is known after `tokens`.

        StateError unless the state is one of these tokens.
        """
        row = _row_of(tokens, key.model)
        if row is None or not key.fits(row.tolist(), state):
            raise StateError(
                f"a state of {state.identity} after {state.n_tokens} tokens does not follow from "
                f"the {len(tokens)} tokens that it is to be kept for"
            )
        if logits.dtype != np.float32 or logits.shape != (key.model.n_vocab,):
            raise ValueError(
                f"logits are {logits.dtype} {list(logits.shape)}, expected float32 "
                f"[{key.model.n_vocab}]"
            )
        self._keep(key, row, state, logits)

    def _keep(self, key: PrefixKey, row: Row, state: State, logits: NDArray[np.float32]) -> None:
        name = key.digest + packed(row)
        if self._memory.touch(name) or not self._memory.fits(name, state.nbytes + logits.nbytes):
            return
        snapshot = Snapshot(len(row), state.clone(), logits.copy())
        self._memory.put(name, snapshot)
        if self._folder is not None:
            self._folder.put(key, row, snapshot)

    # All of them

    def clear(self) -> None:
        """Forget all snapshots, in the folder, too."""
        self._memory.clear()
        if self._folder is not None:
            self._folder.clear()

    def stats(self) -> PrefixCacheStats:
        """Counts of what is kept, of lookups that found something or nothing, of tokens saved."""
        on_disk = (0, 0) if self._folder is None else self._folder.usage()
        with self._counting:
            counts = (self._hits, self._misses, self._tokens_saved)
        return PrefixCacheStats(*self._memory.usage(), *on_disk, *counts)


def _row_of(tokens: Tokens, model: Model) -> Row | None:
    """Tokens as an array; None unless the model takes each of them."""
    try:
        row = np.asarray(tokens)
    except ValueError:  # lists in lists
        return None
    is_row = row.ndim == 1 and row.size > 0 and row.dtype.kind in "iu"
    return row if is_row and row.min() >= 0 and row.max() < model.n_vocab else None


def _folder(directory: PathArgument, budget: int) -> SnapshotFolder:
    from rwkvcpp.snapshot_folder import SnapshotFolder  # with all of state files

    return SnapshotFolder(directory, budget)


def _checked_bytes(name: str, value: int) -> int:
    if index(value) < 0:
        raise ValueError(f"{name} is {value}, expected a number of bytes, 0 or more")
    return value


def _checked_places(boundaries: Iterable[int], n_tokens: int) -> list[int]:
    places = sorted(map(index, boundaries))
    for place in places:
        if not 0 <= place <= n_tokens:
            raise ValueError(f"a boundary is {place}, expected 0 to {n_tokens} tokens")
    return places


def _moved(before: Checkpoint, row: Row, found: Snapshot | None) -> Checkpoint:
    """A session as it was, or further on in `row`, with a state that nobody else has."""
    if found is None:
        return replace(before, state=before.state.clone())
    tokens = tuple(row[: found.n_tokens].tolist())
    return replace(
        before,
        state=found.state(),
        tokens=tokens,
        mark=(len(tokens), 0),
        logits=found.logits(),
    )

"""What a writer is about to write, and the writing: one tensor after the other, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.checkpoints.tensor import Tensor, row_bytes
from rwkvcpp.errors import UnsupportedError
from rwkvcpp.tokenizer import Tokenizer
from rwkvcpp.writers.rounding import rounded

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """What the caller wants of a file, beside its container."""

    type: str | None = None  # "F32", "F16", "BF16", "Q8_0"; None keeps the type of each tensor
    tokenizer: Tokenizer | None = None  # to be embedded


@dataclass(frozen=True)
class Entry:
    """A tensor with the name, shape and order of its numbers that the file gives it."""

    tensor: Tensor
    type: str

    @property
    def n_bytes(self) -> int:
        return row_bytes(self.type, self.tensor.shape) * self.tensor.shape[0]

    def pieces(self, advice: str) -> Iterator[bytes]:
        """The bytes of the tensor, some MiB at a time."""
        for begin, end in self.tensor.pieces():
            if self.type == self.tensor.type:
                yield self.tensor.raw_rows(begin, end)
            else:
                values = self.tensor.read_rows(begin, end)
                yield rounded(values, self.type, self.tensor.name, advice)


def no_header(_: Entry) -> bytes:
    return b""


@dataclass(frozen=True)
class Plan:
    """A file, from its first byte to its last."""

    source: Path  # of the checkpoint
    begin: Callable[[Path], None]  # writes what comes before the tensors
    entries: Sequence[Entry]  # in the order of the file
    header: Callable[[Entry], bytes] = no_header  # of each tensor, right before it
    alignment: int = 1  # every tensor ends in zeros up to a multiple of this
    advice: str = ""  # against values that are too large for the type


@dataclass(frozen=True)
class Writer:
    """One container."""

    what: str  # "rwkv.cpp"
    types: tuple[str, ...]  # that tensors may be converted to
    plan: Callable[[Checkpoint, Options], Plan]
    holds_vocabulary: bool = False
    holds_state: bool = False  # an initial state, tuned and merged into the checkpoint

    def check(self, path: Path, options: Options) -> None:
        """UnsupportedError for what this container has no place for."""
        if options.type is not None and options.type not in self.types:
            raise UnsupportedError(
                f"{path}: {self.what} files hold {' and '.join(self.types)}, not {options.type}"
            )


def check_blocks_stay(checkpoint: Checkpoint, entries: Sequence[Entry]) -> None:
    """UnsupportedError if a quantized tensor would have to become something else."""
    for entry in entries:
        tensor = entry.tensor
        if not tensor.is_float and tensor.type != entry.type:
            raise UnsupportedError(
                f"{checkpoint.path}: tensor {tensor.name} is {tensor.type}, expected a float type "
                f"to make {entry.type} of: convert the model that this one was quantized from"
            )


def write(plan: Plan, path: Path, progress: Progress | None = None) -> None:
    """The file of `plan` at `path`; progress gets (bytes done, bytes in all)."""
    plan.begin(path)
    total = sum(entry.n_bytes for entry in plan.entries)
    done = 0
    with path.open("ab") as file:
        for entry in plan.entries:
            file.write(plan.header(entry))
            for piece in _pieces(plan, entry):
                file.write(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, total)
            _pad(file, plan.alignment)


def _pieces(plan: Plan, entry: Entry) -> Iterator[bytes]:
    """The entry knows which tensor cannot be written, the plan whose it is."""
    try:
        yield from entry.pieces(plan.advice)
    except UnsupportedError as error:
        raise UnsupportedError(f"{plan.source}: {error}") from error


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))

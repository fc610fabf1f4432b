"""A model's predictions of a text in a file, for others to be compared with: a KL base.

    "RWKVKL01"                              the last two are the version
    length of the header                    uint32, as all numbers little-endian
    header                                  JSON: what was predicted, and by which model
    for every predicted token, in order     CRC-32 of what follows, the likeliest token, codes

A code, uint16, is -log p of one token of the vocabulary in steps of 1/2048 nat; from 32 nats on,
where all of a vocabulary together has a probability below 1e-9, it is 65535. The probabilities are
made to sum to 1 again when they are read. No logarithm is off by more than half a step, so a model
compared with its own base is told a divergence of at most (1/4096)² / 2 = 3e-8 nats, about 1e-8.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkvcpp.errors import ModelFormatError, UnsupportedError
from rwkvcpp.predictions import Floats, Piece, Predictions, Record, log_softmax
from rwkvcpp.tokenizer import Tokenizer
from rwkvcpp.whole_file import whole_file

MAGIC, VERSION = b"RWKVKL", 1
PREAMBLE = struct.Struct("<8sI")
LONGEST_HEADER = 2**16
STEP = 1 / 2048  # nats
LARGEST_CODE = 2**16 - 1


@dataclass(frozen=True)
class Predicted:
    """What a base holds: which predictions, of which text, by which model."""

    n_tokens: int  # predicted
    n_vocab: int
    window: int | None
    stride: int | None
    begin: int | None
    text: str  # SHA-256 of its bytes
    vocabulary: str  # SHA-256 of its tokens
    model: str  # the file's name
    activations: str


def text_id(text: bytes) -> str:
    """What tells a text from others."""
    return sha256(text).hexdigest()


def vocabulary_id(tokenizer: Tokenizer) -> str:
    """What tells a vocabulary from others."""
    digest = sha256()
    for token in map(tokenizer.token_bytes, range(tokenizer.n_vocab)):
        digest.update(struct.pack("<I", len(token)) + token)
    return digest.hexdigest()


def _row_type(n_vocab: int) -> np.dtype[Any]:
    return np.dtype([("crc", "<u4"), ("likeliest", "<u4"), ("codes", "<u2", (n_vocab,))])


def _checksums(rows: NDArray[Any]) -> list[int]:
    """Of each row, but for its own checksum."""
    return [zlib.crc32(row[4:].data) for row in rows.view(np.uint8).reshape(len(rows), -1)]


# ---- writing ---------------------------------------------------------------------------------


@contextmanager
def new_kl_base(path: Path, predicted: Predicted) -> Iterator[Record]:
    """A function that takes predictions as score() makes them; at the end `path` holds them all."""
    row_type = _row_type(predicted.n_vocab)
    header = json.dumps(asdict(predicted)).encode()
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        file.write(PREAMBLE.pack(MAGIC + b"%02d" % VERSION, len(header)) + header)

        def record(log_p: Floats, likeliest: NDArray[np.integer[Any]]) -> None:
            rows = np.zeros(len(log_p), row_type)
            rows["likeliest"] = likeliest
            rows["codes"] = np.minimum(np.rint(log_p / -STEP), LARGEST_CODE)
            rows["crc"] = _checksums(rows)
            file.write(rows.tobytes())

        yield record


# ---- reading ---------------------------------------------------------------------------------


class KlBase:
    """A file of predictions, to be read in a `with`."""

    def __init__(self, path: Path) -> None:
        """Open `path` and check everything but the predictions, which are checked as they are read.

        ModelFormatError: the file is damaged or none of ours; UnsupportedError: of a later version.
        """
        self.path = path
        self._file = path.open("rb")
        try:
            self.predicted = self._read_header()
            self._row_type = _row_type(self.predicted.n_vocab)
            self._begin = self._file.tell()
            self._check_size()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> KlBase:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def n_vocab(self) -> int:
        return self.predicted.n_vocab

    def check(self, wanted: Predicted) -> None:
        """ValueError unless these are predictions of the same tokens from the same windows."""
        for name in ("text", "vocabulary", "window", "stride", "begin"):
            found, expected = getattr(self.predicted, name), getattr(wanted, name)
            if found != expected:
                raise ValueError(
                    f"{self.path}: made with another {name}: {_shown(found)}, "
                    f"expected {_shown(expected)}"
                )
        if self.predicted.n_tokens < wanted.n_tokens:
            raise ValueError(
                f"{self.path}: holds the predictions of {self.predicted.n_tokens} tokens, "
                f"expected at least {wanted.n_tokens}"
            )

    def predictions(self, pieces: Sequence[Piece]) -> Iterator[Predictions]:
        """Of every piece, in order."""
        self._file.seek(self._begin)
        n_read = 0
        for piece in pieces:
            yield _BasePredictions(self._read_rows(n_read, len(piece.targets)))
            n_read += len(piece.targets)

    def _read_rows(self, first: int, n: int) -> NDArray[Any]:
        data = self._file.read(n * self._row_type.itemsize)
        rows = np.frombuffer(data, self._row_type, len(data) // self._row_type.itemsize)
        damaged = np.flatnonzero(rows["crc"] != _checksums(rows))
        if len(rows) < n or len(damaged):
            at = first + int(damaged[0] if len(damaged) else len(rows))
            raise ModelFormatError(
                f"{self.path}: prediction {at} of {self.predicted.n_tokens} is damaged: "
                f"expected one that its checksum fits"
            )
        return rows

    def _read_header(self) -> Predicted:
        preamble = self._file.read(PREAMBLE.size)
        if len(preamble) < PREAMBLE.size or not preamble.startswith(MAGIC):
            raise ModelFormatError(
                f"{self.path}: begins with {preamble[: len(MAGIC)]!r}, expected {MAGIC!r}"
            )
        magic, length = PREAMBLE.unpack(preamble)
        if magic[len(MAGIC) :] != b"%02d" % VERSION:
            raise UnsupportedError(
                f"{self.path}: is of version {magic[len(MAGIC) :]!r}, expected {VERSION:02d}"
            )
        if length > LONGEST_HEADER:
            raise ModelFormatError(
                f"{self.path}: the header has {length} bytes, expected at most {LONGEST_HEADER}"
            )
        try:
            return _predicted(json.loads(self._file.read(length)))
        except (ValueError, TypeError, RecursionError) as error:
            raise ModelFormatError(f"{self.path}: the header is damaged: {error}") from error

    def _check_size(self) -> None:
        found = os.fstat(self._file.fileno()).st_size
        expected = self._begin + self.predicted.n_tokens * self._row_type.itemsize
        if found != expected:
            raise ModelFormatError(
                f"{self.path}: has {found} bytes, expected {expected} for "
                f"{self.predicted.n_tokens} predictions over {self.n_vocab} tokens"
            )


@dataclass(frozen=True)
class _BasePredictions:
    rows: NDArray[Any]

    @property
    def likeliest(self) -> NDArray[np.integer[Any]]:
        likeliest: NDArray[np.uint32] = self.rows["likeliest"]
        return likeliest

    def log_p(self, rows: slice) -> Floats:
        return log_softmax(self.rows["codes"][rows] * -STEP)


def _predicted(header: Any) -> Predicted:
    """TypeError or ValueError unless the header is one."""
    predicted = Predicted(**header)
    for name in ("n_tokens", "n_vocab"):
        n = getattr(predicted, name)
        if type(n) is not int or not 1 <= n < 2**31:
            raise ValueError(f"{name} is {n!r}, expected a number above 0")
    return predicted


def _shown(value: object) -> str:
    """A checksum by its beginning."""
    return "none" if value is None else str(value)[:12]

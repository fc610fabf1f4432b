"""Weights to blocks, some rows at a time on several threads, in the order of the file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from rwkvcpp import _core
from rwkvcpp.checkpoints.tensor import FLOAT_TYPES, encode
from rwkvcpp.errors import UnsupportedError
from rwkvcpp.imatrix import Imatrix, Importance
from rwkvcpp.quantization.embedding import Floats, RoundRows, moving
from rwkvcpp.quantization.matrices import Matrix
from rwkvcpp.writers.plan import Entry

Item = TypeVar("Item")
Result = TypeVar("Result")

WEIGHTS_AT_ONCE = 2**18  # of a thread: 1 MiB of float32
MOST = 65504.0  # the largest number that F16 has, and so the scale of a block


class Workers:
    """Threads for the time of a `with`."""

    def __init__(self, threads: int | None) -> None:
        self.n = _core.default_threads() if threads is None else threads
        if self.n < 1:
            raise ValueError(f"threads is {threads}, expected at least 1")
        self._pool = ThreadPoolExecutor(self.n, thread_name_prefix="quantize")

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of `items`; few are kept at a time."""
        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(self._pool.submit(function, item))
            if len(ahead) > 2 * self.n:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


@dataclass(frozen=True)
class Quantized(Entry):
    """A matrix of a file, rounded while it is written."""

    round_rows: RoundRows
    workers: Workers = field(compare=False)

    def pieces(self, advice: str) -> Iterator[bytes]:
        """The bytes of the tensor, some rows at a time."""

        def piece(rows: tuple[int, int]) -> bytes:
            weights = self.tensor.read_rows(*rows)
            check_range(weights, self.type, self.tensor.name)
            return self.round_rows(self.type, weights)

        yield from self.workers.map(piece, row_ranges(self.tensor.shape))


class Roundings:
    """How each matrix of a model is rounded.

    As in ggml, with the importances of its inputs if there are any. Or searching: where ggml takes
    a block's scale from its largest weight, several scales are tried, with or without importances;
    these are one then for every input. Errors of 32-blocks count by importances alone, those of
    K types more for large weights, as in ggml: either was seen to do less damage than the other.
    Where importances tell in which directions inputs go together, codes move until errors cancel.
    """

    def __init__(self, imatrix: Imatrix | None, *, search: bool) -> None:
        self._imatrix, self._search = imatrix, search

    def of(self, matrix: Matrix, *, cancel: bool = True) -> RoundRows:
        """cancel: let errors of a row cancel where its inputs go together, if that is known."""
        importances = self.importances_of(matrix)
        found = self._importance(matrix)
        common = found.common if found is not None and self._search and cancel else None
        uniform = np.ones(matrix.n_inputs, np.float32) if self._search else None

        def round_rows(type_name: str, weights: Floats) -> bytes:
            if type_name in FLOAT_TYPES:
                return encode(type_name, weights).tobytes()
            weigh = uniform if importances is None and type_name in SEARCHED else importances
            return _core.quantize(type_name, weights, weigh, closest=self._search, common=common)

        return moving(round_rows) if self._search and matrix.is_embedding else round_rows

    def importances_of(self, matrix: Matrix) -> Floats | None:
        """Of the inputs; None where nobody has collected any."""
        found = self._importance(matrix)
        if found is None:
            return None
        if found.sums.size != matrix.n_inputs:
            raise ValueError(
                f"the importances of {matrix.tensor.name} are {found.sums.size}, expected "
                f"{matrix.n_inputs}: those of another model"
            )
        # llama-quantize takes what was never met as worth nothing at all.
        rows = found.weights(matrix.n_inputs) if self._search else found.mean_squares()
        return np.ascontiguousarray(rows[0], np.float32)

    def _importance(self, matrix: Matrix) -> Importance | None:
        return None if self._imatrix is None else self._imatrix.tensors.get(matrix.tensor.name)


# Types whose scales ggml does not search without importances, or less than with them.
SEARCHED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")


def row_ranges(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """The rows of a matrix in pieces for a thread."""
    n_rows, n_inputs = shape
    step = max(1, WEIGHTS_AT_ONCE // n_inputs)
    for begin in range(0, n_rows, step):
        yield begin, min(begin + step, n_rows)


def check_range(weights: Floats, type_name: str, tensor: str) -> None:
    """UnsupportedError unless every weight is a number that a block can hold."""
    if type_name in ("F32", "BF16"):
        return
    peak = max(float(weights.max()), -float(weights.min()))  # a NaN comes out of both
    if not peak <= MOST:
        wrong = weights[~(np.abs(weights) <= MOST)][0]
        raise UnsupportedError(
            f"tensor {tensor} holds {wrong:g}, expected at most {MOST:g} for {type_name}"
        )

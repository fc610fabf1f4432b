"""The types that a matrix may get under a file type's name.

Legacy names promise legacy blocks of 32, which every kernel has; only the head may be Q6_K, as
llama-quantize has it. Names of K and IQ types may hold any. No type has fewer than 3.4 bits, unless
the name itself asks for that.
"""

from __future__ import annotations

from rwkvcpp.checkpoints.tensor import block_size
from rwkvcpp.file_types import HEAD, FileType
from rwkvcpp.quantization.matrices import Matrix

LEGACY = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
K_TYPES = ("Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
# Rows that are no multiple of 256.
SHORT_ROWS = ("Q4_0", "IQ4_NL", "Q5_0", "Q5_1", "Q8_0")


def candidates(matrix: Matrix, wanted: FileType) -> list[str]:
    """From which the type of this matrix is chosen; the one that it has now among them."""
    if matrix.is_low_rank:
        fits = matrix.n_inputs % block_size("Q8_0")[0] == 0
        return ["Q8_0", matrix.stored] if fits else [matrix.stored]
    own = wanted.type_of(matrix.name, matrix.tensor.shape)
    if own is None:
        return [matrix.stored]
    found = [*_family(matrix, wanted), own, "F16"]
    return [t for t in dict.fromkeys(found) if matrix.n_inputs % block_size(t)[0] == 0]


def _family(matrix: Matrix, wanted: FileType) -> tuple[str, ...]:
    if wanted.base in LEGACY:
        return (*LEGACY, "Q6_K") if matrix.name == HEAD else LEGACY
    return SHORT_ROWS if matrix.n_inputs % 256 else K_TYPES

"""quantize: a model as a GGUF file of some file type."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from rwkvcpp.checkpoints.checkpoint import Checkpoint, open_checkpoint
from rwkvcpp.convert import find_vocabulary, is_part_of
from rwkvcpp.errors import RwkvError, UnsupportedError
from rwkvcpp.file_types import FileType, file_type
from rwkvcpp.imatrix import Imatrix
from rwkvcpp.imatrix_file import read_imatrix
from rwkvcpp.quantization.matrices import Matrix, matrices
from rwkvcpp.quantization.rounding import Floats, Quantized, Workers, reference_rounding
from rwkvcpp.quantization.tensor_types import Types, check_floats, reference_types
from rwkvcpp.whole_file import whole_file
from rwkvcpp.writers import find_writer, write
from rwkvcpp.writers.gguf_file import WRITER, plan_entries
from rwkvcpp.writers.gguf_metadata import fields
from rwkvcpp.writers.plan import Entry, Plan

PathArgument = str | os.PathLike[str]


@dataclass(frozen=True)
class Written:
    """What `quantize` wrote."""

    path: Path
    n_bytes: int
    types: Types  # by official name, of what was rounded
    notes: tuple[str, ...]  # what the caller may want to know: sentences


def quantize(
    source: PathArgument,
    target: PathArgument,
    type: str,
    *,
    imatrix: PathArgument | None = None,
    requantize: bool = False,
    tokenizer: PathArgument | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write the model at `source` to the GGUF file `target`, as llama-quantize would.

    type: "q4_0", "q5_1", "q8_0", "q4_k_m", "iq4_xs" ...
    imatrix: importances to weigh errors with, from `rwkvcpp imatrix` or llama.cpp.
    requantize: take a source that is quantized already; what was lost stays lost.
    tokenizer: a vocabulary file to embed; None finds the one that belongs to the model.
    threads: None takes the physical cores that this process may use.
    progress: called with (bytes done, bytes in all).

    An error or Ctrl-C leaves no file.
    """
    target, wanted = Path(target), file_type(type)
    checkpoint = open_checkpoint(source)
    _check(checkpoint, target)
    check_floats(checkpoint, requantize=requantize)
    vocabulary, notes = find_vocabulary(checkpoint, WRITER, tokenizer)
    importances = None if imatrix is None else read_imatrix(Path(imatrix))
    found = list(matrices(checkpoint))
    types = reference_types(found, wanted)
    with Workers(threads) as workers:
        entries = [_entry(m, types.get(m.name), importances, workers) for m in found]
        metadata = fields(checkpoint, entries, vocabulary) | _file_type(wanted)
        plan = plan_entries(checkpoint, entries, metadata)
        return Written(target, _write(plan, target, progress), types, notes)


def _check(checkpoint: Checkpoint, target: Path) -> None:
    if find_writer(target) is not WRITER:
        raise UnsupportedError(f"{target}: quantized models are GGUF files, expected .gguf")
    if checkpoint.version is None:
        raise UnsupportedError(f"{checkpoint.path}: is no version of RWKV known here")
    if is_part_of(target, checkpoint.path):
        raise RwkvError(f"{target}: is what is read, expected another name to write to")


def _write(plan: Plan, target: Path, progress: Callable[[int, int], None] | None) -> int:
    with whole_file(target) as temporary:
        write(plan, temporary, progress)
        return temporary.stat().st_size


# llama.cpp numbers file types; where it tells sizes apart that RWKV has not, M is the usual name.
def _file_type(wanted: FileType) -> dict[str, int]:
    known = gguf.LlamaFileType.__members__
    for suffix in ("", "_M"):
        number = known.get(f"MOSTLY_{wanted.name.upper()}{suffix}")
        if number is not None:
            return {"general.file_type": int(number)}
    return {}


def _entry(
    matrix: Matrix, type_name: str | None, importances: Imatrix | None, workers: Workers
) -> Entry:
    if type_name is None or type_name == matrix.tensor.type:
        return Entry(matrix.tensor, matrix.stored)
    rounding = reference_rounding(_importance(matrix, importances))
    return Quantized(matrix.tensor, type_name, rounding, workers)


def _importance(matrix: Matrix, importances: Imatrix | None) -> Floats | None:
    """Of the inputs, as llama-quantize takes them; None where nobody has collected any."""
    found = importances.tensors.get(matrix.tensor.name) if importances is not None else None
    if found is None:
        return None
    if found.sums.size != matrix.n_inputs:
        raise ValueError(
            f"the importances of {matrix.tensor.name} are {found.sums.size}, expected "
            f"{matrix.n_inputs}: those of another model"
        )
    return np.ascontiguousarray(found.mean_squares()[0], np.float32)

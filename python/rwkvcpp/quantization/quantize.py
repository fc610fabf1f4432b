"""quantize: a model as a GGUF file of some file type."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gguf

from rwkvcpp.checkpoints.checkpoint import Checkpoint, open_checkpoint
from rwkvcpp.checkpoints.lora import with_loras
from rwkvcpp.convert import find_vocabulary, is_part_of
from rwkvcpp.errors import RwkvError, UnsupportedError
from rwkvcpp.file_types import FileType, file_type
from rwkvcpp.imatrix_file import read_imatrix
from rwkvcpp.model import Model
from rwkvcpp.quantization.choosing import choose_types, probe_type, to_choose
from rwkvcpp.quantization.damage import measure as measure_damage
from rwkvcpp.quantization.damage import parts
from rwkvcpp.quantization.matrices import Matrix, matrices
from rwkvcpp.quantization.rounding import Quantized, Roundings, Workers
from rwkvcpp.quantization.tensor_types import (
    Types,
    check_floats,
    overridden,
    parse_override,
    pure_types,
)
from rwkvcpp.quantization.tensor_types import reference_types as llama_types
from rwkvcpp.tokenizer import load_tokenizer
from rwkvcpp.whole_file import whole_file
from rwkvcpp.writers import find_writer, write
from rwkvcpp.writers.gguf_file import WRITER, plan_entries
from rwkvcpp.writers.gguf_metadata import fields
from rwkvcpp.writers.plan import Entry, Progress
from rwkvcpp.writers.sizes import n_vocab

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
    reference: bool = False,
    reference_types: bool = False,
    pure: bool = False,
    tensor_types: Sequence[str] = (),
    measure: bool = True,
    text: bytes | None = None,
    imatrix: PathArgument | None = None,
    lora: Sequence[tuple[PathArgument, float | None]] = (),
    requantize: bool = False,
    tokenizer: PathArgument | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    measuring: Progress | None = None,
) -> Written:
    """Write the model at `source` to the GGUF file `target`.

    type: "q4_0", "q5_1", "q8_0", "q4_k_m", "iq4_xs" ... The file has no more bytes than what
        llama-quantize makes of that name, in types that do less damage.
    reference: what llama-quantize would write, byte for byte.
    reference_types: the types that llama-quantize chooses, and our rounding.
    pure: one type for all matrices.
    tensor_types: "ffn.value=q6_k", "blocks.0.att.output=q8_0": types of some, whatever the bytes.
    measure: measure on the model what rounding each part of it does; False takes a fixed table.
    text: what to measure on; None: what the model writes itself.
    imatrix: importances to weigh errors with, from `rwkvcpp imatrix` or llama.cpp.
    lora: (file, alpha) of adapters to merge, as Model() takes them.
    requantize: take a source that is quantized already; what was lost stays lost.
    tokenizer: a vocabulary file to embed; None finds the one that belongs to the model.
    threads: None takes the physical cores that this process may use.
    progress: called with (bytes done, bytes in all).
    measuring: called with (parts measured, parts in all).

    An error or Ctrl-C leaves no file.
    """
    if sum((reference, reference_types, pure)) > 1:
        raise ValueError("reference, reference_types and pure exclude each other, expected one")
    target, wanted = Path(target), file_type(type)
    checkpoint = open_checkpoint(source)
    _check(checkpoint, target)
    check_floats(checkpoint, requantize=requantize)
    if lora:
        checkpoint = with_loras(checkpoint, lora, rounded=False)
    vocabulary, notes = find_vocabulary(checkpoint, WRITER, tokenizer)
    importances = None if imatrix is None else read_imatrix(Path(imatrix))
    roundings = Roundings(importances, search=not reference)
    found = list(matrices(checkpoint))
    types = overridden(found, [parse_override(text) for text in tensor_types])
    with Workers(threads) as workers, whole_file(target) as temporary:
        if reference or reference_types:
            types = llama_types(found, wanted) | types
        elif pure:
            types = pure_types(found, wanted) | types
        else:
            left = to_choose(found, types)
            damages = None
            if measure and not checkpoint.is_quantized:
                probe = partial(probe_type, wanted=wanted)
                tokens = None if text is None else _tokens(checkpoint, text, tokenizer)
                load = partial(Model, checkpoint.path, lora=lora, threads=threads)
                damages = measure_damage(load, parts(left), probe, tokens, progress=measuring)
            types = choose_types(left, wanted, roundings, damages, workers) | types
        entries = [_entry(m, types.get(m.name, m.stored), roundings, workers) for m in found]
        metadata = fields(checkpoint, entries, vocabulary) | _file_type(wanted)
        write(plan_entries(checkpoint, entries, metadata), temporary, progress=progress)
        n_bytes = temporary.stat().st_size
    return Written(target, n_bytes, types, notes)


def _tokens(checkpoint: Checkpoint, text: bytes, tokenizer: PathArgument | None) -> Sequence[int]:
    found = load_tokenizer(
        tokenizer,
        n_vocab(checkpoint),
        checkpoint.metadata.get,
        beside=checkpoint.tokenizer_hint,
    )
    tokens: Sequence[int] = found.encode(text)
    return tokens


def _check(checkpoint: Checkpoint, target: Path) -> None:
    if find_writer(target) is not WRITER:
        raise UnsupportedError(f"{target}: quantized models are GGUF files, expected .gguf")
    if checkpoint.version is None:
        raise UnsupportedError(f"{checkpoint.path}: is no version of RWKV known here")
    if is_part_of(target, checkpoint.path):
        raise RwkvError(f"{target}: is what is read, expected another name to write to")


# llama.cpp numbers file types; where it tells sizes apart that RWKV has not, M is the usual name.
def _file_type(wanted: FileType) -> dict[str, int]:
    known = gguf.LlamaFileType.__members__
    for suffix in ("", "_M"):
        number = known.get(f"MOSTLY_{wanted.name.upper()}{suffix}")
        if number is not None:
            return {"general.file_type": int(number)}
    return {}


def _entry(matrix: Matrix, type_name: str, roundings: Roundings, workers: Workers) -> Entry:
    if type_name == matrix.stored:
        return Entry(matrix.tensor, matrix.stored)
    return Quantized(matrix.tensor, type_name, roundings.of(matrix), workers)

"""convert: a model in another container, or another float type."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rwkvcpp.checkpoints.checkpoint import Checkpoint, open_checkpoint
from rwkvcpp.checkpoints.lora import with_loras
from rwkvcpp.errors import RwkvError, UnsupportedError
from rwkvcpp.gguf_vocabulary import holds_vocabulary
from rwkvcpp.tokenizer import Tokenizer, load_tokenizer
from rwkvcpp.whole_file import whole_file
from rwkvcpp.writers import Options, Writer, find_writer, write
from rwkvcpp.writers.sizes import n_vocab

PathArgument = str | os.PathLike[str]

TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}


@dataclass(frozen=True)
class Converted:
    """What `convert` wrote."""

    path: Path
    n_bytes: int
    notes: tuple[str, ...]  # what the caller may want to know: sentences


def convert(
    source: PathArgument,
    target: PathArgument,
    *,
    type: str | None = None,
    lora: Sequence[tuple[PathArgument, float | None]] = (),
    tokenizer: PathArgument | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write the model at `source` to `target`, whose suffix says what it becomes.

    target: .gguf, .safetensors (official names), .st (web-rwkv) or .bin (rwkv.cpp).
    type: "f32", "f16", "bf16" or "q8_0"; None keeps the type of each tensor.
    lora: (file, alpha) of adapters to merge, as Model() takes them.
    tokenizer: a vocabulary file to embed; None finds the one that belongs to the model.
    progress: called with (bytes done, bytes in all).

    An error or Ctrl-C leaves no file. A quantized model can only change its container.
    """
    target = Path(target)
    writer = find_writer(target)
    checkpoint = open_checkpoint(source)
    if lora:
        checkpoint = with_loras(checkpoint, lora, rounded=type is None)
    _check(checkpoint, writer, target, tokenizer)
    vocabulary, notes = find_vocabulary(checkpoint, writer, tokenizer)
    options = Options(type=_type_name(type), tokenizer=vocabulary)
    writer.check(target, options)
    plan = writer.plan(checkpoint, options)
    with whole_file(target) as temporary:
        write(plan, temporary, progress=progress)
        n_bytes = temporary.stat().st_size
    return Converted(target, n_bytes, notes)


def _type_name(type: str | None) -> str | None:
    if type is None:
        return None
    if type not in TYPES:
        raise ValueError(f"type is {type!r}, expected one of {', '.join(TYPES)}")
    return TYPES[type]


def _check(
    checkpoint: Checkpoint, writer: Writer, target: Path, tokenizer: PathArgument | None
) -> None:
    path = checkpoint.path
    if checkpoint.version is None:
        raise UnsupportedError(f"{path}: is no version of RWKV known here")
    if is_part_of(target, path):
        raise RwkvError(f"{target}: is what is read, expected another name to write to")
    if tokenizer is not None and not writer.holds_vocabulary:
        raise UnsupportedError(
            f"{target}: {writer.what} files hold no vocabulary: leave --tokenizer out"
        )
    state = next((name for name in checkpoint.tensors if name.endswith(".att.time_state")), None)
    if state is not None and not writer.holds_state:
        raise UnsupportedError(
            f"{path}: has an initial state ({state}), which {writer.what} files cannot hold"
        )


def is_part_of(target: Path, source: Path) -> bool:
    """Whether writing `target` would take away something that `source` consists of."""
    if not target.exists():
        return False
    folder = source if source.is_dir() else source.parent
    has_parts = source.is_dir() or source.suffix == ".json"
    return target.samefile(source) or (has_parts and target.resolve().parent == folder.resolve())


def find_vocabulary(
    checkpoint: Checkpoint, writer: Writer, given: PathArgument | None
) -> tuple[Tokenizer | None, tuple[str, ...]]:
    """The tokenizer to embed. None where the source's keys can be copied, or with a note."""
    if not writer.holds_vocabulary:
        return None, ()
    if given is None and holds_vocabulary(checkpoint.metadata.get):
        return None, ()
    size = n_vocab(checkpoint)
    if given is not None:
        return load_tokenizer(given, size), ()
    try:
        return load_tokenizer(None, size, beside=checkpoint.tokenizer_hint), ()
    except UnsupportedError as error:
        return None, (f"the file holds no vocabulary: {error}",)

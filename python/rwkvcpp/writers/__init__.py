"""Model files: a checkpoint in each of the containers that others read.

A writer is a module with a `Writer` and a line in WRITERS. It says, before a byte is written, which
tensors the file will hold, in which order, shapes and types (a Plan); `write` does the rest.
"""

from __future__ import annotations

from pathlib import Path

from rwkvcpp.errors import UnsupportedError
from rwkvcpp.writers import gguf_file, rwkv_cpp, safetensors_file, web_rwkv
from rwkvcpp.writers.plan import Options, Plan, Writer, write

WRITERS: dict[str, Writer] = {
    ".gguf": gguf_file.WRITER,
    ".safetensors": safetensors_file.WRITER,
    ".st": web_rwkv.WRITER,
    ".bin": rwkv_cpp.WRITER,
}


def find_writer(path: Path) -> Writer:
    """The writer that the suffix of `path` names."""
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        known = ", ".join(f"{suffix} ({writer.what})" for suffix, writer in WRITERS.items())
        raise UnsupportedError(f"{path}: the suffix says what to write, expected one of {known}")
    return writer


__all__ = ["WRITERS", "Options", "Plan", "Writer", "find_writer", "write"]

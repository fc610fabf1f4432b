"""The list of containers: what a file begins with says who reads it, never what it is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rwkvcpp.checkpoints.container import Container
from rwkvcpp.checkpoints.data_file import DataFile
from rwkvcpp.checkpoints.folder import read_folder, read_shards
from rwkvcpp.checkpoints.legacy_pth import MAGIC_BYTES, read_legacy_pth
from rwkvcpp.checkpoints.native import NATIVE_MAGICS, read_native
from rwkvcpp.checkpoints.pth import read_pth
from rwkvcpp.checkpoints.safetensors import read_safetensors
from rwkvcpp.errors import ModelFormatError, UnsupportedError

Reader = Callable[[DataFile], Container]

# (offset, bytes there, reader): the first that fits reads the file.
READERS: tuple[tuple[int, bytes, Reader], ...] = (
    *((0, magic, read_native) for magic in NATIVE_MAGICS),
    (0, b"PK\x03\x04", read_pth),
    (0, MAGIC_BYTES, read_legacy_pth),
    (8, b"{", read_safetensors),
)
INDEX_MAGIC = b"{"

# What people try first; each is a sentence better than "unknown bytes".
FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x80", "a Python pickle, but no PyTorch checkpoint"),
    (257, b"ustar", "a tar archive, as PyTorch wrote it before 0.4: save the checkpoint again"),
    (0, b"ggmf", "a big-endian rwkv.cpp file"),
    (0, b"version https://git-lfs", "a Git LFS pointer: the model itself was not downloaded"),
    (0, b"\x1f\x8b", "compressed with gzip: unpack it first"),
)
EXPECTED = "GGUF, rwkv.cpp, a PyTorch checkpoint or safetensors"
LONGEST_MAGIC = 512


def open_container(path: Path) -> Container:
    """What the file or folder at `path` holds, under its own names."""
    if path.is_dir():
        return read_folder(path, open_container)
    file = DataFile(path)
    if file.head(len(INDEX_MAGIC)) == INDEX_MAGIC:
        return read_shards(file, open_file)
    return open_file(path)


def open_file(path: Path) -> Container:
    """What one file holds: no folder, no index of others."""
    file = DataFile(path)
    head = file.head(LONGEST_MAGIC)
    for offset, magic, reader in READERS:
        if head[offset : offset + len(magic)] == magic:
            return reader(file)
    for offset, magic, what in FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            raise UnsupportedError(f"{path}: is {what}; expected {EXPECTED}")
    if not head:
        raise ModelFormatError(f"{path}: is empty, expected {EXPECTED}")
    raise ModelFormatError(f"{path}: begins with {_shown(head[:8])}, expected {EXPECTED}")


def _shown(data: bytes) -> str:
    return repr(data)[1:]

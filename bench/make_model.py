"""Writes a model of an official size with random but sane weights, to measure speed on.

    python -m bench.make_model rwkv7-1.5b-q4_0.gguf --size 1.5b --type q4_0
    python -m bench.make_model rwkv4-0.1b-q5_1.bin --size 0.1b --version 4 --type q5_1
    python -m bench.make_model rwkv7-1.5b-q4_0-zeros.gguf --size 1.5b --type q4_0 --zeros 0.87

Versions 6 and 7 become GGUF files, every tensor in the type that llama.cpp's converter and
llama-quantize give it; 4 and 5.2 become rwkv.cpp files. --pure gives every matrix the one type,
head and low-rank ones included.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from bench.random_blocks import FILL, n_bytes, random_tensor
from bench.zeros import SparseMixing, threshold
from tests.reference.checkpoints import Checkpoint, Sizes
from tests.reference.layouts import gguf_name, is_low_rank, to_bin, to_gguf
from tests.reference.writers import (
    BIN_CODES,
    BIN_MAGIC,
    FILE_TYPES,
    FLOAT_TYPES,
    bin_type,
    gguf_type,
    rows_fit,
)

N_VOCAB = 65536
LAYERS_AND_WIDTH = {
    "0.1b": (12, 768),
    "0.4b": (24, 1024),
    "1.5b": (24, 2048),
    "2.9b": (32, 2560),
    "7.2b": (32, 4096),
}
FFN_PER_WIDTH = {"4": 4.0, "5.2": 3.5, "6": 3.5, "7": 4.0}
LOW_RANKS_6 = {"7.2b": {"lerp_rank": 64, "decay_rank": 128}}  # the others have Sizes' own
LOW_RANKS_7 = {  # decay, in-context rate, value, gate
    "0.1b": (64, 64, 32, 128),
    "0.4b": (64, 64, 32, 128),
    "1.5b": (96, 96, 64, 256),
    "2.9b": (96, 96, 64, 320),
    "7.2b": (128, 128, 96, 480),
}

Make = Callable[[], NDArray[Any]]


def official_sizes(version: str, size: str) -> Sizes:
    """The sizes of a released model; where a version has none of that size, its neighbours'."""
    n_layer, n_embd = LAYERS_AND_WIDTH[size]
    ranks = LOW_RANKS_6.get(size, {}) if version == "6" else {}
    if version == "7":
        names = ("decay_rank", "rate_rank", "value_rank", "gate_rank")
        ranks = dict(zip(names, LOW_RANKS_7[size], strict=True))
    n_ffn = int(FFN_PER_WIDTH[version] * n_embd)
    return Sizes(n_embd=n_embd, n_layer=n_layer, n_ffn=n_ffn, n_vocab=N_VOCAB, **ranks)


# ---- what the file holds ---------------------------------------------------------------------


@dataclass(frozen=True)
class Matrix:
    """A matrix as the checkpoint has it, its weights not yet made."""

    shape: tuple[int, ...]
    std: float


@dataclass(frozen=True)
class Stored:
    """A tensor as the file has it; make() gives its bytes when their turn comes."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    make: Make

    @property
    def n_bytes(self) -> int:
        return n_bytes(self.type_name, self.shape)


class Spy:
    """Stands in for a tensor's random stream and learns what a recipe would draw from it."""

    matrix = Matrix((), 0.0)  # what draws nothing is a vector

    def bell(self, shape: tuple[int, ...], std: float) -> NDArray[np.float32]:
        self.matrix = Matrix(shape, std)
        return np.zeros(1, np.float32)


class Outline(Checkpoint):
    """A checkpoint that also tells what its matrices are, without making them."""

    def __init__(
        self, version: str, sizes: Sizes, *, seed: int = 1, mixing: SparseMixing | None = None
    ) -> None:
        super().__init__(version, sizes, seed=seed)
        self.mixing = mixing
        for name, vector in (mixing.vectors() if mixing else {}).items():
            for layer in range(sizes.n_layer):
                self._make[f"blocks.{layer}.{name}"] = lambda _, vector=vector: vector

    def matrix(self, name: str) -> Matrix | None:
        """None for vectors."""
        if not (name.endswith(".weight") or is_low_rank(name)):
            return None
        spy = Spy()
        self._make[name](spy)  # type: ignore[arg-type]
        return spy.matrix if len(spy.matrix.shape) > 1 else None


class Vectors(Mapping[str, NDArray[Any]]):
    """Walks over a checkpoint's vectors alone; the matrices are there, but not to be looked at."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._outline[name]

    def __contains__(self, name: object) -> bool:
        return name in list(self._outline)  # asking the mapping itself would make the tensor

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._outline if self._outline.matrix(name) is None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def gguf_tensors(outline: Outline, weight_type: str, *, pure: bool) -> list[Stored]:
    """In the order of the layers, as files have them."""
    tensors = [_vector(name, tensor) for name, tensor in to_gguf(Vectors(outline))]
    for name in outline:
        # The converter fills the unused tensors of layer 0 with copies of a1 and a2.
        source = name.replace("blocks.0.att.v", "blocks.0.att.a") if is_low_rank(name) else name
        if matrix := outline.matrix(source):
            own = gguf_name(outline.version, name)
            shape = _transposed(matrix.shape) if is_low_rank(name) else matrix.shape
            kind = quantized_type(own, shape, weight_type, pure=pure)
            tensors.append(_matrix(outline, name, own, shape, kind, matrix.std))
    return sorted(tensors, key=_place)


def quantized_type(name: str, shape: tuple[int, ...], weight_type: str, *, pure: bool) -> str:
    """The type that llama-quantize stores a matrix in."""
    like = np.broadcast_to(np.float32(0), shape)
    if pure or weight_type in FLOAT_TYPES:
        return gguf_type(name, like, weight_type, pure)
    if name == "token_embd.weight" and weight_type == "IQ3_XXS":
        return "IQ3_S"
    if name == "output.weight":
        wanted = {"Q8_0": "Q8_0", "IQ3_XXS": "Q5_K"}.get(weight_type, "Q6_K")
        return wanted if rows_fit(wanted, like) else "Q8_0"
    kept = any(part in name for part in ("time_mix_a", "time_mix_v", "time_mix_g"))
    is_kept_low_rank = kept and name.rpartition(".")[0][-1] in "12"
    return gguf_type(name, like, "F16" if is_kept_low_rank else weight_type, False)


def bin_tensors(outline: Outline, weight_type: str, *, pure: bool) -> list[Stored]:
    """As rwkv.cpp quantizes an FP16 file."""
    base = weight_type if weight_type in FLOAT_TYPES else "F16"
    tensors = [_vector(name, tensor) for name, tensor in to_bin(Vectors(outline))]
    for name in outline:
        if matrix := outline.matrix(name):
            like = np.broadcast_to(np.float32(0), matrix.shape)
            kind = bin_type(name, like, weight_type, base, pure)
            tensors.append(_matrix(outline, name, name, matrix.shape, kind, matrix.std))
    return sorted(tensors, key=_place)


def _vector(name: str, tensor: NDArray[Any]) -> Stored:
    return Stored(name, tensor.shape, "F32", lambda: np.ascontiguousarray(tensor, "<f4"))


def _matrix(
    outline: Outline, official: str, name: str, shape: tuple[int, ...], kind: str, std: float
) -> Stored:
    rng = np.random.Generator(np.random.SFC64([outline.seed, zlib.crc32(name.encode())]))
    make: Make = partial(random_tensor, kind, shape, std, rng)
    if outline.mixing and official.endswith("ffn.key.weight"):
        make = partial(outline.mixing.moved, make, kind, shape, std)
    return Stored(name, shape, kind, make)


def _transposed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2])


def _place(tensor: Stored) -> int:
    """Embedding, layers, head."""
    first, _, rest = tensor.name.partition(".")
    if first in ("blk", "blocks"):
        return int(rest.split(".")[0])
    return -1 if "emb" in first else sys.maxsize


# ---- writing it ------------------------------------------------------------------------------


def write_gguf(path: Path, outline: Outline, weight_type: str, tensors: Iterable[Stored]) -> None:
    """Tensor by tensor: no more than one is in memory."""
    writer = gguf.GGUFWriter(path, f"rwkv{outline.version}")
    _add_sizes(writer, outline.version, outline.sizes)
    writer.add_file_type(FILE_TYPES[weight_type])
    if weight_type not in FLOAT_TYPES:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_world_vocabulary(writer, outline.sizes.n_vocab)
    tensors = list(tensors)
    for t in tensors:
        kind = gguf.GGMLQuantizationType[t.type_name]
        writer.add_tensor_info(t.name, t.shape, np.dtype(np.float32), t.n_bytes, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for t in _with_progress(tensors):
        writer.write_tensor_data(t.make())
    writer.close()


def _add_sizes(writer: gguf.GGUFWriter, version: str, z: Sizes) -> None:
    writer.add_context_length(1048576)
    writer.add_embedding_length(z.n_embd)
    writer.add_block_count(z.n_layer)
    writer.add_feed_forward_length(z.n_ffn)
    writer.add_head_count(0)
    writer.add_layer_norm_eps(1e-5)
    writer.add_wkv_head_size(z.head_size)
    if version == "6":
        writer.add_rescale_every_n_layers(0)
        writer.add_time_mix_extra_dim(z.lerp_rank)
        writer.add_time_decay_extra_dim(z.decay_rank)
    else:
        writer.add_decay_lora_rank(z.decay_rank)
        writer.add_iclr_lora_rank(z.rate_rank)
        writer.add_value_residual_mix_lora_rank(z.value_rank)
        writer.add_gate_lora_rank(z.gate_rank)


def _add_world_vocabulary(writer: gguf.GGUFWriter, n_vocab: int) -> None:
    texts = [b"<s>", *(repr(token)[2:-1].encode() for token in world_tokens())][:n_vocab]
    n_padding = n_vocab - len(texts)
    kinds = [gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(texts) - 1)
    texts += [f"[PAD{i}]".encode() for i in range(len(texts), n_vocab)]
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(texts)
    writer.add_token_types(kinds + [gguf.TokenType.UNUSED] * n_padding)
    writer.add_chat_template("rwkv-world")
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_eot_token_id(261)


def world_tokens() -> Iterator[bytes]:
    """Tokens 1, 2, … of the World vocabulary, from the pyrwkv-tokenizer package."""
    package = importlib.util.find_spec("pyrwkv_tokenizer")
    if package is None or package.origin is None:
        raise SystemExit("the World vocabulary is missing: pip install pyrwkv-tokenizer")
    vocabulary = Path(package.origin).with_name("rwkv_vocab_v20230424.txt")
    for line in vocabulary.read_text(encoding="utf-8").split("\n"):
        if line:  # 257 'in' 2
            token = ast.literal_eval(line[line.index(" ") : line.rindex(" ")].strip())
            yield token if isinstance(token, bytes) else token.encode()


def write_bin(path: Path, outline: Outline, weight_type: str, tensors: Iterable[Stored]) -> None:
    """Tensor by tensor, too."""
    z = outline.sizes
    with path.open("wb") as file:
        header = (BIN_MAGIC, 101, z.n_vocab, z.n_embd, z.n_layer, BIN_CODES[weight_type])
        file.write(struct.pack("<6i", *header))
        for t in _with_progress(list(tensors)):
            name = t.name.encode()
            file.write(struct.pack("<3i", len(t.shape), len(name), BIN_CODES[t.type_name]))
            file.write(struct.pack(f"<{len(t.shape)}i", *reversed(t.shape)))
            file.write(name)
            t.make().tofile(file)


def _with_progress(tensors: list[Stored]) -> Iterator[Stored]:
    columns = (TextColumn("writing"), BarColumn(), DownloadColumn(binary_units=True))
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("writing", total=sum(t.n_bytes for t in tensors))
        for tensor in tensors:
            yield tensor
            bar.advance(task, tensor.n_bytes)


CONTAINERS = {
    "4": (".bin", bin_tensors, write_bin),
    "5.2": (".bin", bin_tensors, write_bin),
    "6": (".gguf", gguf_tensors, write_gguf),
    "7": (".gguf", gguf_tensors, write_gguf),
}


def make_model(
    path: Path,
    version: str,
    sizes: Sizes,
    weight_type: str,
    *,
    pure: bool = False,
    seed: int = 1,
    zeros: float | None = None,
) -> None:
    """Write `path` in the container that the version has."""
    suffix, tensors, write = CONTAINERS[version]
    if path.suffix != suffix:
        raise ValueError(f"{path}: RWKV-{version} is written as {suffix}, not {path.suffix}")
    if suffix == ".bin" and weight_type not in BIN_CODES:
        raise ValueError(f"{path}: rwkv.cpp files have no {weight_type}")
    mixing = None
    if zeros is not None:
        mixing = SparseMixing(version, sizes.n_embd, weight_type, threshold(zeros))
    outline = Outline(version, sizes, seed=seed, mixing=mixing)
    write(path, outline, weight_type, tensors(outline, weight_type, pure=pure))


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text}")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "out", type=Path, help="the file to write: .gguf for 6 and 7, .bin for 4, 5.2"
    )
    parser.add_argument("--size", choices=LAYERS_AND_WIDTH, required=True)
    parser.add_argument("--version", choices=CONTAINERS, default="7", help="(%(default)s)")
    parser.add_argument("--type", choices=[name.lower() for name in FILL], required=True)
    parser.add_argument("--pure", action="store_true", help="every matrix in the one type")
    parser.add_argument(
        "--zeros", type=_share, metavar="SHARE", help="of the inputs of ffn.value: 0.87 is usual"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the weights (%(default)s)")
    args = parser.parse_args()
    sizes = official_sizes(args.version, args.size)
    how = {"pure": args.pure, "seed": args.seed, "zeros": args.zeros}
    try:
        make_model(args.out, args.version, sizes, args.type.upper(), **how)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

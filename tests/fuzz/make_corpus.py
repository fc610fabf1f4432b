"""Writes the seeds of the fuzz corpora: small right files, and wrong ones.

    python tests/fuzz/make_corpus.py

The seeds are checked in; what the fuzzers find is added beside them by hand.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

U8, U16, U32, I32, F32, BOOL, STRING, ARRAY, U64, F64 = 0, 2, 4, 5, 6, 7, 8, 9, 10, 12
FLOAT, HALF, Q8_0 = 0, 1, 8  # tensor types of GGUF
SCALARS = {U8: "B", U16: "H", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", F64: "d"}

Pair = tuple[str, bytes]
Tensor = tuple[str, tuple[int, ...], int]


def text(value: str) -> bytes:
    """The length as 64 bits, then the bytes."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def scalar(kind: int, value: float) -> bytes:
    return struct.pack("<I" + SCALARS[kind], kind, value)


def string(value: str) -> bytes:
    return struct.pack("<I", STRING) + text(value)


def array(kind: int, values: list[bytes]) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, len(values)) + b"".join(values)


def n_bytes(dims: tuple[int, ...], bytes_of_32: int) -> int:
    return math.prod(dims) * bytes_of_32 // 32


def padding(n: int, alignment: int) -> bytes:
    return bytes(-n % alignment)


def gguf(pairs: list[Pair], tensors: list[Tensor], version: int = 3, alignment: int = 32) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    for key, value in pairs:
        head += text(key) + value
    data = b""
    for name, dims, kind in tensors:
        data += padding(len(data), alignment)
        head += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        data += bytes(n_bytes(dims, {FLOAT: 128, HALF: 64, Q8_0: 34}[kind]))
    return head + padding(len(head), alignment) + data


def gguf_pairs(architecture: str) -> list[Pair]:
    return [
        ("general.architecture", string(architecture)),
        (f"{architecture}.embedding_length", scalar(U32, 32)),
        (f"{architecture}.block_count", scalar(U32, 1)),
        (f"{architecture}.attention.layer_norm_epsilon", scalar(F32, 1e-5)),
        (f"{architecture}.wkv.head_size", scalar(U32, 16)),
        (f"{architecture}.rescale_every_n_layers", scalar(U32, 6)),
        ("tokenizer.ggml.model", string("rwkv")),
        ("tokenizer.ggml.tokens", array(STRING, [text("a"), text("\\n"), text("")])),
        ("tokenizer.ggml.token_type", array(I32, [struct.pack("<i", 1)] * 3)),
    ]


RWKV6 = [
    ("token_embd.weight", (32, 4), HALF),
    ("token_embd_norm.weight", (32,), FLOAT),
    ("output_norm.bias", (32,), FLOAT),
    ("output.weight", (32, 4), Q8_0),
    ("blk.0.attn_norm.weight", (32,), FLOAT),
    ("blk.0.time_mix_lerp_x.weight", (32,), FLOAT),
    ("blk.0.time_mix_lerp_fused.weight", (32, 1, 1, 5), FLOAT),
    ("blk.0.time_mix_w1.weight", (32, 5), FLOAT),
    ("blk.0.time_mix_w2.weight", (1, 32, 5), FLOAT),
    ("blk.0.time_mix_first.weight", (16, 2), FLOAT),
    ("blk.0.time_mix_decay.weight", (32,), FLOAT),
    ("blk.0.time_mix_ln.weight", (32,), FLOAT),
]
RWKV6_OLDER = [tensor for tensor in RWKV6 if "fused" not in tensor[0]] + [
    (f"blk.0.time_mix_lerp_{letter}.weight", (32,), FLOAT) for letter in "wkvrg"
]
RWKV7 = [
    ("token_embd.weight", (32, 4), HALF),
    ("output.weight", (32, 4), Q8_0),
    ("blk.0.time_mix_lerp_fused.weight", (32, 1, 1, 6), FLOAT),
    ("blk.0.time_mix_w0.weight", (32,), FLOAT),
    ("blk.0.time_mix_w1.weight", (32, 2), FLOAT),
    ("blk.0.time_mix_r_k.weight", (32,), FLOAT),
    ("blk.0.channel_mix_lerp_k.weight", (32,), FLOAT),
]


def gguf_seeds() -> dict[str, bytes]:
    whole = gguf(gguf_pairs("rwkv7"), RWKV7)
    architecture = ("general.architecture", string("rwkv7"))
    aligned = [("general.alignment", scalar(U32, 64)), *gguf_pairs("rwkv7")]
    return {
        "rwkv6": gguf(gguf_pairs("rwkv6"), RWKV6),
        "rwkv6-older": gguf(gguf_pairs("rwkv6"), RWKV6_OLDER, version=2),
        "rwkv7": whole,
        "rwkv7-aligned-64": gguf(aligned, RWKV7, alignment=64),
        "vocabulary-only": gguf(gguf_pairs("rwkv7"), []),
        "every-scalar": gguf(
            [architecture, *((f"k{kind}", scalar(kind, 1)) for kind in SCALARS)], []
        ),
        "cut-in-half": whole[: len(whole) // 2],
        "cut-before-data": whole[:-1],
        "magic-only": b"GGUF",
        "version-1": b"GGUF" + struct.pack("<III", 1, 0, 0) + bytes(8),
        "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        "count-of-tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**64 - 1, 0),
        "count-of-pairs": b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40),
        "array-length": gguf([("k", struct.pack("<IIQ", ARRAY, STRING, 2**61))], []),
        "array-of-arrays": gguf([("k", struct.pack("<IIQ", ARRAY, ARRAY, 1))], []),
        "string-length": gguf([("k", struct.pack("<IQ", STRING, 2**64 - 1))], []),
        "key-twice": gguf([architecture, architecture], []),
        "llama": gguf([("general.architecture", string("llama"))], []),
        "split": gguf([architecture, ("split.count", scalar(U16, 2))], []),
        "alignment-3": gguf([architecture, ("general.alignment", scalar(U32, 3))], []),
        "epsilon-nan": gguf(
            [architecture, ("rwkv7.attention.layer_norm_epsilon", scalar(F32, float("nan")))], []
        ),
        "tensor-twice": gguf([architecture], [RWKV7[0], RWKV7[0]]),
        "slices": gguf([architecture], [("blk.0.time_mix_lerp_fused.weight", (32, 1, 1, 5), 0)]),
        "dimension-0": gguf([architecture], [("x", (0, 32), FLOAT)]),
        "overflow": whole.replace(
            struct.pack("<IQQ", 2, 32, 4), struct.pack("<IQQ", 2, 2**63, 2**63)
        ),
        "overlap": whole.replace(struct.pack("<IQ", Q8_0, 256), struct.pack("<IQ", Q8_0, 0)),
        "misaligned": whole.replace(struct.pack("<IQ", Q8_0, 256), struct.pack("<IQ", Q8_0, 1)),
        "type-q4_k": whole.replace(struct.pack("<IQ", Q8_0, 256), struct.pack("<IQ", 12, 256)),
    }


Q5_1 = 8  # of rwkv.cpp: its numbers are not GGUF's


def ggmf(tensors: list[Tensor], version: int = 101, kind: int = 0, n_layer: int = 1) -> bytes:
    file = b"fmgg" + struct.pack("<5i", version, 4, 32, n_layer, kind)
    for name, dims, code in tensors:
        file += struct.pack(f"<{3 + len(dims)}i", len(dims), len(name.encode()), code, *dims)
        file += name.encode() + bytes(n_bytes(dims, {0: 128, 1: 64, Q5_1: 24}.get(code, 0)))
    return file


def with_block(block: list[Tensor]) -> list[Tensor]:
    ends = [("ln_out.weight", (32,), 0), ("ln_out.bias", (32,), 0), ("head.weight", (32, 4), 1)]
    named = [("blocks.0." + name, dims, code) for name, dims, code in block]
    return [("emb.weight", (32, 4), 1), *named, *ends]


LN_X = ("att.ln_x.weight", (32,), 0)
V4 = with_block(
    [
        ("att.time_decay", (32,), 0),
        ("att.time_mix_k", (32, 1, 1), 0),
        ("att.key.weight", (32, 32), Q5_1),
    ]
)
V5_0 = with_block([LN_X, ("att.time_decay", (1, 1, 2), 0), ("att.time_first", (1, 1, 2), 0)])
V5_2 = with_block([LN_X, ("att.time_decay", (1, 16, 2), 0), ("att.time_faaaa", (1, 16, 2), 0)])
V6 = with_block(
    [
        LN_X,
        ("att.time_maa_x", (32,), 0),
        ("att.time_maa_w1", (32, 5), 0),
        ("att.time_maa_w2", (1, 32, 5), 0),
        ("att.time_decay", (1, 16, 2), 0),
        ("att.time_decay_w1", (32, 1), 0),
        ("att.time_faaaa", (1, 16, 2), 0),
    ]
)
V7 = with_block(
    [
        LN_X,
        ("att.x_rwkvag", (32, 1, 6), 0),
        ("att.w0", (32, 1, 1), 0),
        ("att.w1", (32, 2), 1),
        ("att.r_k", (16, 2), 0),
    ]
)


def ggmf_seeds() -> dict[str, bytes]:
    whole = ggmf(V4)
    x = ("x", (32,), 0)
    return {
        "v4": whole,
        "v5.0": ggmf(V5_0),
        "v5.2": ggmf(V5_2),
        "v6": ggmf(V6),
        "v7": ggmf(V7),
        "version-100": ggmf(V7, version=100),
        "version-100-quantized": ggmf(V4, version=100, kind=2),
        "version-102": ggmf(V4, version=102),
        "cut-in-half": whole[: len(whole) // 2],
        "cut-between-tensors": ggmf(V4[:-1]),
        "magic-only": b"fmgg",
        "no-tensors": ggmf([]),
        "layers": ggmf(V4, n_layer=2**31 - 1),
        "tensor-twice": ggmf([x, x]),
        "slices": ggmf(with_block([("att.x_rwkvag", (32, 1, 5), 0)])),
        "heads": ggmf(with_block([LN_X, ("att.time_decay", (1, 1, 5), 0)])),
        "type-removed": ggmf([("x", (32,), 5)]),
        "type-unread": ggmf([("x", (256,), 12)]),
        "type-unknown": ggmf([("x", (32,), 77)]),
        "dimension-0": ggmf([("x", (0,), 0)]),
        "dimensions-4": ggmf([("x", (1, 1, 1, 1), 0)]),
        "overflow": ggmf([]) + struct.pack("<6i", 3, 1, 0, *[2**31 - 1] * 3) + b"x",
        "name-length": ggmf([]) + struct.pack("<4i", 1, 2**31 - 1, 0, 32),
        "name-not-utf8": ggmf([]) + struct.pack("<4i", 1, 2, 0, 32) + b"\xc0\x80" + bytes(128),
    }


def write(folder: str, seeds: dict[str, bytes]) -> None:
    (CORPUS / folder).mkdir(parents=True, exist_ok=True)
    for name, content in seeds.items():
        (CORPUS / folder / name).write_bytes(content)


if __name__ == "__main__":
    write("gguf", gguf_seeds())
    write("ggmf", ggmf_seeds())

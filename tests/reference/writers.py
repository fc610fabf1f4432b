"""Model files from checkpoints: rwkv.cpp .bin and GGUF, in any weight type.

Which tensors take the type is decided as rwkv.cpp's converter and quantizer, and llama.cpp's
converter, decide it; `every_matrix` gives it to all matrices, low-rank ones and embedding included,
whose rows are a whole number of blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np

from tests.reference.layouts import Tensor, Tensors, to_bin, to_gguf
from tests.reference.rwkv_numpy import detect_version, layer_count

# (type name, rows of float32 [..., inputs]) -> blocks
Quantize = Callable[[str, Tensor], bytes]
# (GGUF name, tensor) -> type name
TypeOf = Callable[[str, Tensor], str]

FLOAT_TYPES = ("F32", "F16", "BF16")

BIN_MAGIC = 0x67676D66
BIN_CODES = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 7,
    "Q5_1": 8,
    "Q8_0": 9,
    "Q2_K": 11,
    "Q3_K": 12,
    "Q4_K": 13,
    "Q5_K": 14,
    "Q6_K": 15,
}
FILE_TYPES = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K": 12,
    "Q4_K": 15,
    "Q5_K": 17,
    "Q6_K": 18,
    "IQ3_XXS": 23,
    "IQ4_NL": 25,
    "IQ3_S": 26,
    "IQ4_XS": 30,
    "BF16": 32,
}


def gguf_quantize(type_name: str, rows: Tensor) -> bytes:
    """With the gguf package's quantizers, which make no K or IQ type."""
    kind = gguf.GGMLQuantizationType[type_name]
    return gguf.quants.quantize(np.ascontiguousarray(rows, np.float32), kind).tobytes()


def encode(type_name: str, tensor: Tensor, quantize: Quantize) -> bytes:
    if type_name in ("F32", "F16"):
        return tensor.astype({"F32": "<f4", "F16": "<f2"}[type_name]).tobytes()
    return quantize(type_name, np.asarray(tensor, np.float32))


def rows_fit(type_name: str, tensor: Tensor) -> bool:
    block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name]]
    return tensor.shape[-1] % block == 0


# ---- rwkv.cpp --------------------------------------------------------------------------------

KEPT_F32 = (".time_", ".k_k", ".k_a", ".r_k", ".x_rwkvag", ".x_k", ".w0", ".a0", ".v0")
KEPT_FLOAT = ("emb.weight", "head.weight", *(f"att.{q}{i}" for q in "vgaw" for i in (1, 2)))
NEVER_QUANTIZED = ("att.r_k",)


def bin_type(name: str, tensor: Tensor, weight_type: str, base: str, every_matrix: bool) -> str:
    """The type that rwkv.cpp stores a tensor in; `base` is the file's type before quantizing."""
    is_f16 = base == "F16" and tensor.ndim > 1 and not any(part in name for part in KEPT_F32)
    unquantized = "F16" if is_f16 else "F32"
    kept = NEVER_QUANTIZED if every_matrix else NEVER_QUANTIZED + KEPT_FLOAT
    quantized = (
        weight_type not in FLOAT_TYPES
        and tensor.ndim == 2
        and rows_fit(weight_type, tensor)
        and not any(part in name for part in kept)
    )
    return weight_type if quantized else unquantized


def write_bin(
    path: Path,
    checkpoint: Tensors,
    weight_type: str,
    *,
    base: str = "F32",
    every_matrix: bool = False,
    quantize: Quantize = gguf_quantize,
    file_version: int = 101,
) -> None:
    """An rwkv.cpp file. `base` ("F32", "F16") is the type of what stays unquantized."""
    if weight_type in FLOAT_TYPES:
        base = weight_type
    n_vocab, n_embd = checkpoint["emb.weight"].shape
    code = BIN_CODES[weight_type]
    with path.open("wb") as file:
        header = (BIN_MAGIC, file_version, n_vocab, n_embd, layer_count(checkpoint), code)
        file.write(struct.pack("<6i", *header))
        for name, tensor in to_bin(checkpoint):
            own = bin_type(name, tensor, weight_type, base, every_matrix)
            key = name.encode()
            file.write(struct.pack("<3i", tensor.ndim, len(key), BIN_CODES[own]))
            file.write(struct.pack(f"<{tensor.ndim}i", *reversed(tensor.shape)))
            file.write(key)
            file.write(encode(own, tensor, quantize))


# ---- GGUF ------------------------------------------------------------------------------------

KEPT_F32_GGUF = ("_norm.weight", "time_mix_first", "time_mix_w1", "time_mix_w2", "time_mix_decay_w")


def gguf_type(name: str, tensor: Tensor, weight_type: str, every_matrix: bool) -> str:
    """The type that llama.cpp's converter stores a tensor in."""
    if tensor.ndim == 1 or tensor.ndim == 4 or "time_mix_first" in name:
        return "F32"
    if not every_matrix and any(part in name for part in KEPT_F32_GGUF):
        return "F32"
    return weight_type if rows_fit(weight_type, tensor) else "F16"


def write_gguf(
    path: Path,
    checkpoint: Tensors,
    weight_type: str,
    *,
    head_type: str | None = None,
    every_matrix: bool = False,
    type_of: TypeOf | None = None,
    fused_lerps: bool = True,
    rescale_every: int = 0,
    vocabulary: Sequence[bytes] | None = None,
    quantize: Quantize = gguf_quantize,
) -> None:
    """A GGUF v3 file of a v6 or v7 checkpoint.

    head_type: llama-quantize makes it Q6_K whatever the type of the rest.
    type_of: another rule than the converter's.
    vocabulary: the bytes of every token, written as llama.cpp writes the World vocabulary.
    """
    version = detect_version(checkpoint)
    writer = gguf.GGUFWriter(path, f"rwkv{version}")
    _add_sizes(writer, version, checkpoint, rescale_every)
    writer.add_file_type(FILE_TYPES[weight_type])
    if weight_type not in FLOAT_TYPES:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if vocabulary is not None:
        _add_vocabulary(writer, vocabulary)
    for name, tensor in to_gguf(checkpoint, fused_lerps=fused_lerps, rescale_every=rescale_every):
        if type_of is not None:
            own = type_of(name, tensor)
        elif name == "output.weight" and head_type is not None:
            own = head_type
        else:
            own = gguf_type(name, tensor, weight_type, every_matrix)
        _add_tensor(writer, name, tensor, own, quantize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(
    writer: gguf.GGUFWriter, version: str, checkpoint: Tensors, rescale_every: int
) -> None:
    n_embd = len(checkpoint["ln_out.weight"])  # a wide model's embedding takes long to make
    att = "blocks.0.att."
    heads = checkpoint[att + ("time_faaaa" if version == "6" else "r_k")]
    writer.add_context_length(1048576)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(layer_count(checkpoint))
    writer.add_feed_forward_length(len(checkpoint["blocks.0.ffn.key.weight"]))
    writer.add_head_count(0)
    writer.add_layer_norm_eps(1e-5)
    writer.add_wkv_head_size(heads.shape[1])
    if version == "6":
        writer.add_rescale_every_n_layers(rescale_every)
        writer.add_time_mix_extra_dim(checkpoint[f"{att}time_maa_w1"].shape[1] // 5)
        writer.add_time_decay_extra_dim(checkpoint[f"{att}time_decay_w1"].shape[1])
    else:
        writer.add_decay_lora_rank(checkpoint[f"{att}w1"].shape[1])
        writer.add_iclr_lora_rank(checkpoint[f"{att}a1"].shape[1])
        last = f"blocks.{layer_count(checkpoint) - 1}.att."  # layer 0 may have another's or none
        writer.add_value_residual_mix_lora_rank(checkpoint[f"{last}v1"].shape[1])
        writer.add_gate_lora_rank(checkpoint[f"{att}g1"].shape[1])


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Sequence[bytes]) -> None:
    """Token 0 ends a text; the others are spelled as Python's repr() spells their bytes."""
    texts = ["<s>", *(repr(token)[2:-1] for token in vocabulary[1:])]
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(texts)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(texts) - 1))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_eot_token_id(0)


def _add_tensor(
    writer: gguf.GGUFWriter, name: str, tensor: Tensor, type_name: str, quantize: Quantize
) -> None:
    if type_name in ("F32", "F16"):
        writer.add_tensor(name, tensor.astype({"F32": "<f4", "F16": "<f2"}[type_name]))
        return
    blocks = np.frombuffer(quantize(type_name, np.asarray(tensor, np.float32)), np.uint8)
    kind = gguf.GGMLQuantizationType[type_name]
    writer.add_tensor(name, blocks.reshape(*tensor.shape[:-1], -1), raw_dtype=kind)

"""What a GGUF file says about itself: sizes, types, where it comes from, vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gguf

from rwkvcpp.checkpoints.checkpoint import Checkpoint
from rwkvcpp.gguf_vocabulary import MODEL, holds_vocabulary, vocabulary_fields
from rwkvcpp.templates import jinja_for_others
from rwkvcpp.templates.recognition import WORLD_NAME
from rwkvcpp.tokenizer import Tokenizer
from rwkvcpp.writers import sizes
from rwkvcpp.writers.model_card import card_fields, chat_template
from rwkvcpp.writers.plan import Entry

Fields = dict[str, Any]

TEMPLATE = "tokenizer.chat_template"

CONTEXT_LENGTH = 1048576  # an RNN has none; llama.cpp's converter writes this


def architecture(checkpoint: Checkpoint) -> str:
    """ "rwkv5" for 5.0, 5.1 and 5.2: shapes tell them apart."""
    return f"rwkv{(checkpoint.version or '').partition('.')[0]}"


def fields(checkpoint: Checkpoint, entries: Sequence[Entry], tokenizer: Tokenizer | None) -> Fields:
    """Every key but general.architecture, which the gguf package writes itself."""
    own = {f"{architecture(checkpoint)}.{key}": n for key, n in _sizes(checkpoint)}
    return {
        "general.type": "model",
        **card_fields(checkpoint),
        **own,
        **_types(checkpoint, entries),
        **_vocabulary(checkpoint, tokenizer),
    }


# ---- sizes -----------------------------------------------------------------------------------

# llama.cpp's loader asks for these; the tensors' shapes are what counts.
RANKS = {
    "7": {
        "attention.decay_lora_rank": "w1",
        "attention.iclr_lora_rank": "a1",
        "attention.value_residual_mix_lora_rank": "v1",
        "attention.gate_lora_rank": "g1",
    },
}


def _sizes(checkpoint: Checkpoint) -> Iterator[tuple[str, int | float]]:
    yield "context_length", CONTEXT_LENGTH
    yield "embedding_length", sizes.n_embd(checkpoint)
    yield "block_count", sizes.n_layer(checkpoint)
    yield "feed_forward_length", sizes.n_ffn(checkpoint)
    yield "attention.head_count", 0
    yield "attention.layer_norm_epsilon", checkpoint.layer_norm_eps
    head_size = sizes.head_size(checkpoint)
    if head_size is not None:
        yield "wkv.head_size", head_size
    if checkpoint.version == "6":
        yield "rescale_every_n_layers", 0  # the matrices are as they were trained
        yield "time_mix_extra_dim", sizes.rank(checkpoint, "time_maa_w1") // 5
        yield "time_decay_extra_dim", sizes.rank(checkpoint, "time_decay_w1")
    for key, name in RANKS.get(checkpoint.version or "", {}).items():
        only_layer = name == "v1" and sizes.n_layer(checkpoint) == 1
        yield key, sizes.rank(checkpoint, "a1" if only_layer else name)


# ---- types -----------------------------------------------------------------------------------


def _types(checkpoint: Checkpoint, entries: Sequence[Entry]) -> Fields:
    """general.file_type is that of most weights, as llama.cpp numbers it."""
    found: Fields = {"general.quantization_version": gguf.GGML_QUANT_VERSION}
    weights: Counter[str] = Counter()
    for entry in entries:
        weights[entry.type] += entry.tensor.n_elements
    main = weights.most_common(1)[0][0]
    known = gguf.LlamaFileType.__members__
    file_type = known.get("ALL_F32" if main == "F32" else f"MOSTLY_{main}")
    if file_type is not None:
        found["general.file_type"] = int(file_type)
    is_quantized = any(not entry.tensor.is_float for entry in entries)
    if is_quantized and "general.file_type" in checkpoint.metadata:
        found["general.file_type"] = checkpoint.metadata["general.file_type"]
    return found


# ---- vocabulary ------------------------------------------------------------------------------


def _vocabulary(checkpoint: Checkpoint, tokenizer: Tokenizer | None) -> Fields:
    n_vocab = sizes.n_vocab(checkpoint)
    if tokenizer is not None:
        found = vocabulary_fields(tokenizer, n_vocab)
    elif holds_vocabulary(checkpoint.metadata.get):
        found = {k: v for k, v in checkpoint.metadata.items() if k.startswith("tokenizer.")}
    else:  # llama.cpp then takes and gives numbers only
        found = {MODEL: "none", f"{architecture(checkpoint)}.vocab_size": n_vocab}
    template = chat_template(checkpoint)
    if template is None and found.get(TEMPLATE) == WORLD_NAME and tokenizer is not None:
        template = jinja_for_others(
            checkpoint.path, card_fields(checkpoint).get("general.name", "")
        )
    return found | ({TEMPLATE: template} if template else {})


# ---- into the file ---------------------------------------------------------------------------


def add_fields(writer: gguf.GGUFWriter, found: Mapping[str, Any]) -> None:
    """Every key with the GGUF type that its Python value has here: 32 bits where they suffice."""
    for key, value in found.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            _add_integer(writer, key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)


def _add_integer(writer: gguf.GGUFWriter, key: str, value: int) -> None:
    if 0 <= value < 2**32:
        writer.add_uint32(key, value)
    else:
        writer.add_int64(key, value)

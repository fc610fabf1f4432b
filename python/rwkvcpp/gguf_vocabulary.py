"""Vocabularies in GGUF metadata, both ways: World ("rwkv") and byte-level BPE ("gpt2").

A token of a World vocabulary is spelled as Python prints its bytes, without the quotes; of a BPE
vocabulary, in GPT-2's alphabet of printable characters, added tokens as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

from rwkvcpp.errors import ModelFormatError, UnsupportedError
from rwkvcpp.tokenizer import BpeTokenizer, Tokenizer, TrieTokenizer, trie_tokenizer

Metadata = Callable[[str], Any]

MODEL = "tokenizer.ggml.model"
TOKENS = "tokenizer.ggml.tokens"
TYPES = "tokenizer.ggml.token_type"
MERGES = "tokenizer.ggml.merges"
PRE = "tokenizer.ggml.pre"

NO_VOCABULARY = ("none", "no_vocab")  # what llama.cpp calls a model of bare numbers


class TokenType(IntEnum):
    """tokenizer.ggml.token_type; encode() never gives control and unused ones."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


# ---- reading ---------------------------------------------------------------------------------


def holds_vocabulary(metadata: Metadata) -> bool:
    """Whether a GGUF file has any."""
    return metadata(MODEL) not in (None, *NO_VOCABULARY)


def read_vocabulary(metadata: Metadata) -> Tokenizer | None:
    """The tokenizer in a GGUF file; None where it has none."""
    if not holds_vocabulary(metadata):
        return None
    kind = metadata(MODEL)
    reader = READERS.get(kind)
    if reader is None:
        known = " or ".join(f'"{name}"' for name in READERS)
        raise UnsupportedError(
            f'the file\'s tokenizer is of kind "{kind}", expected {known}: '
            "name a vocabulary with --tokenizer FILE"
        )
    tokens = _strings(metadata, TOKENS)
    return reader(metadata, tokens, _token_types(metadata, len(tokens)))


def _strings(metadata: Metadata, key: str) -> list[str]:
    values = metadata(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ModelFormatError(f"{key} is missing or no list of strings")
    return values


def _token_types(metadata: Metadata, n_tokens: int) -> list[int]:
    types = metadata(TYPES)
    if types is None:
        return [TokenType.NORMAL] * n_tokens
    if not isinstance(types, list) or len(types) != n_tokens:
        raise ModelFormatError(f"{TYPES} is not one number for each of the {n_tokens} tokens")
    return types


def _read_world(_: Metadata, tokens: Sequence[str], types: Sequence[int]) -> Tokenizer:
    table: list[bytes] = []
    for id, (token, type_) in enumerate(zip(tokens, types, strict=True)):
        try:
            table.append(_unescaped(token) if type_ == TokenType.NORMAL else b"")
        except UnicodeEncodeError as error:
            raise ModelFormatError(
                f"{TOKENS}: token {id} is {token[:60]!r}, expected escaped bytes"
            ) from error
    return trie_tokenizer(TOKENS, table, "world")


_ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}


def _unescaped(token: str) -> bytes:
    def meant(match: re.Match[str]) -> str:
        if match[1] is not None:
            return chr(int(match[1], 16))
        return _ESCAPES.get(match[2], match[2])

    text = re.sub(r"\\(?:x([0-9a-f]{2})|(.))", meant, token, flags=re.DOTALL)
    return text.encode("latin-1")


def _read_bpe(metadata: Metadata, tokens: Sequence[str], types: Sequence[int]) -> Tokenizer:
    """A tokenizer.json with what GGUF leaves unsaid: RWKV models have had GPT-NeoX's, 20B."""
    numbered = [(id, token, types[id]) for id, token in enumerate(tokens)]
    description = {
        "version": "1.0",
        "added_tokens": [
            _added_token(id, token, special=type_ == TokenType.CONTROL)
            for id, token, type_ in numbered
            if type_ in (TokenType.CONTROL, TokenType.USER_DEFINED)
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": BYTE_LEVEL,
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "vocab": {token: id for id, token, type_ in numbered if type_ != TokenType.UNUSED},
            "merges": _strings(metadata, MERGES),
        },
    }
    return BpeTokenizer(json.dumps(description), name="gpt2", where=TOKENS, at_least=len(tokens))


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def _added_token(id: int, token: str, *, special: bool) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": token, "special": special, **plain}


Reader = Callable[[Metadata, Sequence[str], Sequence[int]], Tokenizer]

READERS: dict[str, Reader] = {"rwkv": _read_world, "gpt2": _read_bpe}


# ---- writing ---------------------------------------------------------------------------------

WORLD_SIZE = 65536
WORLD_PARAGRAPH = 261  # "\n\n" ends a turn in World chats; llama.cpp ends a reply there


def vocabulary_fields(tokenizer: Tokenizer, n_vocab: int) -> dict[str, Any]:
    """The tokenizer.* keys for a model of `n_vocab` tokens, as llama.cpp's converter has them."""
    if isinstance(tokenizer, TrieTokenizer):
        return _world_fields(tokenizer, n_vocab)
    if isinstance(tokenizer, BpeTokenizer):
        return _bpe_fields(tokenizer, n_vocab)
    raise UnsupportedError(f"{tokenizer!r} is of no kind that GGUF files hold")


def _world_fields(tokenizer: Tokenizer, n_vocab: int) -> dict[str, Any]:
    table = [tokenizer.token_bytes(id) for id in range(tokenizer.n_vocab)]
    table += [b""] * (n_vocab - len(table))
    tokens = [repr(token)[2:-1] or f"[PAD{id}]" for id, token in enumerate(table)]
    types = [int(TokenType.NORMAL if token else TokenType.UNUSED) for token in table]
    fields: dict[str, Any] = {MODEL: "rwkv", TOKENS: tokens, TYPES: types}
    if table[0]:  # every id is text: nothing ends one
        return fields
    tokens[0], types[0] = "<s>", int(TokenType.CONTROL)
    if n_vocab != WORLD_SIZE or table[WORLD_PARAGRAPH] != b"\n\n":
        return fields | _special_ids(begin=0, end=0, end_of_turn=0)
    turns = _special_ids(begin=0, end=0, end_of_turn=WORLD_PARAGRAPH)
    return fields | turns | {"tokenizer.chat_template": "rwkv-world"}


def _bpe_fields(tokenizer: BpeTokenizer, n_vocab: int) -> dict[str, Any]:
    description = tokenizer.description()
    if description["model"]["type"] != "BPE":
        raise UnsupportedError(f"{tokenizer!r} is of no kind that GGUF files hold")
    tokens = [f"[PAD{id}]" for id in range(n_vocab)]
    types = [TokenType.UNUSED] * n_vocab
    for token, id in description["model"]["vocab"].items():
        tokens[id], types[id] = token, TokenType.NORMAL
    for added in description["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], kind
    merges = description["model"]["merges"]
    fields: dict[str, Any] = {
        MODEL: "gpt2",
        PRE: "gpt-2",
        TOKENS: tokens,
        TYPES: [int(type_) for type_ in types],
        MERGES: [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
    }
    end = tokenizer.end_of_text
    return fields | ({} if end is None else _special_ids(begin=end, end=end, end_of_turn=end))


def _special_ids(*, begin: int, end: int, end_of_turn: int) -> dict[str, int]:
    return {
        "tokenizer.ggml.bos_token_id": begin,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.eot_token_id": end_of_turn,
    }

"""Tokenizers: text to token ids and back, for every vocabulary that RWKV models were trained on."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from rwkvcpp._core import WorldTokenizer
from rwkvcpp.errors import ModelFormatError, RwkvError, UnsupportedError

PathArgument: TypeAlias = "str | os.PathLike[str]"


class Tokenizer(ABC):
    """Text to token ids and back. Subclasses say how bytes become ids."""

    name: str
    end_of_text: int | None  # the token that ends a document; None where there is none

    @property
    @abstractmethod
    def n_vocab(self) -> int:
        """How many ids there are."""

    @abstractmethod
    def encode(self, text: str | bytes) -> list[int]:
        """The ids of `text`; text is taken as UTF-8."""

    @abstractmethod
    def token_bytes(self, id: int) -> bytes:
        """The bytes that `id` stands for; IndexError when there is no such id."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes(id) for id in ids).decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"<rwkvcpp.Tokenizer {self.name}, {self.n_vocab} tokens>"


class TrieTokenizer(Tokenizer):
    """Greedy longest match over bytes: World vocabularies, and plain bytes."""

    def __init__(self, native: WorldTokenizer, name: str, end_of_text: int | None) -> None:
        """A tokenizer with the ids of `native`."""
        self._native = native
        self.name = name
        self.end_of_text = end_of_text

    @property
    def n_vocab(self) -> int:
        return self._native.n_vocab

    def encode(self, text: str | bytes) -> list[int]:
        return self._native.encode(text.encode() if isinstance(text, str) else text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._native.decode(ids).decode("utf-8", "replace")

    def token_bytes(self, id: int) -> bytes:
        return self._native.token_bytes(id)


class BpeTokenizer(Tokenizer):
    """A byte-level BPE vocabulary, by the `tokenizers` library (20B)."""

    def __init__(self, text: str, *, name: str, where: str, at_least: int = 0) -> None:
        """The vocabulary in `text`, a tokenizer.json; ids up to `at_least` that it lacks are empty.

        where: the file that the text came from, for messages.
        """
        try:
            from tokenizers import Tokenizer as Library
        except ImportError as error:
            raise UnsupportedError(
                f"{where}: a BPE vocabulary needs the tokenizers library: "
                "pip install 'rwkvcpp[files]'"
            ) from error
        try:
            self._library = Library.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise ModelFormatError(f"{where}: not a tokenizer.json: {error}") from error
        self._library.encode_special_tokens = True  # text that spells "<|endoftext|>" is text
        self.name = name
        self.end_of_text = self._library.token_to_id("<|endoftext|>")
        self._n_vocab = max(int(self._library.get_vocab_size()), at_least)

    def description(self) -> dict[str, Any]:
        """The content of a tokenizer.json."""
        found: dict[str, Any] = json.loads(self._library.to_str())
        return found

    @property
    def n_vocab(self) -> int:
        return self._n_vocab

    def encode(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")  # this vocabulary knows characters only
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def token_bytes(self, id: int) -> bytes:
        if not 0 <= id < self._n_vocab:
            raise IndexError(f"token is {id}, expected 0 to {self._n_vocab - 1}")
        token = self._library.id_to_token(id)
        if token is None:
            return b""
        if token in self._added:
            return token.encode()
        return bytes(self._byte_of[character] for character in token)

    @cached_property
    def _added(self) -> frozenset[str]:
        """Tokens that stand for themselves, outside the byte alphabet."""
        added = self._library.get_added_tokens_decoder().values()
        return frozenset(token.content for token in added)

    @cached_property
    def _byte_of(self) -> dict[str, int]:
        """The byte that each character of a byte-level vocabulary stands for (GPT-2's table):
        printable bytes are themselves, the others follow from U+0100 on in order."""
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in set(printable)]
        table = {chr(byte): byte for byte in printable}
        return table | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def bpe_tokenizer(path: PathArgument, *, at_least: int = 0) -> Tokenizer:
    """The tokenizer of a tokenizer.json, such as 20B_tokenizer.json."""
    path = Path(path)
    text = path.read_text("utf-8")
    return BpeTokenizer(text, name=path.stem, where=str(path), at_least=at_least)


# World vocabulary files: one token a line, `<id> <python literal> <length in bytes>`.


def world_tokenizer(path: PathArgument, *, at_least: int = 0) -> Tokenizer:
    """The tokenizer of a World vocabulary file, such as rwkv_vocab_v20230424.txt.

    Models have more ids than the file (65,536 to its 65,530): those up to `at_least` are empty.
    """
    path = Path(path)
    tokens: dict[int, bytes] = {}
    text = path.read_bytes()
    for number, line in enumerate(text.split(b"\n"), start=1):
        if line := line.removesuffix(b"\r"):
            id, token = _vocabulary_line(f"{path}, line {number}", line)
            if id in tokens:
                raise ModelFormatError(f"{path}, line {number}: token {id} was there already")
            tokens[id] = token
    if not tokens:
        raise ModelFormatError(f"{path}: no tokens, expected lines like: 59 ':' 1")
    if max(tokens) > 8 * len(tokens):
        raise ModelFormatError(f"{path}: token {max(tokens)} among only {len(tokens)} tokens")
    table = [tokens.get(id, b"") for id in range(max(max(tokens) + 1, at_least))]
    return trie_tokenizer(str(path), table, path.stem)


def _vocabulary_line(where: str, line: bytes) -> tuple[int, bytes]:
    parts = re.fullmatch(rb"([0-9]{1,9}) (.+) ([0-9]{1,9})", line)
    if parts is None:
        raise ModelFormatError(f"{where}: {_shown(line)}, expected a line like: 59 ':' 1")
    try:
        literal = ast.literal_eval(parts[2].decode("utf-8"))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ModelFormatError(f"{where}: {_shown(parts[2])} is no Python string") from error
    try:
        token = literal.encode("utf-8") if isinstance(literal, str) else literal
    except UnicodeEncodeError as error:
        raise ModelFormatError(f"{where}: {_shown(parts[2])} is not Unicode text") from error
    if not isinstance(token, bytes):
        raise ModelFormatError(f"{where}: {_shown(parts[2])} is no Python string")
    if len(token) != int(parts[3]):
        raise ModelFormatError(
            f"{where}: {_shown(parts[2])} has {len(token)} bytes, the line says {int(parts[3])}"
        )
    return int(parts[1]), token


def _shown(data: bytes) -> str:
    """Bytes of a file, short enough for a message."""
    text = data[:60].decode("utf-8", "replace")
    return f"{text!r}" + ("…" if len(data) > 60 else "")


def trie_tokenizer(where: str, table: Sequence[bytes], name: str) -> Tokenizer:
    """A tokenizer with the tokens of `table`; where: what the table came from, for messages."""
    try:
        native = WorldTokenizer.from_tokens(table)
    except ValueError as error:
        raise ModelFormatError(f"{where}: {error}") from error
    return TrieTokenizer(native, name, end_of_text=0 if table and not table[0] else None)


# Which one


def byte_tokenizer() -> Tokenizer:
    """A tokenizer whose 256 ids are the bytes themselves."""
    return TrieTokenizer(WorldTokenizer.bytes_only(), "bytes", end_of_text=None)


def _packaged_world_tokenizer(n_vocab: int) -> Tokenizer:
    """The World vocabulary that comes with the pyrwkv-tokenizer package."""
    try:
        files = importlib.metadata.files("pyrwkv-tokenizer") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UnsupportedError(
            "the model file has no vocabulary, and the World vocabulary is not installed: "
            "pip install 'rwkvcpp[files]', or name it with --tokenizer rwkv_vocab_v20230424.txt"
        ) from error
    for file in files:
        if file.name.startswith("rwkv_vocab") and file.suffix == ".txt":
            return world_tokenizer(str(file.locate()), at_least=n_vocab)
    raise UnsupportedError(
        "the pyrwkv-tokenizer package has no rwkv_vocab file here: "
        "name one with --tokenizer rwkv_vocab_v20230424.txt"
    )


_BY_SIZE: dict[int, Callable[[int], Tokenizer]] = {
    256: lambda _: byte_tokenizer(),
    65536: _packaged_world_tokenizer,
}


def load_tokenizer(
    source: PathArgument | Tokenizer | None,
    n_vocab: int,
    metadata: Callable[[str], Any] = lambda _: None,
    *,
    beside: Path | None = None,
) -> Tokenizer:
    """The tokenizer for a model of `n_vocab` tokens.

    `source` is a vocabulary file (World .txt, or .json for the `tokenizers` library), a Tokenizer,
    or None: then the vocabulary in the GGUF `metadata`, else the file `beside` the weights, else
    the one that models of this size have (256: bytes, 65536: World).
    """
    tokenizer = _find(source, n_vocab, metadata, beside)
    if tokenizer.n_vocab > n_vocab:
        raise RwkvError(
            f"the tokenizer {tokenizer.name} has {tokenizer.n_vocab} tokens, "
            f"the model only {n_vocab}: they do not belong together"
        )
    return tokenizer


def vocabulary_beside(file: Path | None, n_vocab: int) -> Path | None:
    """The vocabulary that came in a folder with the weights, if it is the one to use.

    A World model's folder may hold a tokenizer.json for another library: its size says more.
    """
    if file is None or (file.suffix != ".txt" and n_vocab in _BY_SIZE):
        return None
    return file


def _from_file(path: PathArgument, n_vocab: int) -> Tokenizer:
    reader = bpe_tokenizer if Path(path).suffix.lower() == ".json" else world_tokenizer
    return reader(path, at_least=n_vocab)


def _find(
    source: PathArgument | Tokenizer | None,
    n_vocab: int,
    metadata: Callable[[str], Any],
    beside: Path | None,
) -> Tokenizer:
    if isinstance(source, Tokenizer):
        return source
    if source is not None:
        return _from_file(source, n_vocab)
    from rwkvcpp.gguf_vocabulary import read_vocabulary

    embedded = read_vocabulary(metadata)
    if embedded is not None:
        return embedded
    beside = vocabulary_beside(beside, n_vocab)
    if beside is not None:
        return _from_file(beside, n_vocab)
    if n_vocab in _BY_SIZE:
        return _BY_SIZE[n_vocab](n_vocab)
    raise UnsupportedError(
        f"the model file has no vocabulary, and none is known for {n_vocab} tokens: "
        "name one with --tokenizer FILE (rwkv_vocab_v20230424.txt, 20B_tokenizer.json)"
    )

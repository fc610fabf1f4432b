"""Vocabularies in GGUF files: what is written reads back as the same tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp.gguf_vocabulary import read_vocabulary, vocabulary_fields
from rwkvcpp.tokenizer import byte_tokenizer, load_tokenizer, world_tokenizer

TEXT = (
    "The Eiffel\ttower  is 'in' \"Paris\"\n\n\n    def f(x):\\n\r\n你好 é e\u0301 😀 "
    "<s> [PAD9] <|endoftext|>"
)


def read_back(fields: dict[str, Any]) -> rwkvcpp.Tokenizer:
    tokenizer = read_vocabulary(fields.get)
    assert tokenizer is not None
    return tokenizer


# ---- World -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(shared: Path) -> rwkvcpp.Tokenizer:
    return load_tokenizer(shared / "vocab" / "rwkv_vocab_v20230424.txt", 65536)


def test_world_is_spelled_as_llama_cpps_converter_spells_it(world):
    fields = vocabulary_fields(world, 65536)
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert fields["tokenizer.ggml.model"] == "rwkv"
    assert (len(tokens), len(types)) == (65536, 65536)
    assert (tokens[0], types[0]) == ("<s>", 3)
    assert (tokens[1], tokens[10], tokens[11]) == (r"\x00", r"\t", r"\n")
    assert (tokens[40], tokens[93], tokens[261]) == ("'", r"\\", r"\n\n")
    assert (tokens[65529], types[65529]) != ("[PAD65529]", 5)
    assert (tokens[65530], types[65530]) == ("[PAD65530]", 5)
    ids = {key: fields[f"tokenizer.ggml.{key}_token_id"] for key in ("bos", "eos", "eot")}
    assert ids == {"bos": 0, "eos": 0, "eot": 261}
    assert fields["tokenizer.chat_template"] == "rwkv-world"


def test_world_reads_back_token_by_token(world):
    again = read_back(vocabulary_fields(world, 65536))
    assert [again.token_bytes(id) for id in range(65536)] == [
        world.token_bytes(id) for id in range(65536)
    ]
    assert again.encode(TEXT) == world.encode(TEXT)
    assert (again.end_of_text, again.n_vocab) == (0, 65536)


# ---- reduced vocabularies and bytes ----------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=40, unique=True))
@settings(max_examples=100, deadline=None)
def test_any_tokens_read_back(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.txt"
    lines = [f"{id} {token!r} {len(token)}\n" for id, token in enumerate(tokens, start=1)]
    path.write_text("".join(lines))
    again = read_back(vocabulary_fields(world_tokenizer(path), len(tokens) + 3))
    assert [again.token_bytes(id) for id in range(len(tokens) + 3)] == [b"", *tokens, b"", b""]


def test_a_reduced_vocabulary_has_no_chat(shared):
    stories = load_tokenizer(shared / "demo" / "rwkv_vocab_stories.txt", 4096)
    fields = vocabulary_fields(stories, 4096)
    assert fields["tokenizer.ggml.eot_token_id"] == 0
    assert "tokenizer.chat_template" not in fields


def test_bytes_are_a_vocabulary_too():
    fields = vocabulary_fields(byte_tokenizer(), 256)
    assert "tokenizer.ggml.eos_token_id" not in fields  # id 0 is the byte 0
    again = read_back(fields)
    assert again.encode(bytes(range(256))) == list(range(256))
    assert again.end_of_text is None


# ---- 20B -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def neox(shared: Path) -> rwkvcpp.Tokenizer:
    pytest.importorskip("tokenizers", reason="needs the extra [files]")
    return load_tokenizer(shared / "vocab" / "20B_tokenizer.json", 50304)


def test_20b_is_spelled_as_llama_cpp_spells_gpt2(neox):
    fields = vocabulary_fields(neox, 50304)
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert (tokens[0], types[0]) == ("<|endoftext|>", 3)
    assert (tokens[187], types[187]) == ("Ċ", 1)  # the line feed in GPT-2's alphabet
    assert (tokens[50276], types[50276]) == ("  ", 4)
    assert (tokens[50277], types[50277]) == ("[PAD50277]", 5)
    assert len(fields["tokenizer.ggml.merges"]) == 50009
    assert fields["tokenizer.ggml.merges"][0] == "Ġ Ġ"
    assert fields["tokenizer.ggml.eos_token_id"] == 0
    assert "tokenizer.chat_template" not in fields


@pytest.fixture(scope="module")
def neox_again(neox: rwkvcpp.Tokenizer) -> rwkvcpp.Tokenizer:
    return read_back(vocabulary_fields(neox, 50304))


def test_20b_reads_back_token_by_token(neox, neox_again):
    assert [neox_again.token_bytes(id) for id in range(50304)] == [
        neox.token_bytes(id) for id in range(50304)
    ]
    assert (neox_again.end_of_text, neox_again.n_vocab) == (0, 50304)
    assert neox_again.encode("\n\n") == [535]
    assert 0 not in neox_again.encode("<|endoftext|>")


@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n\té\u0301'"))))
@settings(max_examples=200, deadline=None)
def test_20b_cuts_any_text_as_the_original_does(neox, neox_again, text):
    assert neox_again.encode(text + TEXT) == neox.encode(text + TEXT)


def test_a_written_vocabulary_can_be_written_again(neox, neox_again, world):
    for tokenizer, size in ((neox, 50304), (world, 65536)):
        fields = vocabulary_fields(tokenizer, size)
        assert vocabulary_fields(read_back(fields), size) == fields
    assert neox_again is not neox


def test_notes_are_no_vocabulary_of_gguf(shared):
    pytest.importorskip("tokenizers", reason="needs the extra [files]")
    midi = load_tokenizer(shared / "vocab" / "tokenizer-midi.json", 20096)
    with pytest.raises(rwkvcpp.UnsupportedError, match="no kind that GGUF files hold"):
        vocabulary_fields(midi, 20096)


# ---- bad input -------------------------------------------------------------------------------


def gpt2(**changes: Any) -> Callable[[str], Any]:
    values = {"model": "gpt2", "tokens": ["a", "b", "ab"], "merges": ["a b"], **changes}
    return {f"tokenizer.ggml.{key}": value for key, value in values.items()}.get


def test_a_small_bpe_vocabulary_joins_by_its_merges():
    pytest.importorskip("tokenizers", reason="needs the extra [files]")
    tokenizer = load_tokenizer(None, 5, gpt2())
    assert tokenizer.encode("abba") == [2, 1, 0]
    assert (tokenizer.n_vocab, tokenizer.end_of_text) == (3, None)


@pytest.mark.parametrize(("metadata", "words"), [
    (gpt2(merges=None), "tokenizer.ggml.merges is missing"),
    (gpt2(merges=["a c"]), "tokenizer.ggml.tokens: not a tokenizer.json"),
    (gpt2(token_type=[1]), "not one number for each of the 3 tokens"),
])  # fmt: skip
def test_bpe_vocabularies_that_lie_are_refused(metadata, words):
    pytest.importorskip("tokenizers", reason="needs the extra [files]")
    with pytest.raises(rwkvcpp.ModelFormatError, match=words):
        load_tokenizer(None, 300, metadata)


@pytest.mark.parametrize("kind", ["none", "no_vocab"])
def test_a_file_may_say_that_it_has_none(kind):
    metadata = {"tokenizer.ggml.model": kind}.get
    assert load_tokenizer(None, 256, metadata).name == "bytes"
    with pytest.raises(rwkvcpp.UnsupportedError, match="--tokenizer FILE"):
        load_tokenizer(None, 300, metadata)

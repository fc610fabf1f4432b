"""Tokenizers: the published ids, every byte string back, and files that lie."""

import importlib.metadata
import importlib.util
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp.tokenizer import (
    Tokenizer,
    bpe_tokenizer,
    byte_tokenizer,
    load_tokenizer,
    world_tokenizer,
)

needs_world = pytest.mark.skipif(
    importlib.util.find_spec("pyrwkv_tokenizer") is None,
    reason="the World vocabulary comes with the extra [files]",
)


@pytest.fixture(scope="module")
def world() -> Tokenizer:
    return load_tokenizer(None, 65536)


@pytest.fixture(scope="module")
def stories() -> Tokenizer:
    return rwkvcpp.Model().tokenizer


# What the World vocabulary is known to give.
WORLD_IDS = [
    ("User: Hi\n\nAssistant:", [24281, 59, 3880, 261, 5585, 41693, 59]),
    ("\n\nAssistant: <think>\n</think", [261, 5585, 41693, 59, 295, 35762, 63, 11, 754, 35762]),
    ("<think></think", [61, 35762, 5439, 35762]),
    (" Assistant", [58683]),
    ("\n\nUser:", [261, 24281, 59]),
    ("你好", [10464, 11685]),
    ("é", [2503]),
    ("😀", [3319, 153, 129]),
    ("，：？！", [19137, 19151, 19156, 19126]),
    ("", []),
]


@needs_world
@pytest.mark.parametrize(("text", "ids"), WORLD_IDS)
def test_world_gives_the_published_ids(world, text, ids):
    assert world.encode(text) == ids
    assert world.decode(ids) == text


@needs_world
def test_every_world_id_has_bytes_or_none(world):
    assert world.n_vocab == 65536  # as many as the model, though the file has fewer
    assert world.end_of_text == 0
    assert world.token_bytes(0) == world.token_bytes(65535) == b""
    assert [world.token_bytes(byte + 1) for byte in range(256)] == [
        bytes([byte]) for byte in range(256)
    ]


@given(data=st.binary(max_size=200))
def test_any_bytes_come_back(stories, data):
    ids = stories.encode(data)
    assert 0 not in ids
    assert b"".join(stories.token_bytes(id) for id in ids) == data


@given(text=st.text(max_size=100))
def test_any_text_comes_back(stories, text):
    assert stories.decode(stories.encode(text)) == text


def test_the_longest_token_wins_at_every_place(stories):
    tokens = {stories.token_bytes(id): id for id in range(1, stories.n_vocab)}
    longest = max(map(len, tokens))
    pieces = random.Random(1).choices(list(tokens), k=300)
    data, expected = b"".join(pieces), []
    at = 0
    while at < len(data):
        n = next(n for n in range(longest, 0, -1) if data[at : at + n] in tokens)
        expected.append(tokens[data[at : at + n]])
        at += n
    assert stories.encode(data) == expected


def test_bytes_are_ids_where_a_model_reads_bytes():
    tokenizer = load_tokenizer(None, 256)
    assert tokenizer.encode('"in') == [34, 105, 110]
    assert tokenizer.decode([195, 169, 255]) == "é\ufffd"
    assert tokenizer.end_of_text is None


@pytest.mark.parametrize("id", [-1, 4096])
def test_an_id_out_of_range_is_an_index_error(stories, id):
    with pytest.raises(IndexError, match=f"{id}.*4095"):
        stories.token_bytes(id)
    with pytest.raises(IndexError, match=f"{id}.*4095"):
        stories.decode([1, id])


# Vocabulary files


def write(tmp_path, data: bytes):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(data)
    return path


def test_line_ends_of_either_kind_are_read(tmp_path):
    plain = world_tokenizer(write(tmp_path, b"1 'a' 1\n2 ' b' 2\n3 b'\\xff' 1\n"))
    assert [plain.token_bytes(id) for id in range(4)] == [b"", b"a", b" b", b"\xff"]
    other = world_tokenizer(write(tmp_path, b"1 'a' 1\r\n2 ' b' 2\r\n3 b'\\xff' 1"))
    assert [other.token_bytes(id) for id in range(4)] == [b"", b"a", b" b", b"\xff"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["no tokens"]),
        (b"hello\n", ["line 1", "hello", "59 ':' 1"]),
        (b"1 'a' 1\n2 'bc' 3\n", ["line 2", "2 bytes", "3"]),
        (b"1 'a' 1\n1 'b' 1\n", ["line 2", "token 1", "already"]),
        (b"1 'a' 1\n2 'a' 1\n", ["tokens 1 and 2", "same bytes"]),
        (b"1 __import__('os') 4\n", ["line 1", "no Python string"]),
        (b"1 42 2\n", ["line 1", "no Python string"]),
        (b"1 'a 1\n", ["line 1", "no Python string"]),
        (b"1 '\\ud800' 3\n", ["line 1", "not Unicode"]),
        (b"999999999 'a' 1\n", ["999999999"]),
        (b"1 '\xff' 1\n", ["line 1"]),
        (b"\x00" * 100, ["line 1"]),
    ],
)
def test_a_vocabulary_that_is_none_names_line_and_fault(tmp_path, data, words):
    with pytest.raises(rwkvcpp.ModelFormatError) as caught:
        world_tokenizer(write(tmp_path, data))
    assert [word for word in ["vocabulary.txt", *words] if word not in str(caught.value)] == []


def test_a_byte_that_no_token_begins_with_is_named(tmp_path):
    tokenizer = world_tokenizer(write(tmp_path, b"1 'a' 1\n"))
    with pytest.raises(ValueError, match="byte 2 of the text is 98"):
        tokenizer.encode("aab")


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    path = write(tmp_path, b"".join(b"%d b'\\x%02x' 1\n" % (i + 1, i) for i in range(256)))
    assert load_tokenizer(path, 257).n_vocab == 257
    with pytest.raises(rwkvcpp.RwkvError, match=r"257 tokens.*only 100"):
        load_tokenizer(path, 100)


def test_a_model_without_a_vocabulary_asks_for_one():
    with pytest.raises(rwkvcpp.UnsupportedError, match=r"20096.*--tokenizer FILE"):
        load_tokenizer(None, 20096)


def test_without_the_extra_one_sentence_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.files", missing)
    with pytest.raises(rwkvcpp.UnsupportedError, match=r"pip install 'rwkvcpp\[files\]'"):
        load_tokenizer(None, 65536)


# GGUF metadata


def gguf(tokens, types=None, kind="rwkv"):
    values = {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
    }
    return values.get


def test_gguf_tokens_are_unescaped_and_control_tokens_never_match():
    tokens = ["<s>", "a", r"\t\n\r", r"\xe4\xbd\xa0", r"it\'s \"x\"", r"\\", "[PAD6]"]
    types = [3, 1, 1, 1, 1, 1, 5]
    tokenizer = load_tokenizer(None, 7, gguf(tokens, types))
    expected = [b"", b"a", b"\t\n\r", "你".encode(), b'it\'s "x"', b"\\", b""]
    assert [tokenizer.token_bytes(id) for id in range(7)] == expected
    assert tokenizer.encode("a你") == [1, 3]
    with pytest.raises(ValueError, match="byte 0"):
        tokenizer.encode("<s>")


@pytest.mark.parametrize(
    ("metadata", "error", "words"),
    [
        (gguf(["a"], kind="llama"), rwkvcpp.UnsupportedError, ["llama", "--tokenizer"]),
        (gguf(None), rwkvcpp.ModelFormatError, ["tokenizer.ggml.tokens"]),
        (gguf([1, 2]), rwkvcpp.ModelFormatError, ["tokenizer.ggml.tokens"]),
        (gguf(["a", "b"], [1]), rwkvcpp.ModelFormatError, ["token_type", "2 tokens"]),
        (gguf(["a", "你"]), rwkvcpp.ModelFormatError, ["token 1"]),
        (gguf(["a", "a"]), rwkvcpp.ModelFormatError, ["tokens 0 and 1"]),
    ],
)
def test_gguf_vocabularies_that_lie_are_refused(metadata, error, words):
    with pytest.raises(error) as caught:
        load_tokenizer(None, 300, metadata)
    assert [word for word in words if word not in str(caught.value)] == []


# 20B


def test_20b_gives_exact_bytes(shared):
    pytest.importorskip("tokenizers", reason="needs the extra [files]")
    tokenizer = load_tokenizer(shared / "vocab" / "20B_tokenizer.json", 50277)
    assert tokenizer.end_of_text == 0
    assert tokenizer.encode("\n\n") == [535]
    assert 0 not in tokenizer.encode("<|endoftext|>")  # what a user types ends nothing
    text = "Hello  world\n\n    你好 é 😀"
    ids = tokenizer.encode(text)
    assert b"".join(tokenizer.token_bytes(id) for id in ids).decode() == text
    assert tokenizer.decode(ids) == text
    with pytest.raises(IndexError, match="50277"):
        tokenizer.token_bytes(50277)


def test_a_json_that_is_no_tokenizer_is_refused(tmp_path):
    pytest.importorskip("tokenizers", reason="needs the extra [files]")
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(rwkvcpp.ModelFormatError, match=r"tokenizer\.json"):
        bpe_tokenizer(path)


def test_reprs_tell_what_it_is():
    assert repr(byte_tokenizer()) == "<rwkvcpp.Tokenizer bytes, 256 tokens>"

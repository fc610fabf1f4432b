"""What ChatRWKV does to logits and tokens, and which models get it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp import Model, SamplingParams, Tokenizer, load_tokenizer
from rwkvcpp.chat import Conversation, Habits, Manner, Opening
from rwkvcpp.chat.habits import (
    BANNED,
    PUNCTUATION,
    Shaper,
    habits_of,
    missing_punctuation,
    newline_bias,
    prompt_tokens,
)
from rwkvcpp.templates import TEMPLATES


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def world(shared) -> Tokenizer:
    return load_tokenizer(shared / "vocab" / "rwkv_vocab_v20230424.txt", 65536)


@pytest.fixture(scope="module")
def pile(shared) -> Tokenizer:
    pytest.importorskip("tokenizers")
    return load_tokenizer(shared / "vocab" / "20B_tokenizer.json", 50277)


@pytest.mark.parametrize(
    ("n", "bias"),
    [(0, BANNED), (1, BANNED), (2, -3.9), (21, -2.0), (41, 0), (151, 0), (152, 0.25), (163, 3),
     (500, 3)],
)  # fmt: skip
def test_line_ends_are_rare_at_first_and_likely_in_the_end(n, bias):
    assert newline_bias(n) == np.float32(bias)


def test_line_ends_get_likelier_all_the_way():
    biases = [newline_bias(n) for n in range(300)]
    assert biases == sorted(biases)


def test_no_answer_begins_with_a_line_end(model):
    newline = model.tokenizer.encode("\n")[0]
    sampling = SamplingParams(logit_bias={newline: 30.0})
    opening = Opening(template=TEMPLATES["world"], begin_of_text=True)
    for shaping in (False, True):
        talk = Conversation(model, opening, seed=1)
        habits = Habits(newline_shaping=shaping)
        for _ in talk.reply("Hello!", Manner(sampling=sampling, max_tokens=4, habits=habits)):
            pass
        drawn = talk.session.tokens[talk.exchanges[0].n_asked :]
        assert [token == newline for token in drawn[:2]] == [not shaping] * 2
        assert drawn[3] == newline


def test_punctuation_does_not_follow_itself(model):
    (comma,) = model.tokenizer.encode(",")
    sampling = SamplingParams(logit_bias={comma: 60.0})
    opening = Opening(template=TEMPLATES["world"], begin_of_text=True)
    for avoided in ("", ","):
        talk = Conversation(model, opening, seed=1)
        habits = Habits(avoid_repeat=avoided)
        for _ in talk.reply("Hello", Manner(sampling=sampling, max_tokens=6, habits=habits)):
            pass
        drawn = talk.session.tokens[talk.exchanges[0].n_asked :]
        assert drawn.count(comma) == (3 if avoided else 6)


def test_without_habits_logits_are_left_alone(model):
    logits = np.zeros(model.n_vocab, np.float32)
    assert Shaper(Habits(), model.tokenizer).shaped(logits, 0, 5) is logits


def test_the_logits_of_the_session_are_never_changed(model):
    shaper = Shaper(Habits(newline_shaping=True, avoid_repeat=","), model.tokenizer)
    logits = np.zeros(model.n_vocab, np.float32)
    assert (shaper.shaped(logits, 0, model.tokenizer.encode(",")[0]) < 0).sum() == 2
    assert not logits.any()


def test_released_vocabularies_have_the_punctuation(world, pile):
    for tokenizer in (world, pile):
        assert missing_punctuation(Habits(avoid_repeat=PUNCTUATION), tokenizer) == ""


def test_a_vocabulary_may_lack_it(model):
    assert missing_punctuation(Habits(avoid_repeat="，,？"), model.tokenizer) == "，？"
    shaper = Shaper(Habits(avoid_repeat="，"), model.tokenizer)
    logits = np.zeros(model.n_vocab, np.float32)
    part = model.tokenizer.encode("，")[-1]
    assert shaper.shaped(logits, 0, part) is logits


def test_what_each_family_gets(model, world, pile):
    def family(version: str, tokenizer: Tokenizer) -> Habits:
        return habits_of(SimpleNamespace(version=version, tokenizer=tokenizer))

    old = Habits(newline_shaping=True, avoid_repeat=PUNCTUATION)
    assert family("4", world) == old
    assert family("4", pile) == Habits(**{**vars(old), "split_blank_lines": True})
    assert family("5.2", world) == family("6", world) == family("7", world) == Habits()
    assert habits_of(model) == Habits()


def test_a_raven_prompt_ends_in_two_line_ends(pile):
    text = "Bob: Hi\n\nAlice: Hello.\n\n"
    plain = prompt_tokens(text, pile, Habits())
    assert plain[-1] == 535
    assert prompt_tokens(text, pile, Habits(split_blank_lines=True)) == [*plain[:-1], 187, 187]
    assert 535 not in plain[:-1]  # before a word the vocabulary itself has two


def test_raven_files_are_chatted_with_as_chatrwkv_does(shared):
    path = shared / "models" / "tiny-rwkv-4v0-660K-FP32.bin"
    chat = rwkvcpp.chat.Chat(Model(path), rwkvcpp.chat.Wishes(template="raven"))
    assert chat.values()["newline_shaping"] is True
    assert chat.missing_punctuation() == PUNCTUATION  # 256 bytes have none of it
    assert [type(event).__name__ for event in chat.greet()] == ["Note"]

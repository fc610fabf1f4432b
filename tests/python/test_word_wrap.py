"""Lines that end between words, however the text comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from rwkvcpp.cli.word_wrap import LONGEST, WordWrap

TEXTS = st.text(alphabet="ab \n\t.你好`", max_size=120)


def wrapped(text: str, width: int, *, column: int = 0, cuts: list[int] | None = None) -> str:
    wrap = WordWrap(lambda: width, column)
    ends = sorted(cut % (len(text) + 1) for cut in cuts or [])
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    return "".join(map(wrap.push, pieces)) + wrap.finish()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("The quick brown fox", ["The quick", "brown fox"]),
        ("one two\n\nthree", ["one two", "", "three"]),
        ("a   b", ["a   b"]),
        ("abcdefgh ijk", ["abcdefgh", "ijk"]),
        ("abcdefghijkl mn", ["abcdefghijkl mn"]),  # the terminal breaks what is too long
        ("你好你好你好", ["你好你好你", "好"]),
        ("```\nx = 1 + 2 + 3\n```\nThe quick brown", ["```", "x = 1 + 2 + 3", "```", "The quick",
                                                     "brown"]),
    ],
)  # fmt: skip
def test_lines_end_between_words(text, lines):
    assert wrapped(text, 10).split("\n") == lines


def test_the_first_line_may_have_begun():
    assert wrapped("one two", 10, column=6) == "one\ntwo"


@given(text=TEXTS, cuts=st.lists(st.integers(0, 1000), max_size=8), width=st.integers(2, 40))
def test_it_does_not_matter_how_the_text_comes(text, cuts, width):
    assert wrapped(text, width, cuts=cuts) == wrapped(text, width)


@given(text=TEXTS, width=st.integers(2, 40))
def test_nothing_is_lost_but_blanks(text, width):
    assert "".join(wrapped(text, width).split()) == "".join(text.split())


@given(text=st.text(alphabet="ab \n你", max_size=120), width=st.integers(LONGEST, 40))
def test_no_line_is_too_long(text, width):
    words = " ".join(word[: LONGEST - 1] for word in text.split(" "))
    assert all(cell_len(line) <= width for line in wrapped(words, width).split("\n"))


def test_a_word_without_end_is_shown_all_the_same():
    wrap = WordWrap(lambda: 80)
    assert wrap.push("x" * LONGEST) == "x" * LONGEST

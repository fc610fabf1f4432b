"""What somebody typed: messages, commands, inline options, and messages to the letter."""

import pytest

from rwkvcpp.chat import Line, read_line


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("Hello there!", Line(text="Hello there!")),
        ("  +1 from me ", Line(text="+1 from me")),
        ("\u3000+1", Line(text="+1")),
        ("+reset", Line(command="+reset")),
        ("+GEN a b", Line(command="+gen", text="a b")),
        ("+gen\nfrom the next line", Line(command="+gen", text="from the next line")),
        ("+", Line(command="+")),
        ("++", Line(command="++")),
        ("+++ ", Line(command="+++")),
        ("+1 from me", Line(command="+1", text="from me")),
        ("1+1", Line(text="1+1")),
        ("", Line()),
    ],
)
def test_a_line_is_a_message_or_a_command(typed, line):
    assert read_line(typed) == line


@pytest.mark.parametrize("number", ["1", "1.0", "0.70", "1e-1", "0", ".5"])
@pytest.mark.parametrize("place", ["{} Hi there", "Hi {} there", "Hi there {}"])
def test_an_option_goes_exactly_as_it_was_typed(number, place):
    line = read_line(place.format(f"-temp={number}"))
    assert line == Line(text="Hi there", options={"temperature": float(number)})


def test_both_options_may_stand_together():
    line = read_line("-temp=0 -top_p=0.25 Why?")
    assert line == Line(text="Why?", options={"temperature": 0.0, "top_p": 0.25})


def test_an_option_must_be_a_number():
    with pytest.raises(ValueError, match="-temp=hot: expected a number"):
        read_line("Why? -temp=hot")


@pytest.mark.parametrize("text", ["Why? -temp=1", "one\\ntwo", "x-temp=1"])
def test_after_a_space_all_is_text(text):
    assert read_line(" " + text) == Line(text=text)


def test_an_option_inside_a_word_is_text():
    assert read_line("see x-temp=1") == Line(text="see x-temp=1")


def test_a_typed_line_end_becomes_one():
    assert read_line(r"one\ntwo").text == "one\ntwo"
    assert read_line(r"C:\\new").text == r"C:\new"

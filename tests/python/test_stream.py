"""TextStream: whole characters only, and nothing from a stop string on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rwkvcpp.stream import TextStream


def streamed(data: bytes, stop: list[str], cuts: list[int]) -> str:
    """What a reader sees when `data` arrives cut up at `cuts`."""
    stream, shown, at = TextStream(stop), "", 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        shown += stream.push(data[at:cut])
        at = cut
    return shown + stream.finish()


ab = st.text(alphabet="ab\n", max_size=30)  # few letters, so that stops do occur
cuts = st.lists(st.integers(0, 60))


@given(text=ab | st.text(max_size=30), stop=st.text("ab\n", min_size=1, max_size=4), cuts=cuts)
def test_exactly_the_text_before_the_stop_is_shown(text, stop, cuts):
    assert streamed(text.encode(), [stop], cuts) == text.split(stop)[0]


@given(text=ab, stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3), cuts=cuts)
def test_of_several_stops_the_first_to_be_complete_counts(text, stops, cuts):
    whole = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    end = min(whole)[1] if whole else len(text)
    assert streamed(text.encode(), stops, cuts) == text[:end]


def test_stops_that_overlap_end_the_text_in_one_place_however_it_arrives():
    for cuts in ([], [4], [1, 2, 3, 4]):
        assert streamed(b"xbcdX", ["bcdX", "cd"], cuts) == "xb"


@given(data=st.binary(max_size=60), cuts=cuts)
def test_bytes_that_are_no_text_become_replacement_characters(data, cuts):
    assert streamed(data, [], cuts) == data.decode("utf-8", "replace")


@given(data=st.binary(max_size=60), stop=st.text("ab\n", min_size=1, max_size=3), cuts=cuts)
def test_the_bytes_that_are_shown_are_counted(data, stop, cuts):
    """Cut at that count, the bytes are what was shown and what was not."""
    stream, shown, at = TextStream([stop]), "", 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        shown += stream.push(data[at:cut])
        at = cut
        assert data[: stream.n_shown].decode("utf-8", "replace") == shown
    if not stream.stopped:
        shown += stream.finish()
        assert stream.n_shown == len(data)
    assert data[: stream.n_shown].decode("utf-8", "replace") == shown


def test_half_a_character_waits_for_the_rest():
    stream = TextStream()
    assert [stream.push(byte) for byte in (b"\xf0", b"\x9f", b"\x98", b"\x80!")] == [
        "",
        "",
        "",
        "😀!",
    ]


def test_only_what_may_become_a_stop_is_held_back():
    stream = TextStream(["\n\nUser:"])
    assert stream.push(b"Yes.\n") == "Yes."
    assert stream.push(b"No.\n\nUs") == "\nNo."
    assert stream.push(b"eful") == "\n\nUseful"
    assert stream.push(b"\n\nUser: hi") == ""
    assert stream.stopped
    assert stream.push(b"more") == stream.finish() == ""


def test_what_was_held_back_comes_at_the_end():
    stream = TextStream(["\n\n"])
    assert stream.push(b"end\n\xe2\x82") == "end"
    assert stream.finish() == "\n\ufffd"
    assert not stream.stopped


@pytest.mark.parametrize(("stop", "error"), [([""], ValueError), ([b"x"], TypeError)])
def test_a_stop_must_be_text(stop, error):
    with pytest.raises(error, match="stop"):
        TextStream(stop)

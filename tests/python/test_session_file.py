"""Sessions that are forked, rewound and saved go on as if nothing had happened; all versions."""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp import (
    ApproximateStateWarning,
    Checkpoint,
    Model,
    Sampler,
    SamplingParams,
    Session,
    StateError,
)
from tests.reference.cases import Case
from tests.reference.checkpoints import VERSIONS, Sizes

# With 256 tokens a model has a vocabulary, of bytes: random ones are no UTF-8 most of the time.
SMALL = Sizes(
    n_embd=32, n_layer=2, head_size=16, n_ffn=64, n_vocab=256,
    lerp_rank=4, decay_rank=8, rate_rank=4, value_rank=4, gate_rank=12,
)  # fmt: skip
SAMPLING = SamplingParams(
    temperature=1.2, top_p=0.95, presence_penalty=0.3, frequency_penalty=0.4, seed=7
)
OTHER = SamplingParams(temperature=0.7, top_k=50, top_p=1.0, order="openai")
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def model_of(model_file: Callable[[Case], Path]) -> Callable[[str], Model]:
    known: dict[str, Model] = {}

    def load(version: str) -> Model:
        if version not in known:
            known[version] = Model(model_file(Case(version, "bin", "F32", SMALL)), threads=1)
        return known[version]

    return load


@pytest.fixture
def session(model_of: Callable[[str], Model]) -> Session:
    return model_of("7").session()


def drawn(session: Session, n: int, sampling: SamplingParams | None = None) -> list[int]:
    """The next `n` tokens."""
    n_before = len(session.tokens)
    list(session.generate(max_tokens=n, sampling=sampling, stop_tokens=[]))
    return session.tokens[n_before:]


def same_now(one: Session, other: Session) -> None:
    """Everything that can be seen of two sessions."""
    assert one.tokens == other.tokens
    assert one.text == other.text
    assert one.pending == other.pending
    assert one.finish_reason == other.finish_reason
    assert one.metadata == other.metadata
    assert one.state.to_bytes() == other.state.to_bytes()
    assert (one.logits is None) == (other.logits is None)
    assert one.logits is None or (one.logits == other.logits).all()
    assert (one.sampler is None) == (other.sampler is None)
    if one.sampler is not None and other.sampler is not None:
        assert one.sampler.params == other.sampler.params
        assert one.sampler.memory() == other.sampler.memory()


# Whatever is done, the session is what its tokens make of it


def copied_by_fork(session: Session) -> Session:
    return session.fork()


def copied_by_bytes(session: Session) -> Session:
    return Session.from_bytes(session.model, session.to_bytes())


def copied_by_checkpoint(session: Session) -> Session:
    return Session.at(session.checkpoint())


def rewound(session: Session) -> Session:
    checkpoint = session.checkpoint()
    if session.logits is not None:
        drawn(session, 3)
    session.feed(b"other")
    session.metadata["other"] = True
    session.rewind(checkpoint)
    return session


COPIES = (copied_by_fork, copied_by_bytes, copied_by_checkpoint, rewound)

feeding = st.tuples(st.just("feed"), st.binary(min_size=1, max_size=6))
telling = st.tuples(
    st.just("generate"),
    st.tuples(
        st.integers(0, 8),
        st.sampled_from([None, SAMPLING, OTHER, GREEDY]),
        st.sampled_from([(), ["\x01"], ["ab", "b"]]),
        st.integers(0, 3),  # pieces of text to take before the generator is dropped; 3: all
    ),
)
copying = st.tuples(st.just("copy"), st.sampled_from(COPIES))
going_back = st.tuples(st.just("back"), st.integers(0, 5))
keeping = st.tuples(st.just("keep"), st.none())


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(feeding | telling | copying | going_back | keeping, max_size=12))
def test_any_history_is_the_state_of_its_tokens(version, steps, model_of):
    model = model_of(version)
    session = model.session()
    kept = [(session.checkpoint(), session.tokens)]
    for step, what in steps:
        if step == "feed":
            session.feed(what)
        elif step == "generate" and session.logits is not None:
            n, sampling, stop, n_pieces = what
            pieces = session.generate(max_tokens=n, sampling=sampling, stop=stop, stop_tokens=[])
            assert all(islice(pieces, n_pieces if n_pieces < 3 else None))
        elif step == "copy":
            before = session.fork()
            session = what(session)
            same_now(session, before)
        elif step == "keep":
            kept.append((session.checkpoint(), session.tokens))
        elif step == "back":
            checkpoint, tokens = kept[what % len(kept)]
            session.rewind(checkpoint)
            assert session.tokens == tokens
        data = session.text.encode() if session.text.isascii() else None
        if data is not None and session.pending.isascii():
            assert data + session.pending == bytes(session.tokens)
    assert session.state.n_tokens == len(session.tokens)
    if session.tokens:
        at_once = model.initial_state()
        logits = model.forward(session.tokens, at_once)
        assert (session.logits == logits).all()
        assert session.state.to_bytes() == at_once.to_bytes()


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("sampling", [SAMPLING, OTHER, GREEDY, SamplingParams()])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_copy_continues_with_the_very_tokens(version, sampling, copied, model_of):
    session = model_of(version).session()
    session.feed(b"Once upon")
    drawn(session, 20, sampling)
    copy = copied(session.fork())
    same_now(copy, session)
    assert drawn(copy, 40) == drawn(session, 40)
    assert drawn(copy, 40, sampling) == drawn(session, 40, sampling)
    same_now(copy, session)


def test_forks_share_nothing(session):
    session.feed(b"Once upon")
    session.metadata["messages"] = [{"role": "user"}]
    drawn(session, 3, SAMPLING)
    before = session.to_bytes()
    fork = session.fork()
    fork.metadata["messages"].append("more")
    fork.logits[:] = 0
    drawn(fork, 5)
    fork.feed(b" a time")
    assert session.to_bytes() == before


def test_a_checkpoint_never_changes(session):
    session.feed(b"Once upon")
    drawn(session, 3, SAMPLING)
    checkpoint = session.checkpoint()
    before = session.to_bytes()
    for _ in range(3):
        drawn(session, 5)
        session.metadata["later"] = True
        session.logits[:] = 0
        session.rewind(checkpoint)
        assert session.to_bytes() == before
    assert isinstance(checkpoint, Checkpoint)
    assert session.state.nbytes < checkpoint.nbytes < session.state.nbytes + 4096


def test_a_checkpoint_of_another_model_is_refused(model_of, session):
    session.feed(b"abc")
    before = session.to_bytes()
    other = model_of("6").session()
    with pytest.raises(StateError, match=r"is one of rwkv6-\S+ \(RWKV 6.*expected one of rwkv7-"):
        session.rewind(other.checkpoint())
    assert session.to_bytes() == before


def test_a_session_that_began_with_a_state_comes_back(model_of):
    model = model_of("7")
    state = model.initial_state()
    model.forward([1, 2, 3], state)
    session = model.session(state)
    session.feed(b"ab")
    again = model.session_from_bytes(session.to_bytes())
    assert again.tokens == list(b"ab")
    assert again.state.n_tokens == 5
    same_now(again, session)


def test_a_session_that_began_with_values_comes_back(model_of):
    model = model_of("7")
    arrays = {name: array + 0.5 for name, array in model.initial_state().to_numpy().items()}
    session = model.session(rwkvcpp.State.from_numpy(arrays, model))
    session.feed(b"ab")
    plain = model.session()
    plain.feed(b"ab")
    assert session.state.tokens_hash != plain.state.tokens_hash
    same_now(model.session_from_bytes(session.to_bytes()), session)


def test_a_model_without_a_vocabulary_has_sessions_to_save(model_file, tmp_path):
    sizes = Sizes(n_embd=32, n_layer=1, head_size=16, n_ffn=64, n_vocab=77)
    model = Model(model_file(Case("7", "bin", "F32", sizes)), threads=1)
    session = model.session()
    session.feed([1, 2, 76])
    session.save(tmp_path / "saved")
    again = model.load_session(tmp_path / "saved")
    assert again.tokens == [1, 2, 76]
    assert (again.logits == session.logits).all()


def test_any_file_of_ours_begins_a_session(session, tmp_path):
    model = session.model
    session.feed(b"abc")
    session.save(tmp_path / "session")
    session.state.save(tmp_path / "state")
    assert model.session_from(tmp_path / "session").tokens == session.tokens
    begun = model.session_from(tmp_path / "state")
    assert begun.tokens == []
    assert begun.state.to_bytes() == session.state.to_bytes()
    assert model.load_state(tmp_path / "session").to_bytes() == session.state.to_bytes()
    with pytest.raises(StateError, match="kind is 'state', expected \"session\""):
        model.load_session(tmp_path / "state")


def test_metadata_is_whatever_json_can_say(session):
    session.metadata = {"template": "world", "begin": True, "n": 1.5, "é": ["😀", None, {}]}
    assert session.model.session_from_bytes(session.to_bytes()).metadata == session.metadata


@pytest.mark.parametrize("wrong", [{"x": b"bytes"}, {"x": float("nan")}, {"x": {1, 2}}, [1]])
def test_metadata_that_json_cannot_say_is_refused(wrong, session):
    session.metadata = wrong
    with pytest.raises(ValueError, match=r"session\.metadata"):
        session.to_bytes()


# The sampler


def test_the_same_settings_go_on_and_others_begin_anew(session):
    session.feed(b"Once upon")
    assert session.sampler is None
    drawn(session, 4, SAMPLING)
    first = session.sampler
    for same in (None, SAMPLING, SamplingParams(**vars(SAMPLING))):
        drawn(session, 2, same)
        assert session.sampler is first
    assert sum(first.memory().counts) > 5
    drawn(session, 2, OTHER)
    assert session.sampler is not first
    assert session.sampler.params == OTHER


def test_settings_are_the_same_however_they_are_given(session):
    session.feed(b"Once upon")
    drawn(session, 2, SamplingParams(top_p=np.float64(0.5), banned_tokens=[1], logit_bias={2: 1}))
    first = session.sampler
    drawn(session, 2, SamplingParams(banned_tokens=(np.int64(1),), logit_bias={np.int32(2): 1.0}))
    assert session.sampler is first


def test_in_two_calls_penalties_do_what_they_do_in_one(model_of):
    strong = SamplingParams(top_p=1.0, frequency_penalty=2.0, penalty_decay=1.0, seed=3)
    one, two = (model_of("7").session() for _ in range(2))
    for session in (one, two):
        session.feed(b"Once upon")
    tokens = drawn(two, 100, strong) + drawn(two, 100, strong)
    assert tokens == drawn(one, 200, strong)


def test_a_sampler_may_be_set(session):
    session.feed(b"Once upon")
    drawn(session, 4, SAMPLING)
    checkpoint = session.checkpoint()
    first = drawn(session, 30)
    session.rewind(checkpoint)
    assert drawn(session, 30) == first
    session.rewind(checkpoint)
    session.sampler = Sampler(SamplingParams(top_p=0.9, seed=99))
    assert drawn(session, 30) != first
    session.sampler = None
    drawn(session, 1)
    assert session.sampler.params == SamplingParams()


# What was shown, and what was not


class Script:
    """A session that says what the test wants, byte by byte."""

    def __init__(self, session: Session, data: bytes) -> None:
        session.feed(b"<")
        self._session, self._data = session, data

    def told(self, n: int, **options: Any) -> Iterator[str]:
        """The next `n` bytes of the script, as text."""
        at = len(self._session.tokens) - 1
        self._session.sampler = Reader(self._data[at : at + n])
        return self._session.generate(max_tokens=n, **{"stop_tokens": [], **options})


class Reader(Sampler):
    """Draws what it is given."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._next = iter(data)

    def sample(self, logits: object) -> int:
        return next(self._next)


def test_pending_is_the_stop_and_what_came_with_it(session):
    script = Script(session, b"Hello.\n\nUser: hi")
    assert "".join(script.told(100, stop=["\n\nUser:"])) == "Hello."
    assert session.pending == b"\n\nUser:"
    assert session.text == "<Hello."
    assert session.tokens == list(b"<Hello.\n\nUser:")
    session.feed(b" hi")
    assert session.pending == b""
    assert session.text == "<Hello.\n\nUser: hi"


def test_pending_may_end_within_a_character(session):
    script = Script(session, "ab…".encode())
    assert "".join(script.told(4, stop=["b"])) == "a"
    assert session.pending == b"b"
    session = session.model.session()
    script = Script(session, "a…b".encode())
    pieces = script.told(9)
    assert next(pieces) == "a"
    assert session.pending == b""
    assert next(pieces) == "…"
    del pieces
    session = session.model.session()
    script = Script(session, "a…b".encode())
    shown = script.told(3)
    assert "".join(shown) == "a�"  # nothing more will come, so half of one is shown for what it is
    assert session.pending == b""


def test_a_stop_token_is_pending(session):
    script = Script(session, b"ab\0c")
    assert "".join(script.told(9, stop_tokens=[0])) == "ab"
    assert (session.pending, session.finish_reason) == (b"\0", "stop")
    again = session.model.session_from_bytes(session.to_bytes())
    assert (again.pending, again.text) == (b"\0", "<ab")


def test_after_a_stop_an_empty_prompt_leaves_out_what_stopped(session):
    script = Script(session, b"ab\n\ncd")
    assert "".join(script.told(9, stop=["\n\n"])) == "ab"
    assert "".join(script.told(2, stop=["\n\n"])) == "cd"
    assert session.text == "<ab\n\ncd"


def test_what_a_dropped_generator_held_back_comes_first(session):
    script = Script(session, "a…\n\nb".encode())
    for text in script.told(9, stop=["\n\nUser:"]):
        if text == "…":
            break
    rest = script.told(3, stop=["\n\nUser:"])
    assert "".join(rest) == "\n\nb"
    assert (session.pending, session.text) == (b"", "<a…\n\nb")


@pytest.mark.parametrize(
    "text", ["Grüße an 😀\n\nUs, said the crow…", "\n\n\n\n\nx", "\n\nU\n\n\nUs"]
)
def test_dropped_anywhere_all_of_the_text_is_shown_in_the_end(text, session):
    """With stops, so that text is held back while other text is shown."""
    data = text.encode()
    drops = 0
    for n_first in range(1, len(data)):
        session = session.model.session()
        script = Script(session, data)
        shown = ""
        for piece in script.told(len(data), stop=["\n\nUser:"]):
            shown += piece
            assert ("<" + shown).encode() == session.text.encode()
            assert session.text.encode() + session.pending == bytes(session.tokens)
            if len(session.tokens) > n_first:
                drops += len(session.pending) > 0
                break
        for piece in script.told(len(data) + 1 - len(session.tokens), stop=["\n\nUser:"]):
            shown += piece
            assert session.text == "<" + shown
            assert session.text.encode() + session.pending == bytes(session.tokens)
        assert shown == text
        assert (session.text, session.pending) == ("<" + text, b"")
    assert drops > 0 or "\n\n\n" not in text


def test_an_older_generator_is_over(session):
    session.feed(b"abc")
    for go_on in (
        lambda: session.feed(b"x"),
        lambda: drawn(session, 1),
        lambda: session.rewind(session.checkpoint()),
    ):
        older = session.generate(max_tokens=50, stop_tokens=[])
        next(older)
        go_on()
        tokens = session.tokens
        with pytest.raises(RuntimeError, match="the session has gone on without this generator"):
            next(older)
        assert session.tokens == tokens


def test_ctrl_c_leaves_the_text_in_step(session):
    def press(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)

    session.feed(b"abc")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for k in range(60):
            session.feed(b"x")
            try:
                press(0.0005 + k * 37e-6)
                if k % 3:
                    list(session.generate(max_tokens=1_000_000, stop_tokens=[]))
                else:
                    while True:
                        session.feed(b"more")
            except KeyboardInterrupt:
                press(0)
            session.tokens, session.text, session.pending  # noqa: B018 -- all can be had
            assert session.state.n_tokens == len(session.tokens)
            if k % 3 == 0:
                assert session.pending == b""  # a prompt is no news
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    state = session.model.initial_state()
    assert (session.model.forward(session.tokens, state) == session.logits).all()


# The same weights in other types


def test_other_types_of_the_same_weights_go_on_and_say_so_once(model_file, tmp_path):
    sizes = Sizes(n_vocab=256)
    whole = Model(model_file(Case("7", "gguf", "F32", sizes)), threads=1)
    rounded = Model(model_file(Case("7", "gguf", "Q8_0", sizes)), threads=1)
    assert whole.identity.fingerprint == rounded.identity.fingerprint
    assert whole.identity.exact_fingerprint != rounded.identity.exact_fingerprint
    session = whole.session()
    session.feed(b"Once upon")
    session.save(tmp_path / "saved")
    with pytest.warns(ApproximateStateWarning) as told:
        again = rounded.load_session(tmp_path / "saved")
    (warning,) = told
    assert str(warning.message) == (
        f"{tmp_path / 'saved'}: continues approximately: it comes from {whole.path.name}, "
        "the same weights in other types or with other options"
    )
    assert not again.state.is_exact
    assert "inexact" in repr(again.state)
    drawn(again, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not rounded.load_state(tmp_path / "saved").is_exact
        assert whole.load_state(tmp_path / "saved").is_exact
    with pytest.warns(ApproximateStateWarning):
        assert not whole.session_from_bytes(again.to_bytes()).state.is_exact


def test_a_state_that_other_types_have_advanced_is_inexact(model_file):
    sizes = Sizes(n_vocab=256)
    whole = Model(model_file(Case("7", "gguf", "F32", sizes)), threads=1)
    rounded = Model(model_file(Case("7", "gguf", "Q8_0", sizes)), threads=1)
    state = whole.initial_state()
    whole.forward([1, 2], state)
    assert state.is_exact
    rounded.forward([3], state)
    assert not state.is_exact
    assert not state.clone().is_exact


def test_a_state_that_another_model_refuses_stays_exact(model_of):
    state = model_of("7").initial_state()
    with pytest.raises(StateError, match="belongs to other weights"):
        model_of("6").forward([1], state)
    assert state.is_exact


def test_saving_and_loading_take_no_time(session, tmp_path):
    """Figures are in bench/states.py; this is for what grows with the square of something."""
    session.feed(list(range(256)) * 40)
    begun = time.process_time()
    session.save(tmp_path / "saved")
    session.model.load_session(tmp_path / "saved")
    assert time.process_time() - begun < 1.0

"""Sessions on the bundled model: what was fed, what was shown, and what is left after a break."""

import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp import SamplingParams

TITLE = "The Fox and the Crow\n\nOnce upon a time"
GREEDY = SamplingParams(temperature=0)
END_OF_TEXT = 0  # of the bundled vocabulary


@pytest.fixture(scope="module")
def model() -> rwkvcpp.Model:
    return rwkvcpp.Model()


@pytest.fixture
def session(model: rwkvcpp.Model) -> rwkvcpp.Session:
    return model.session()


def predicted(model: rwkvcpp.Model, tokens: list[int]) -> np.ndarray:
    return model.forward(tokens, model.initial_state())


def told(session: rwkvcpp.Session, prompt: object = "", **options: object) -> str:
    return "".join(session.generate(prompt, **{"sampling": GREEDY, **options}))


def test_text_comes_out_as_it_is_sampled(session):
    pieces = session.generate(TITLE, max_tokens=20, sampling=GREEDY)
    assert isinstance(pieces, Iterator)
    assert len(list(pieces)) > 5


def test_the_state_has_consumed_exactly_the_tokens(model, session):
    told(session, TITLE, max_tokens=12)
    assert session.state.n_tokens == len(session.tokens)
    assert (session.logits == predicted(model, session.tokens)).all()


def test_tokens_are_the_prompt_and_what_followed(model, session):
    text = told(session, TITLE, max_tokens=12)
    prompt = model.tokenizer.encode(TITLE)
    assert session.tokens[: len(prompt)] == list(prompt)
    assert len(session.tokens) == len(prompt) + 12
    assert model.tokenizer.decode(session.tokens) == TITLE + text


@pytest.mark.parametrize("cut", [0, 1, 7, 16])
def test_prompt_may_be_fed_in_pieces(model, cut):
    tokens = list(model.tokenizer.encode(TITLE))
    whole, pieces = model.session(), model.session()
    pieces.feed(tokens[:cut])
    assert told(pieces, tokens[cut:], max_tokens=20) == told(whole, tokens, max_tokens=20)


@pytest.mark.parametrize("form", ["bytes", "list", "tuple", "array"])
def test_prompt_may_be_text_bytes_or_tokens(model, form):
    ids = model.tokenizer.encode(TITLE)
    prompt = {
        "bytes": TITLE.encode(),
        "list": list(ids),
        "tuple": tuple(ids),
        "array": np.array(ids, dtype=np.uint16),
    }[form]
    assert told(model.session(), prompt, max_tokens=8) == told(model.session(), TITLE, max_tokens=8)


def test_a_dropped_generator_leaves_a_session_to_go_on_with(model, session):
    for _ in session.generate(TITLE, max_tokens=50, sampling=GREEDY):
        if len(session.tokens) > 25:
            break
    assert session.finish_reason is None
    assert (session.logits == predicted(model, session.tokens)).all()
    begun, rest = session.tokens, told(session, max_tokens=5)
    assert told(model.session(), begun, max_tokens=5) == rest


def test_a_fork_goes_its_own_way(session):
    session.feed(TITLE)
    clone = session.fork()
    clone.feed(" there was a bear")
    assert len(clone.tokens) > len(session.tokens)
    assert told(session.fork(), max_tokens=10) == told(session, max_tokens=10)


def test_a_session_may_start_from_a_state(model, session):
    session.feed(TITLE)
    later = model.session(session.state)
    assert later.tokens == []
    assert told(later, " there was", max_tokens=6) == told(session, " there was", max_tokens=6)


def test_the_seed_decides_the_story(model):
    params = SamplingParams(temperature=1.0, top_p=0.9, seed=5)
    one, same = (told(model.session(), TITLE, max_tokens=30, sampling=params) for _ in range(2))
    other = SamplingParams(temperature=1.0, top_p=0.9, seed=6)
    assert one == same
    assert one != told(model.session(), TITLE, max_tokens=30, sampling=other)


# How it ends


def test_length_is_a_reason_to_finish(session):
    told(session, TITLE, max_tokens=3)
    assert session.finish_reason == "length"


def test_no_tokens_feed_the_prompt_and_show_nothing(model, session):
    assert told(session, TITLE, max_tokens=0) == ""
    assert session.tokens == list(model.tokenizer.encode(TITLE))
    assert session.finish_reason == "length"


def test_text_ends_before_a_stop_string(model, session):
    free = told(model.session(), TITLE, max_tokens=40)
    stop = free[15:19]
    assert told(session, TITLE, max_tokens=40, stop=stop) == free.split(stop)[0]
    assert session.finish_reason == "stop"
    assert (session.logits == predicted(model, session.tokens)).all()


def test_a_stop_token_is_consumed_and_not_shown(model, session):
    told(session, TITLE, max_tokens=10)
    final = session.tokens[-1]
    n_prompt = len(model.tokenizer.encode(TITLE))
    n_shown = session.tokens[n_prompt:].index(final)
    stopped = model.session()
    text = told(stopped, TITLE, max_tokens=10, stop_tokens=[final])
    assert stopped.tokens == session.tokens[: n_prompt + n_shown + 1]
    assert text == model.tokenizer.decode(stopped.tokens[n_prompt:-1])
    assert stopped.finish_reason == "stop"


def test_end_of_text_ends_the_text(model, session):
    certain = SamplingParams(logit_bias={END_OF_TEXT: 1e4})
    assert told(session, TITLE, sampling=certain) == ""
    assert session.tokens[-1] == END_OF_TEXT
    assert session.finish_reason == "stop"


# What is refused, at the call, with nothing changed


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_tokens": -1}, ValueError),
        ({"max_tokens": 1.5}, TypeError),
        ({"max_tokens": True}, TypeError),
        ({"stop": [""]}, ValueError),
        ({"stop_tokens": ["\n"]}, TypeError),
        ({"prompt": [1, 2.0]}, TypeError),
        ({"prompt": [1, True]}, TypeError),
        ({"prompt": [1, 4096]}, IndexError),
        ({"prompt": [1, -1]}, IndexError),
        ({"prompt": [10**30]}, IndexError),
        ({"prompt": np.array([[1, 2]])}, TypeError),
        ({"prompt": np.array([1.0])}, TypeError),
    ],
)
def test_wrong_arguments_are_refused_by_the_call_itself(session, options, error):
    session.feed("Once")
    tokens, logits = session.tokens, session.logits
    with pytest.raises(error):
        session.generate(**{"prompt": " upon", **options})
    assert session.tokens == tokens
    assert (session.logits == logits).all()
    assert session.state.n_tokens == len(tokens)


def test_an_empty_prompt_needs_something_to_continue(session):
    with pytest.raises(ValueError, match=r"give a prompt, or begin a text with feed\(\[0\]\)"):
        session.generate("")
    session.feed([END_OF_TEXT])
    assert told(session, max_tokens=1) or session.finish_reason == "stop"


@pytest.fixture
def impatient() -> Iterator[Callable[[float], None]]:
    """Press Ctrl-C after so many seconds."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_ctrl_c_leaves_tokens_state_and_logits_in_step(model, session, impatient):
    session.feed(TITLE)
    for k in range(60):
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 -- it may strike anywhere in here
            impatient(0.002 + k * 37e-6)
            told(session, max_tokens=1_000_000, stop_tokens=[])
        assert session.state.n_tokens == len(session.tokens)
    assert (session.logits == predicted(model, session.tokens)).all()


def test_ctrl_c_in_a_long_prompt_leaves_everything_as_it_was(model, session, impatient):
    session.feed(TITLE)
    tokens, logits = session.tokens, session.logits
    prompt = [1 + k % 4095 for k in range(20_000)]
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        impatient(0.05)
        session.feed(prompt)
    assert session.tokens == tokens
    assert (session.logits == logits).all()
    assert (logits == predicted(model, tokens)).all()
    assert (model.forward([5], session.state) == predicted(model, [*tokens, 5])).all()


# States


def test_a_state_leaves_and_comes_back_as_arrays(model, session):
    session.feed(TITLE)
    arrays = session.state.to_numpy()
    restored = rwkvcpp.State.from_numpy(arrays, model)
    assert all((restored.to_numpy()[name] == array).all() for name, array in arrays.items())
    assert (model.forward([5], restored) == model.forward([5], session.state)).all()


def test_wrong_arrays_are_refused_and_nothing_changes(model, session):
    session.feed(TITLE)
    before = session.state.to_numpy()
    name, array = next(iter(before.items()))
    for wrong in (
        {key: value for key, value in before.items() if key != name},
        {**before, name: array[..., :-1]},
        {**before, "blocks.99.att.x": array},
    ):
        with pytest.raises(rwkvcpp.StateError):
            session.state.assign({key: value * 0 for key, value in wrong.items()})
    after = session.state.to_numpy()
    assert all((after[key] == value).all() for key, value in before.items())


def test_copies_of_a_state_are_independent(model, session):
    import copy

    session.feed(TITLE)
    for twin in (session.state.clone(), copy.copy(session.state), copy.deepcopy(session.state)):
        before = session.state.to_numpy()
        model.forward([7], twin)
        after = session.state.to_numpy()
        assert all((after[name] == before[name]).all() for name in before)
        assert twin.n_tokens == session.state.n_tokens + 1


def test_states_and_models_say_why_they_cannot_be_pickled(model):
    import pickle

    with pytest.raises(TypeError, match=r"state_from_bytes"):
        pickle.dumps(model.initial_state())
    with pytest.raises(TypeError, match="send its path"):
        pickle.dumps(model)


def test_reprs_tell_sizes(model, session):
    session.feed([0, 1])
    for part in ("RWKV-7", "n_layer 6", "n_embd 256", "n_vocab 4096", "head size 64", "Q8_0"):
        assert part in repr(model)
    assert "after 2 tokens" in repr(session)
    assert "after 2 tokens" in repr(session.state)

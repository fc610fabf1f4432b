"""What must hold to the last bit, whatever the model: cuts, batches, threads, instruction sets.

Every comparison of results is `==` on bits. States are tested here too: what may be done with them,
and that an error leaves them as they were.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp import _core
from tests.reference.cases import NARROW, NARROW_256, TOKENS, Case
from tests.reference.checkpoints import Sizes

REPOSITORY = Path(__file__).resolve().parents[2]
ModelFile = Callable[[Case], Path]
Segment = tuple[list[int], rwkvcpp.State]

# Every version and every type, once.
CASES = [
    Case("4", "bin", "Q4_0"),
    Case("4", "bin", "F32"),
    Case("5.0", "bin", "Q5_1"),
    Case("5.1", "bin", "F16"),
    Case("5.2", "bin", "Q8_0"),
    Case("6", "gguf", "Q4_1"),
    Case("6", "gguf", "Q8_0", NARROW, (("rescale_every", 2),)),
    Case("7", "gguf", "Q5_0"),
    Case("7", "gguf", "Q6_K", NARROW_256),
    Case("5.1", "bin", "Q2_K", NARROW_256),
    Case("7", "gguf", "Q4_K", NARROW_256),
    Case("6", "gguf", "IQ3_S", NARROW_256),
    Case("7", "gguf", "BF16"),
]
# The widths of released models, in two layers: blocks do not divide F evenly among threads, and
# heads and embeddings have an odd number of rows.
WIDE_CASES = [
    Case(
        "6",
        "gguf",
        "Q4_0",
        Sizes(n_embd=768, n_layer=2, n_ffn=2688, n_vocab=50277),
        (("head_type", "Q6_K"),),
    ),
    Case("5.2", "bin", "F16", Sizes(n_embd=768, n_layer=2, n_ffn=2688, n_vocab=133)),
    Case("7", "bin", "Q8_0", Sizes(n_embd=2560, n_layer=2, n_ffn=2688, n_vocab=133)),
    Case("4", "bin", "Q4_0", Sizes(n_embd=2560, n_layer=2, n_ffn=2688, n_vocab=133)),
]
# Around every unroll factor, tile and chunk.
ROWS = (1, 2, 3, 7, 8, 9, 16, 17, 63, 64, 65, 127, 128, 129)

token_lists = st.lists(st.integers(0, NARROW.n_vocab - 1), min_size=1, max_size=40)
relaxed = settings(max_examples=20, deadline=None)


def case_id(case: Case) -> str:
    return case.name


def long_text(n_tokens: int, n_vocab: int = NARROW.n_vocab) -> list[int]:
    return [(i * i * 31 + 17 * i + 5) % n_vocab for i in range(n_tokens)]


def same_bits(a: rwkvcpp.State, b: rwkvcpp.State) -> bool:
    left, right = a.to_numpy(), b.to_numpy()
    return left.keys() == right.keys() and all(
        left[name].tobytes() == right[name].tobytes() for name in left
    )


@pytest.fixture(scope="module")
def open_model(model_file: ModelFile) -> Iterator[Callable[[Case], rwkvcpp.Model]]:
    """The model of a case, loaded once."""
    loaded: dict[Case, rwkvcpp.Model] = {}

    def load(case: Case) -> rwkvcpp.Model:
        if case not in loaded:
            loaded[case] = rwkvcpp.Model(model_file(case), threads=2)
        return loaded[case]

    yield load
    loaded.clear()


OpenModel = Callable[[Case], rwkvcpp.Model]


# ---- cuts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_prompt_may_be_cut_anywhere(case: Case, open_model: OpenModel) -> None:
    model = open_model(case)

    @relaxed
    @given(tokens=token_lists, data=st.data())
    def check(tokens: list[int], data: st.DataObject) -> None:
        cuts = data.draw(st.sets(st.integers(1, len(tokens)), max_size=5), label="cuts")
        whole, pieces = model.initial_state(), model.initial_state()
        expected = model.forward(tokens, whole, all_logits=True)
        edges = sorted({0, len(tokens), *cuts})
        rows = [
            model.forward(tokens[begin:end], pieces, all_logits=True)
            for begin, end in pairwise(edges)
        ]
        assert np.array_equal(np.concatenate(rows), expected)
        assert same_bits(whole, pieces)

    check()


def assert_rows_do_not_matter(model: rwkvcpp.Model, text: list[int]) -> None:
    """Any number of rows at once gives what one row at a time gives."""
    state = model.initial_state()
    single = np.stack([model.forward([token], state) for token in text])
    for n in (n for n in ROWS if n <= len(text)):
        rows = model.forward(text[:n], model.initial_state(), all_logits=True)
        assert np.array_equal(rows, single[:n]), f"{n} rows"


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_any_number_of_rows_gives_what_single_rows_give(case: Case, open_model: OpenModel) -> None:
    assert_rows_do_not_matter(open_model(case), long_text(max(ROWS)))


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_prompt_longer_than_a_chunk_gives_what_its_pieces_give(
    case: Case, open_model: OpenModel
) -> None:
    model = open_model(case)
    text = long_text(389)  # three chunks and five rows
    whole, pieces = model.initial_state(), model.initial_state()
    logits = model.forward(text, whole)
    for begin, end in ((0, 100), (100, 228), (228, 357), (357, 389)):
        last = model.forward(text[begin:end], pieces)
    assert np.array_equal(last, logits)
    assert same_bits(whole, pieces)


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("n_tokens", [1, 20, 129, 300])
def test_last_row_of_all_logits_is_the_plain_result(
    case: Case, n_tokens: int, open_model: OpenModel
) -> None:
    model = open_model(case)
    text = long_text(n_tokens)
    rows = model.forward(text, model.initial_state(), all_logits=True)
    assert rows.shape == (n_tokens, model.n_vocab)
    assert np.array_equal(rows[-1], model.forward(text, model.initial_state()))


# ---- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_batch_gives_what_its_sequences_give_alone(case: Case, open_model: OpenModel) -> None:
    model = open_model(case)

    @relaxed
    @given(texts=st.lists(token_lists, min_size=1, max_size=6), warm=st.integers(0, 3))
    def check(texts: list[list[int]], warm: int) -> None:
        starts = [model.initial_state() for _ in texts]
        for i, state in enumerate(starts[:warm]):  # some sequences have a past
            model.forward(TOKENS[: i + 1], state)
        alone: list[Segment] = [(t, s.clone()) for t, s in zip(texts, starts, strict=True)]
        expected = np.stack([model.forward(tokens, state) for tokens, state in alone])
        together = list(zip(texts, starts, strict=True))
        assert np.array_equal(model.forward_batch(together), expected)
        assert all(same_bits(s, a) for s, (_, a) in zip(starts, alone, strict=True))

    check()


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_batch_longer_than_a_chunk_gives_what_its_sequences_give_alone(
    case: Case, open_model: OpenModel
) -> None:
    model = open_model(case)
    texts = [long_text(n) for n in (1, 127, 130, 3, 260)]
    batch = [(text, model.initial_state()) for text in texts]
    logits = model.forward_batch(batch)
    for row, (text, state) in zip(logits, batch, strict=True):
        alone = model.initial_state()
        assert np.array_equal(row, model.forward(text, alone)), f"{len(text)} tokens"
        assert same_bits(state, alone)


# ---- threads and instruction sets ------------------------------------------------------------


@pytest.mark.parametrize("case", [*CASES, *WIDE_CASES], ids=case_id)
def test_thread_count_does_not_matter(case: Case, model_file: ModelFile) -> None:
    results = []
    for threads in (1, 2, 3, 4):
        model = rwkvcpp.Model(model_file(case), threads=threads)
        state = model.initial_state()
        rows = model.forward(TOKENS[:9], state, all_logits=True)
        results.append((rows, model.forward(TOKENS[9:10], state), state))
    first_rows, first_single, first_state = results[0]
    for rows, single, state in results[1:]:
        assert np.array_equal(rows, first_rows)
        assert np.array_equal(single, first_single)
        assert same_bits(state, first_state)


def digests(isa: str, files: list[Path]) -> list[str]:
    command = [sys.executable, "-m", "tests.reference.digest", *map(str, files)]
    env = {**os.environ, "RWKVCPP_ISA": isa}
    run = subprocess.run(
        command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.mark.parametrize("cases", [CASES, WIDE_CASES], ids=["narrow", "wide"])
def test_instruction_set_does_not_matter(cases: list[Case], model_file: ModelFile) -> None:
    """To the last bit, the exponentials included."""
    files = [model_file(case) for case in cases]
    names = [f"{case.name} {kind}" for case in cases for kind in ("int8", "float32")]
    scalar = dict(zip(names, digests("scalar", files), strict=True))
    for isa in (isa for isa in _core.instruction_sets() if isa != "scalar"):
        assert dict(zip(names, digests(isa, files), strict=True)) == scalar, isa


@pytest.mark.parametrize("case", WIDE_CASES, ids=case_id)
def test_wide_models_do_not_care_how_rows_are_grouped(case: Case, open_model: OpenModel) -> None:
    model = open_model(case)
    assert_rows_do_not_matter(model, long_text(max(ROWS), case.sizes.n_vocab))
    texts = [long_text(n, case.sizes.n_vocab) for n in (1, 7, 2)]
    alone = [model.forward(text, model.initial_state()) for text in texts]
    together = model.forward_batch([(text, model.initial_state()) for text in texts])
    assert np.array_equal(together, np.stack(alone))


def test_threads_of_the_caller_may_share_a_model(open_model: OpenModel) -> None:
    model = open_model(CASES[7])
    texts = [long_text(20 + 13 * i) for i in range(8)]
    alone = [model.forward(text, model.initial_state()) for text in texts]
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = list(pool.map(lambda text: model.forward(text, model.initial_state()), texts))
    assert np.array_equal(np.stack(found), np.stack(alone))


# ---- states ----------------------------------------------------------------------------------

VERSION_CASES = [
    Case("4", "bin", "F32"),
    Case("5.0", "bin", "F32"),
    Case("5.1", "bin", "F32"),
    Case("5.2", "bin", "F32"),
    Case("6", "gguf", "F32"),
    Case("7", "gguf", "F32"),
]


@pytest.mark.parametrize("case", VERSION_CASES, ids=case_id)
def test_state_survives_a_trip_through_numpy(case: Case, open_model: OpenModel) -> None:
    model = open_model(case)
    state = model.initial_state()
    model.forward(TOKENS, state)
    copy = rwkvcpp.State.from_numpy(state.to_numpy(), model)
    assert same_bits(copy, state)
    assert np.array_equal(model.forward([3, 1], copy), model.forward([3, 1], state))


@pytest.mark.parametrize("case", VERSION_CASES, ids=case_id)
def test_state_arrays_are_copies(case: Case, open_model: OpenModel) -> None:
    model = open_model(case)
    state = model.initial_state()
    model.forward(TOKENS, state)
    kept = state.clone()
    for array in state.to_numpy().values():
        array.fill(1.0)
    assert same_bits(state, kept)


@pytest.mark.parametrize("case", VERSION_CASES, ids=case_id)
def test_clone_and_original_go_their_own_ways(case: Case, open_model: OpenModel) -> None:
    model = open_model(case)
    state = model.initial_state()
    model.forward(TOKENS, state)
    clone, before = state.clone(), state.clone()
    model.forward([5, 6], clone)
    assert same_bits(state, before)
    assert not same_bits(clone, before)
    model.forward([5, 6], state)
    assert same_bits(state, clone)


@pytest.mark.parametrize("case", VERSION_CASES, ids=case_id)
def test_state_does_not_grow(case: Case, open_model: OpenModel) -> None:
    model = open_model(case)
    state = model.initial_state()
    numbers = sum(array.size for array in state.to_numpy().values())
    assert state.nbytes >= 4 * numbers
    before = state.nbytes
    model.forward(long_text(200), state)
    assert (state.nbytes, state.n_tokens) == (before, 200)


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape"])
def test_from_numpy_takes_all_arrays_or_none(damage: str, open_model: OpenModel) -> None:
    model = open_model(VERSION_CASES[5])
    state = model.initial_state()
    model.forward(TOKENS, state)
    before, arrays = state.clone(), model.initial_state().to_numpy()
    name = "blocks.2.ffn.x"
    if damage == "missing":
        del arrays[name]
    elif damage == "unknown":
        name = "blocks.3.ffn.x"
        arrays[name] = arrays["blocks.2.ffn.x"]
    else:
        arrays[name] = arrays[name][:-1]
    with pytest.raises(rwkvcpp.StateError, match=name.replace(".", r"\.")):
        state.assign(arrays)
    assert same_bits(state, before)


def test_state_belongs_to_weights_not_to_a_model_object(model_file: ModelFile) -> None:
    path = model_file(CASES[7])
    first, second = rwkvcpp.Model(path, threads=1), rwkvcpp.Model(path, threads=2)
    state = first.initial_state()
    first.forward(TOKENS[:5], state)
    logits = second.forward(TOKENS[5:], state)
    assert np.array_equal(logits, first.forward(TOKENS, first.initial_state()))


def test_state_is_at_home_in_every_quantization_of_its_weights(open_model: OpenModel) -> None:
    """So that a state made on a large file serves a small one of the same checkpoint."""
    exact, rounded = open_model(Case("7", "gguf", "F32")), open_model(Case("7", "bin", "Q8_0"))
    state = exact.initial_state()
    exact.forward(TOKENS, state)
    copy = rwkvcpp.State.from_numpy(state.to_numpy(), rounded)
    assert np.array_equal(rounded.forward([1], state), rounded.forward([1], copy))


OTHER_WEIGHTS = [
    Case("7", "gguf", "F32", seed=2),  # the same shapes
    Case("6", "gguf", "F32"),  # another version with a state of the same shapes
    Case("4", "bin", "F32"),
]


@pytest.mark.parametrize("other", OTHER_WEIGHTS, ids=case_id)
def test_state_of_other_weights_is_refused(other: Case, open_model: OpenModel) -> None:
    model = open_model(Case("7", "gguf", "F32"))
    own, foreign = model.initial_state(), open_model(other).initial_state()
    before = foreign.clone()
    with pytest.raises(rwkvcpp.StateError):
        model.forward(TOKENS, foreign)
    with pytest.raises(rwkvcpp.StateError):
        model.forward_batch([(TOKENS, own), (TOKENS, foreign)])
    assert same_bits(foreign, before)
    assert same_bits(own, model.initial_state())


@pytest.mark.parametrize(
    ("tokens", "error"),
    [
        ([], ValueError),
        ([1, NARROW.n_vocab], IndexError),
        ([1, -1], IndexError),
        ([*long_text(200), NARROW.n_vocab], IndexError),
        ([2**40], IndexError),
    ],
    ids=["empty", "beyond the vocabulary", "negative", "after a chunk", "huge"],
)
def test_wrong_tokens_leave_states_as_they_were(
    tokens: list[int], error: type[Exception], open_model: OpenModel
) -> None:
    model = open_model(CASES[4])
    state, other = model.initial_state(), model.initial_state()
    model.forward(TOKENS, state)
    before, other_before = state.clone(), other.clone()
    with pytest.raises(error):
        model.forward(tokens, state)
    with pytest.raises(error):
        model.forward_batch([(TOKENS, other), (tokens, state)])
    assert same_bits(state, before)
    assert same_bits(other, other_before)


def test_empty_batch_is_refused(open_model: OpenModel) -> None:
    with pytest.raises(ValueError, match="at least one"):
        open_model(CASES[0]).forward_batch([])


def test_same_state_twice_in_a_batch_is_refused(open_model: OpenModel) -> None:
    model = open_model(CASES[4])
    state = model.initial_state()
    with pytest.raises(rwkvcpp.StateError):
        model.forward_batch([([1], state), ([2], state)])
    assert same_bits(state, model.initial_state())


def test_state_in_use_by_another_thread_is_refused(open_model: OpenModel) -> None:
    model = open_model(CASES[4])
    text = long_text(100_000)  # a second or more, so that the second call meets the first
    state, started = model.initial_state(), threading.Event()

    def consume() -> None:
        started.set()
        model.forward(text, state)

    worker = threading.Thread(target=consume)
    worker.start()
    started.wait()
    time.sleep(0.05)
    other = model.initial_state()
    with pytest.raises(rwkvcpp.StateError):
        model.forward_batch([([1], other), ([1], state)])
    worker.join()
    assert state.n_tokens == len(text)
    assert same_bits(other, model.initial_state())


class Interrupted(Exception):
    """What an alarm raises, in the place of Ctrl-C: that would end the test run if it came late."""


@contextmanager
def alarm_after(seconds: float) -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_interrupted_prefill_leaves_the_state_as_it_was(open_model: OpenModel) -> None:
    model = open_model(CASES[4])
    state, other = model.initial_state(), model.initial_state()
    model.forward(TOKENS, state)
    before = state.clone()
    text = long_text(2_000_000)
    with pytest.raises(Interrupted), alarm_after(0.3):
        model.forward_batch([(TOKENS, other), (text, state)])
    assert same_bits(state, before)
    assert same_bits(other, model.initial_state())
    assert state.n_tokens == len(TOKENS)

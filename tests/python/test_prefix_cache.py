"""The cache gives back what was kept, keeps what it should, and no bit tells that it was there."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp import PrefixCache, PrefixKey, SamplingParams
from rwkvcpp.prefix_cache import SPACING
from tests.reference.cases import Case

GREEDY = SamplingParams(temperature=0)
PROMPT = [1 + (i * i * 31 + 17 * i) % 4000 for i in range(2 * SPACING + 90)]


@pytest.fixture(scope="module")
def model() -> rwkvcpp.Model:
    return rwkvcpp.Model()


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache()


@pytest.fixture
def n_computed(model, monkeypatch) -> Callable[[], int]:
    """How many tokens went through the model since it was asked last."""
    counts = [0]
    forward_into = model.forward_into

    def counted(results, tokens, state, **options):
        counts[0] += len(tokens)
        forward_into(results, tokens, state, **options)

    def taken() -> int:
        n, counts[0] = counts[0], 0
        return n

    monkeypatch.setattr(model, "forward_into", counted)
    return taken


def fed(model: rwkvcpp.Model, tokens: list[int], cache: PrefixCache | None = None, **options):
    session = model.session()
    if cache is None:
        session.feed(tokens)
    else:
        cache.prefill(session, tokens, **options)
    return session


def assert_same(session: rwkvcpp.Session, other: rwkvcpp.Session) -> None:
    assert session.tokens == other.tokens
    assert session.logits.tobytes() == other.logits.tobytes()
    assert session.state.to_bytes() == other.state.to_bytes()
    assert (session.text, session.pending) == (other.text, other.pending)


# ---- what it costs ---------------------------------------------------------------------------


def test_a_prompt_seen_before_costs_nothing(model, cache, n_computed):
    first = fed(model, PROMPT, cache)
    assert n_computed() == len(PROMPT)
    again = model.session()
    assert cache.prefill(again, PROMPT) == len(PROMPT)
    assert n_computed() == 0
    assert_same(again, first)
    assert_same(again, fed(model, PROMPT))


@pytest.mark.parametrize("n_shared", [1, SPACING - 1, SPACING, SPACING + 1, 2 * SPACING + 40])
def test_a_shared_prefix_costs_the_tail_and_less_than_a_space(model, cache, n_computed, n_shared):
    fed(model, PROMPT, cache)
    n_computed()
    tail = [5, 6, 7]
    other = [*PROMPT[:n_shared], *tail]
    session = model.session()
    n_cached = cache.prefill(session, other)
    assert n_cached == n_shared - n_shared % SPACING
    assert n_computed() == len(other) - n_cached < len(tail) + SPACING
    assert_same(session, fed(model, other))


def test_a_boundary_can_be_come_back_to(model, cache, n_computed):
    fed(model, PROMPT, cache, boundaries=[70, 300])
    n_computed()
    for boundary in (70, 300):
        session = model.session()
        assert cache.prefill(session, [*PROMPT[:boundary], 9]) == boundary
        assert n_computed() == 1


def test_the_end_of_a_prompt_is_kept_in_whatever_piece_it_came(model, cache, n_computed):
    session = model.session()
    for begin, end in ((0, 100), (100, 410), (410, len(PROMPT))):
        cache.prefill(session, PROMPT[begin:end])
    assert n_computed() == len(PROMPT)
    for n in (100, SPACING, 410, 2 * SPACING, len(PROMPT)):
        assert cache.prefill(model.session(), [*PROMPT[:n], 9][: n + 1]) == n


def test_the_end_of_a_reply_is_kept_when_it_is_stored(model, cache, n_computed):
    session = fed(model, PROMPT[:50], cache)
    reply = "".join(session.generate(max_tokens=20, sampling=GREEDY, stop_tokens=[]))
    cache.store(session)
    n_computed()
    again = model.session()
    assert cache.prefill(again, session.tokens) == 70
    assert n_computed() == 0
    assert again.logits.tobytes() == session.logits.tobytes()
    assert again.text == model.tokenizer.decode(PROMPT[:50]) + reply


def test_a_reply_without_its_thoughts_costs_no_more_than_the_reply(model, cache, n_computed):
    """Thoughts are stripped from histories: with a boundary before them, all before them stays."""
    question, think, thoughts, answer = PROMPT[:300], [11], PROMPT[300:340], [21, 22, 23]
    session = fed(model, [*question, *think], cache, boundaries=[len(question)])
    session.feed([*thoughts, *answer])
    cache.store(session)
    n_computed()
    assert cache.prefill(model.session(), [*question, *answer]) == len(question)
    assert n_computed() == len(answer)


def test_a_session_goes_on_from_the_longest_that_is_known(model, cache, n_computed):
    fed(model, PROMPT, cache)
    session = fed(model, PROMPT[:30])
    n_computed()
    assert cache.prefill(session, PROMPT[30:]) == len(PROMPT) - 30
    assert n_computed() == 0
    assert_same(session, fed(model, PROMPT))


def test_what_a_session_has_already_is_not_exchanged(model, cache, n_computed):
    fed(model, PROMPT[:SPACING], cache)
    session = fed(model, PROMPT[: SPACING + 10])
    n_computed()
    assert cache.prefill(session, [3, 4]) == 0
    assert n_computed() == 2


def test_where_a_prompt_begins_can_be_a_boundary(model, cache, n_computed):
    session = fed(model, PROMPT[:30])
    cache.prefill(session, [3, 4], boundaries=[0])
    n_computed()
    assert cache.prefill(model.session(), PROMPT[:30]) == 30


def test_text_is_encoded_as_feed_would(model, cache):
    session, plain = model.session(), model.session()
    cache.prefill(session, "Once upon a time")
    plain.feed("Once upon a time")
    assert_same(session, plain)


def test_an_empty_prompt_costs_nothing_and_changes_nothing(model, cache):
    session = fed(model, PROMPT[:5])
    assert cache.prefill(session, []) == 0
    assert_same(session, fed(model, PROMPT[:5]))


# ---- no bit tells ----------------------------------------------------------------------------


def test_a_text_continues_as_it_would_without_the_cache(model, cache):
    params = SamplingParams(temperature=1.1, top_p=0.9, seed=5)
    fed(model, PROMPT, cache)
    with_cache, without = fed(model, PROMPT, cache), fed(model, PROMPT)
    texts = [
        "".join(session.generate(max_tokens=40, sampling=params, stop_tokens=[]))
        for session in (with_cache, without)
    ]
    assert texts[0] == texts[1]
    assert_same(with_cache, without)


def test_sessions_from_one_snapshot_go_their_own_ways(model, cache):
    one, two = fed(model, PROMPT, cache), fed(model, PROMPT, cache)
    one.feed([7])
    two.logits[:] = 0
    two.feed([8])
    for last, session in ((7, one), (8, two)):
        assert_same(session, fed(model, [*PROMPT, last]))
    assert_same(fed(model, PROMPT, cache), fed(model, PROMPT))


def test_a_state_that_the_caller_goes_on_with_does_not_change_what_is_kept(model, cache):
    session = fed(model, PROMPT[:20], cache)
    session.logits[:] = 0
    session.feed([9])
    assert_same(fed(model, PROMPT[:20], cache), fed(model, PROMPT[:20]))


def test_sampler_metadata_and_reason_stay_the_sessions_own(model, cache):
    fed(model, PROMPT, cache)
    session = fed(model, PROMPT[:9])
    list(session.generate(max_tokens=0, sampling=SamplingParams(seed=3)))
    sampler, session.metadata["title"] = session.sampler, "story"
    cache.prefill(session, PROMPT[9:])
    assert session.sampler is sampler
    assert session.metadata == {"title": "story"}
    assert session.finish_reason == "length"


# ---- whose snapshots they are ----------------------------------------------------------------

ModelFile = Callable[[Case], Path]


def loads(model_file: ModelFile, tmp_path: Path) -> Iterator[tuple[str, rwkvcpp.Model]]:
    """Models whose states are of the same weights, and which do not compute the same logits."""
    path = model_file(Case("7", "gguf", "F32"))
    yield "the model", rwkvcpp.Model(path)
    yield "other types", rwkvcpp.Model(path, type="q8_0")
    yield "other activations", rwkvcpp.Model(path, type="q8_0", activations="float32")
    yield "another epsilon", rwkvcpp.Model(path, group_norm_eps=1e-5)
    changed = rwkvcpp.Model(with_one_weight_changed(path, tmp_path))
    assert changed.identity.exact_fingerprint == rwkvcpp.Model(path).identity.exact_fingerprint
    yield "one weight changed", changed


def with_one_weight_changed(path: Path, folder: Path) -> Path:
    """In the last tensor's data, where no sample of a fingerprint is taken."""
    data = bytearray(path.read_bytes())
    data[-2051] ^= 1
    changed = folder / path.name
    changed.write_bytes(data)
    os.utime(changed, ns=(0, 0))
    return changed


def test_only_the_very_same_model_shares_snapshots(model_file, tmp_path, cache):
    tokens = list(range(100))
    found = {name: cache.prefill(m.session(), tokens) for name, m in loads(model_file, tmp_path)}
    assert found == dict.fromkeys(found, 0)
    assert len(found) == 5
    again = {name: cache.prefill(m.session(), tokens) for name, m in loads(model_file, tmp_path)}
    assert again == dict.fromkeys(found, 100)


def test_the_initial_state_is_part_of_the_key(model, cache):
    tuned = model.initial_state()
    arrays = tuned.to_numpy()
    tuned.assign({name: array + 0.01 for name, array in arrays.items()})
    fed(model, PROMPT[:40], cache)
    session = model.session(tuned)
    assert cache.prefill(session, PROMPT[:40]) == 0
    plain = model.session(tuned)
    plain.feed(PROMPT[:40])
    assert_same(session, plain)
    assert cache.prefill(model.session(tuned), PROMPT[:40]) == 40
    assert cache.prefill(model.session(), PROMPT[:40]) == 40


def test_a_session_may_begin_in_the_middle_of_a_text(model, cache):
    begun = fed(model, PROMPT[:10]).state
    session = model.session(begun)
    cache.prefill(session, PROMPT[10:30])
    assert cache.prefill(model.session(), PROMPT[10:30]) == 0
    again = model.session(begun)
    assert cache.prefill(again, PROMPT[10:30]) == 20
    assert again.tokens == PROMPT[10:30]
    assert again.state.n_tokens == 30
    assert again.logits.tobytes() == fed(model, PROMPT[:30]).logits.tobytes()


@pytest.mark.filterwarnings("ignore::rwkvcpp.ApproximateStateWarning")
@pytest.mark.parametrize("change", ["assigned", "float16"])
def test_a_state_that_its_tokens_do_not_explain_is_neither_kept_nor_exchanged(model, change):
    cache = PrefixCache()
    fed(model, PROMPT[:60], cache)
    session = fed(model, PROMPT[:30])
    if change == "assigned":
        arrays = session.state.to_numpy()
        session.state.assign({name: 1.01 * array for name, array in arrays.items()})
    else:
        session = model.session_from_bytes(session.to_bytes(dtype="float16"))
    plain, before = session.fork(), cache.stats().entries
    assert cache.prefill(session, PROMPT[30:60]) == 0
    cache.store(session)
    plain.feed(PROMPT[30:60])
    assert_same(session, plain)
    assert session.logits.tobytes() != fed(model, PROMPT[:60]).logits.tobytes()
    assert cache.stats().entries == before


def test_a_state_of_other_types_is_not_taken_for_ones_own(model_file):
    """Both states have consumed the same tokens, and neither is the other."""
    path, cache = model_file(Case("7", "gguf", "F32")), PrefixCache()
    exact, rounded = rwkvcpp.Model(path), rwkvcpp.Model(path, type="q8_0")
    own, foreign = fed(rounded, [1, 2, 3]).state, fed(exact, [1, 2, 3]).state
    assert cache.prefill(rounded.session(own), [4, 5]) == 0
    session, plain = rounded.session(foreign), rounded.session(foreign)
    assert cache.prefill(session, [4, 5]) == 0
    plain.feed([4, 5])
    assert session.logits.tobytes() == plain.logits.tobytes()
    assert cache.prefill(rounded.session(own), [4, 5]) == 2
    with pytest.raises(rwkvcpp.StateError, match="continues approximately"):
        PrefixKey.of(rounded, foreign)


def test_no_file_decides_what_other_sessions_compute(model, cache):
    """A file may claim anything of its state; the sums in it are no seal."""
    liar = fed(model, PROMPT[:30])
    arrays = {name: 1.01 * array for name, array in liar.state.to_numpy().items()}
    history = (liar.state.n_tokens, liar.state.tokens_hash)
    liar.state.assign(arrays)
    liar.state._native.restore(liar.state._native.values(), *history)
    loaded = model.session_from_bytes(liar.to_bytes())
    assert loaded.tokens == PROMPT[:30]
    cache.store(loaded)
    cache.prefill(loaded, PROMPT[30:40])
    for n in (30, 40):
        assert_same(fed(model, PROMPT[:n], cache), fed(model, PROMPT[:n]))


def test_a_loaded_session_and_its_forks_share_what_they_computed(model, cache, n_computed):
    data = fed(model, PROMPT[:30]).to_bytes()
    loaded = model.session_from_bytes(data)
    fork = loaded.fork()
    cache.prefill(loaded, PROMPT[30:60])
    n_computed()
    assert cache.prefill(fork, PROMPT[30:60]) == 30
    assert n_computed() == 0
    assert_same(fork, fed(model, PROMPT[:60]))
    assert cache.prefill(model.session_from_bytes(data), PROMPT[30:60]) == 0


def test_a_loaded_state_may_be_where_many_sessions_begin(model, cache):
    begin = model.state_from_bytes(fed(model, PROMPT[:30]).state.to_bytes())
    cache.prefill(model.session(begin), PROMPT[30:60])
    session = model.session(begin)
    assert cache.prefill(session, PROMPT[30:60]) == 30
    assert cache.lookup(PrefixKey.of(model, begin), PROMPT[30:60]).n_tokens == 30
    assert session.logits.tobytes() == fed(model, PROMPT[:60]).logits.tobytes()


def test_another_version_of_the_library_has_its_own(model, monkeypatch):
    """It may round otherwise, and a folder outlives it."""
    digest = PrefixKey.of(model).digest
    assert PrefixKey.of(model).digest == digest
    monkeypatch.setattr(rwkvcpp._core, "__version__", "0.0.1")
    assert PrefixKey.of(model).digest != digest


def test_the_cache_keeps_no_model_alive(model_file, cache):
    model = rwkvcpp.Model(model_file(Case("7", "gguf", "F32")))
    cache.prefill(model.session(), [1, 2, 3])
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert cache.prefill(rwkvcpp.Model(model_file(Case("7", "gguf", "F32"))).session(), [1, 2]) == 0


# ---- the budget ------------------------------------------------------------------------------


def snapshot_bytes(model: rwkvcpp.Model) -> int:
    return model.initial_state().nbytes + 4 * model.n_vocab


def test_the_budget_holds_states_logits_and_tokens(model):
    budget = 4 * snapshot_bytes(model) - 1  # three, and their tokens
    cache = PrefixCache(budget)
    for first in range(5):
        fed(model, [first, *PROMPT[:49]], cache)
        assert cache.stats().nbytes <= budget
    assert cache.stats().entries == 3
    kept = [cache.lookup(PrefixKey.of(model), [first, *PROMPT[:49]]) for first in range(5)]
    assert [found is not None for found in kept] == [False, False, True, True, True]


@pytest.mark.parametrize("budget", [0, 1])
def test_without_room_nothing_is_kept_and_nothing_changes(model, budget):
    cache = PrefixCache(budget)
    for _ in range(2):
        assert_same(fed(model, PROMPT, cache, boundaries=[7]), fed(model, PROMPT))
    assert (cache.stats().entries, cache.stats().nbytes) == (0, 0)


def test_one_long_prompt_leaves_half_of_the_budget_to_others(model):
    cache = PrefixCache(8 * snapshot_bytes(model) + 2**16)
    short = [[first, 2, 3] for first in range(3)]
    for tokens in short:
        fed(model, tokens, cache)
    long_prompt = [(7 * i) % 4001 for i in range(14 * SPACING + 5)]
    fed(model, long_prompt, cache)
    assert [cache.prefill(model.session(), tokens) for tokens in short] == [3, 3, 3]
    # A grid of a quarter of the places, and the end.
    assert cache.prefill(model.session(), long_prompt) == len(long_prompt)
    assert cache.prefill(model.session(), [*long_prompt[:-10], 9]) == 12 * SPACING


def test_what_is_cleared_is_computed_again(model, cache, n_computed):
    fed(model, PROMPT, cache)
    cache.clear()
    n_computed()
    assert_same(fed(model, PROMPT, cache), fed(model, PROMPT))
    assert n_computed() == 2 * len(PROMPT)


def test_numbers_say_what_was_saved(model, cache):
    fed(model, PROMPT, cache)
    fed(model, PROMPT, cache)
    fed(model, [*PROMPT[:SPACING], 1, 2], cache)
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (2, 1)
    assert stats.tokens_saved == len(PROMPT) + SPACING
    assert stats.entries == 4  # two of the grid, two ends
    assert 4 * snapshot_bytes(model) < stats.nbytes < 4.1 * snapshot_bytes(model)


@pytest.mark.parametrize(("budget", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_a_budget_is_a_number_of_bytes(budget, error):
    with pytest.raises(error):
        PrefixCache(budget)


# ---- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "options", "error"),
    [
        ([*PROMPT, 4096], {}, IndexError),
        ([*PROMPT, -1], {}, IndexError),
        ([*PROMPT, 10**30], {}, IndexError),
        ([*PROMPT, 2.5], {}, TypeError),
        ([*PROMPT, None], {}, TypeError),
        (np.zeros((2, 3), np.int64), {}, TypeError),
        (PROMPT, {"boundaries": [len(PROMPT) + 1]}, ValueError),
        (PROMPT, {"boundaries": [-1]}, ValueError),
        (PROMPT, {"boundaries": [1.5]}, TypeError),
    ],
    ids=str,
)
def test_wrong_arguments_leave_a_session_as_it_was(model, cache, prompt, options, error):
    session = fed(model, [1, 2])
    with pytest.raises(error):
        cache.prefill(session, prompt, **options)
    assert_same(session, fed(model, [1, 2]))
    assert cache.stats().entries == 0


@pytest.mark.parametrize("known", [0, SPACING], ids=["from nothing", "after a hit"])
@pytest.mark.parametrize("after", [1, 2], ids=["first piece", "second piece"])
def test_ctrl_c_leaves_a_session_as_it_was_and_keeps_what_was_done(
    model, cache, monkeypatch, known, after
):
    long_prompt = [*PROMPT, *PROMPT]
    if known:
        fed(model, PROMPT[:known], cache)
    session, calls = fed(model, PROMPT[:3]), [0]
    forward_into = model.forward_into

    def interrupted(results, tokens, state, **options):
        calls[0] += 1
        if calls[0] == after:
            raise KeyboardInterrupt
        forward_into(results, tokens, state, **options)

    monkeypatch.setattr(model, "forward_into", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.prefill(session, long_prompt[3:])
    monkeypatch.undo()
    assert_same(session, fed(model, PROMPT[:3]))
    n_done = known + (after - 1) * SPACING
    assert cache.prefill(model.session(), long_prompt) == n_done
    session.feed([8])
    assert_same(session, fed(model, [*PROMPT[:3], 8]))


def test_steps_tell_what_is_consumed_and_first_what_cost_nothing(model, cache):
    fed(model, PROMPT[:SPACING], cache)
    session = fed(model, PROMPT[:6])
    steps = list(cache.prefill_steps(session, PROMPT[6:], boundaries=[400]))
    assert steps == [SPACING - 6, 400, 2 * SPACING - 6]
    assert_same(session, fed(model, PROMPT))


def test_steps_that_are_dropped_put_the_session_back(model, cache):
    session = fed(model, PROMPT[:6])
    steps = cache.prefill_steps(session, PROMPT[6:])
    assert (next(steps), next(steps)) == (0, SPACING - 6)
    steps.close()
    assert_same(session, fed(model, PROMPT[:6]))
    assert cache.prefill(session, PROMPT[6:]) == SPACING - 6


# ---- for schedulers --------------------------------------------------------------------------


def test_lookup_and_insert_serve_sessions_that_are_fed_together(model, cache):
    key, texts = PrefixKey.of(model), [PROMPT[:30], PROMPT[:50]]
    states = [model.initial_state() for _ in texts]
    logits = model.forward_batch(list(zip(texts, states, strict=True)))
    for tokens, state, row in zip(texts, states, logits, strict=True):
        cache.insert(key, tokens, state, row)
    snapshot = cache.lookup(key, PROMPT)
    assert snapshot.n_tokens == 50
    assert snapshot.logits().tobytes() == logits[1].tobytes()
    state = snapshot.state()
    assert state.to_bytes() == states[1].to_bytes()
    assert cache.lookup(key, PROMPT[:49]).n_tokens == 30
    assert cache.lookup(key, PROMPT[:49], beyond=30) is None
    assert cache.lookup(key, PROMPT[1:]) is None
    assert cache.lookup(key, []) is None
    assert cache.prefill(model.session(), PROMPT[:50]) == 50


def test_a_state_of_other_tokens_is_refused(model, cache):
    key, state = PrefixKey.of(model), model.initial_state()
    logits = model.forward([1, 2, 3], state)
    for tokens in ([1, 2], [1, 2, 4], [1, 2, 3, 3], [], [2.5]):
        with pytest.raises(rwkvcpp.StateError, match="does not follow from"):
            cache.insert(key, tokens, state, logits)
    for other in (PrefixKey.of(model, state), PrefixKey(model, (1, key.start[1]))):
        with pytest.raises(rwkvcpp.StateError, match="after 3 tokens does not follow"):
            cache.insert(other, [1, 2, 3], state, logits)
    assert cache.stats().entries == 0
    cache.insert(key, np.array([1, 2, 3], np.uint16), state, logits)
    assert cache.lookup(key, [1, 2, 3]).n_tokens == 3


@pytest.mark.parametrize("wrong", [np.zeros(5, np.float32), np.zeros((1, 4096), np.float32)])
def test_logits_of_another_shape_are_refused(model, cache, wrong):
    state = model.initial_state()
    model.forward([1], state)
    with pytest.raises(ValueError, match=r"expected float32 \[4096\]"):
        cache.insert(PrefixKey.of(model), [1], state, wrong)


def test_threads_with_one_prompt_get_the_same(model):
    for cache in (PrefixCache(), PrefixCache(2 * snapshot_bytes(model) + 2**14)):
        expected, sessions = fed(model, PROMPT), []
        barrier = threading.Barrier(4)

        def enter(cache=cache, barrier=barrier, sessions=sessions) -> None:
            barrier.wait()
            for _ in range(5):
                sessions.append(fed(model, PROMPT, cache))

        threads = [threading.Thread(target=enter) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(sessions) == 20
        for session in sessions:
            assert_same(session, expected)

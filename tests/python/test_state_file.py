"""State files: what is written comes back, bit for bit, and damage is found wherever it strikes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp import ApproximateStateWarning, Model, SamplingParams, State, StateError
from rwkvcpp.state_container import ALIGNMENT, MAGIC, PREFIX
from tests.reference.cases import Case
from tests.reference.checkpoints import VERSIONS, Sizes

# With 256 tokens a model has a vocabulary, of bytes. One layer, so that files stay small.
SMALL = Sizes(
    n_embd=32, n_layer=1, head_size=16, n_ffn=64, n_vocab=256,
    lerp_rank=4, decay_rank=8, rate_rank=4, value_rank=4, gate_rank=12,
)  # fmt: skip


@pytest.fixture(scope="module", params=VERSIONS)
def model(request: pytest.FixtureRequest, model_file: Callable[[Case], Path]) -> Model:
    return Model(model_file(Case(request.param, "bin", "F32", SMALL)), threads=1)


def advanced(model: Model, tokens: list[int]) -> State:
    state = model.initial_state()
    model.forward(tokens, state)
    return state


def same(one: State, other: State) -> bool:
    arrays, others = one.to_numpy(), other.to_numpy()
    return arrays.keys() == others.keys() and all((arrays[n] == others[n]).all() for n in arrays)


def test_a_state_comes_back_bit_for_bit(model, tmp_path):
    state = advanced(model, [1, 2, 3])
    state.save(tmp_path / "saved")
    loaded = model.load_state(tmp_path / "saved")
    assert same(loaded, state)
    assert loaded.n_tokens == 3
    assert loaded.tokens_hash == state.tokens_hash
    assert loaded.is_exact
    assert (model.forward([5], loaded) == model.forward([5], state)).all()


def test_bytes_are_what_the_file_has(model, tmp_path):
    state = advanced(model, [1, 2, 3])
    state.save(tmp_path / "saved")
    data = state.to_bytes()
    assert data == (tmp_path / "saved").read_bytes()
    assert same(model.state_from_bytes(data), state)


def test_a_state_that_has_seen_nothing_comes_back(model, tmp_path):
    state = model.initial_state()
    state.save(tmp_path / "saved")
    assert same(model.load_state(tmp_path / "saved"), state)


def test_float16_is_near_and_says_that_it_is_inexact(model, tmp_path):
    state = advanced(model, [1, 2, 3])
    state.save(tmp_path / "saved", dtype="float16")
    with pytest.warns(ApproximateStateWarning, match="saved as float16"):
        loaded = model.load_state(tmp_path / "saved")
    assert not loaded.is_exact
    for name, array in state.to_numpy().items():
        assert (loaded.to_numpy()[name] == array.astype(np.float16).astype(np.float32)).all(), name
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        again = model.state_from_bytes(loaded.clone().to_bytes())
    assert not again.is_exact


def test_float16_is_inexact_whatever_its_header_says(small_model):
    header, data = taken_apart(conversation(small_model).to_bytes(dtype="float16"))
    header["state"]["exact"] = True
    with pytest.warns(ApproximateStateWarning):
        assert not small_model.session_from_bytes(sealed(header, data)).state.is_exact


def test_another_dtype_is_refused_before_anything_is_written(model, tmp_path):
    with pytest.raises(ValueError, match="dtype is 'bfloat16', expected 'float32' or 'float16'"):
        model.initial_state().save(tmp_path / "saved", dtype="bfloat16")
    assert list(tmp_path.iterdir()) == []


def test_a_state_of_other_weights_is_refused_with_both_names(model, model_file, tmp_path):
    model.initial_state().save(tmp_path / "saved")
    case = Case(model.version, "bin", "F32", SMALL, seed=2)
    other = Model(model_file(case), threads=1)
    with pytest.raises(StateError) as caught:
        other.load_state(tmp_path / "saved")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'saved'}: belongs to the weights of {model.path.name} ")
    assert message.endswith(f"expected those of {other.path.name} ({other.identity.description})")


# Damage. A file is taken apart, changed in one place, and its checksums made right again, so that
# it is the change that is found.


@pytest.fixture(scope="module")
def small_model(model_file: Callable[[Case], Path]) -> Model:
    return Model(model_file(Case("7", "bin", "F32", SMALL)), threads=1)


def conversation(model: Model) -> rwkvcpp.Session:
    session = model.session()
    sampling = SamplingParams(top_p=0.9, frequency_penalty=0.5, logit_bias={5: -1.0}, seed=1)
    list(session.generate(b"abc", max_tokens=5, sampling=sampling, stop_tokens=[]))
    session.metadata["template"] = "world"
    return session


@pytest.fixture(scope="module")
def saved(small_model: Model) -> bytes:
    return conversation(small_model).to_bytes()


def taken_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    n_json = PREFIX.unpack(data[: PREFIX.size])[2]
    return json.loads(data[PREFIX.size :][:n_json]), data[PREFIX.size + n_json :]


def sealed(header: dict[str, Any] | bytes, data: bytes, **prefix: int) -> bytes:
    """A file whose checksums are right."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-(PREFIX.size + len(text)) % ALIGNMENT)
    fields = {"version": 1, "n_json": len(text), "n_data": len(data)} | prefix
    begin = PREFIX.pack(MAGIC, *fields.values(), 0, 0)[:24]
    sums = (zlib.crc32(text, zlib.crc32(begin)), zlib.crc32(data))
    return PREFIX.pack(MAGIC, *fields.values(), *sums) + text + data


def refused(model: Model, data: bytes) -> str:
    with pytest.raises(StateError) as caught:
        model.session_from_bytes(data)
    return str(caught.value)


def test_what_is_sealed_again_is_read_again(small_model, saved):
    assert small_model.session_from_bytes(sealed(*taken_apart(saved))).metadata == {
        "template": "world"
    }


def test_a_file_cut_short_anywhere_is_refused(small_model, saved, tmp_path):
    for n in range(len(saved)):
        assert refused(small_model, saved[:n]).startswith("the session: ")
    path = tmp_path / "cut.state"
    for n in (0, 7, 31, 500, len(saved) - 1):
        path.write_bytes(saved[:n])
        for load in (small_model.load_session, small_model.load_state, small_model.session_from):
            with pytest.raises(StateError, match=f"^{path}: "):
                load(path)


def test_a_file_with_more_behind_it_is_refused(small_model, saved):
    found = refused(small_model, saved + b"x")
    assert found == f"the session: has {len(saved) + 1} bytes, expected {len(saved)}"


def test_every_flipped_bit_is_found(small_model, saved):
    for bit in range(8 * len(saved)):
        flipped = bytearray(saved)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refused(small_model, bytes(flipped)).startswith("the session: ")


def test_a_newer_file_says_which_rwkvcpp_it_needs(small_model, saved):
    header, data = taken_apart(saved)
    newer = sealed(header | {"needs": "3.1.4", "unknown": {"to": "us"}}, data, version=2)
    assert refused(small_model, newer) == (
        "the session: is a state file of version 2, expected 1: rwkvcpp 3.1.4 or newer reads it"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing: it is empty, expected a state file of rwkvcpp"),
        (b"GGUF\x03\0\0\0more", r"begins with 'GGUF\\x03\\x00\\x00\\x00', expected a state file"),
        (b"rwkvst\n", r"begins with 'rwkvst\\n', expected a state file"),  # line ends converted
        (b"{}", r"begins with '{}', expected a state file"),
    ],
)
def test_foreign_files_are_told_by_their_first_bytes(content, message, small_model, tmp_path):
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(StateError, match=message):
        small_model.load_state(tmp_path / "foreign")


def test_what_is_no_file_is_no_state(small_model, tmp_path):
    with pytest.raises(FileNotFoundError):
        small_model.load_state(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        small_model.load_state(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/null", tmp_path / "pipe"):
        with pytest.raises(StateError, match=f"{path}: is a device or a pipe, expected a file"):
            small_model.load_state(path)


# A field, a wrong value, and what is said of it.
LIES = [
    ("kind", "novel", 'kind is \'novel\', expected "session"'),
    ("kind", None, 'kind is None, expected "session"'),
    ("model", [], "model is [], expected an object"),
    ("model.name", "evil\x1b[2J", "model.name is 'evil\\x1b[2J', expected printable text"),
    ("model.name", 7, "model.name is 7, expected printable text"),
    ("model.fingerprint", "ab", "model.fingerprint is 'ab', expected 64 hexadecimal digits"),
    ("model.fingerprint", "G" * 64, "expected 64 hexadecimal digits"),
    ("model.exact", None, "model.exact is None, expected 64 hexadecimal digits"),
    ("state.dtype", "float64", "state.dtype is 'float64', expected \"float32\" or \"float16\""),
    ("state.dtype", "float16", "section state has 2304 bytes, expected 1152"),
    ("state.exact", 1, "state.exact is 1, expected true or false"),
    ("state.n_tokens", -1, "state.n_tokens is -1, expected an integer from 0 to"),
    ("state.n_tokens", 8.0, "state.n_tokens is 8.0, expected an integer"),
    ("state.n_tokens", True, "state.n_tokens is True, expected an integer"),
    ("state.n_tokens", 9, "its 8 tokens, after 0 others, do not lead to its state"),
    ("state.n_tokens", 2**64, "expected an integer from 0 to 18446744073709551615"),
    ("state.n_tokens", 10**400, "state.n_tokens is an integer of about 400 digits, expected"),
    ("state.tokens_hash", "0" * 16, "do not lead to its state"),
    ("state.tokens_hash", 5, "state.tokens_hash is 5, expected 16 hexadecimal digits"),
    ("state.arrays", [], "state.arrays is [], expected a list of 3 arrays"),
    ("state.arrays", {"blocks.0.att.x": [32]}, "expected a list of 3 arrays"),
    ("state.arrays.1", ["blocks.0.att.wkv", 2, 16, 17],
     "[1] is ['blocks.0.att.wkv', 2, 16, 17], expected ['blocks.0.att.wkv', 2, 16, 16]"),
    ("state.arrays.2", ["blocks.0.att.aa", 32], "state.arrays[2] is ['blocks.0.att.aa', 32], exp"),
    ("session", 5, "session is 5, expected an object"),
    ("session.tokens_before", 1, "its 8 tokens, after 1 others, do not lead to its state"),
    ("session.hash_before", "f" * 16, "do not lead to its state"),
    ("session.tokens_settled", 9, "session.tokens_settled is 9, expected an integer from 0 to 8"),
    ("session.bytes_shown", -1, "session.bytes_shown is -1, expected an integer"),
    ("session.finish_reason", "tired", 'expected null or "stop" or "length"'),
    ("sampler", 3, "sampler is 3, expected an object"),
    ("sampler.rng", -1, "sampler.rng is -1, expected an integer from 0"),
    ("sampler.seed", "lucky", "sampler.seed is 'lucky', expected an integer"),
    ("sampler.settings", None, "sampler.settings is None, expected an object"),
    ("sampler.settings.temperature", -1, "has a sampler that cannot be: temperature is -1, exp"),
    ("sampler.settings.temperature", "hot", "temperature must be a number, got 'hot'"),
    ("sampler.settings.top_p", 3, "top_p is 3, expected 0 to 1"),
    ("sampler.settings.order", ["rwkv"], "order is ['rwkv'], expected one of"),
    ("sampler.settings.mood", 1, "unexpected keyword argument 'mood'"),
    ("sampler.settings.logit_bias", [5], "sampler.settings.logit_bias is [5], expected an object"),
    ("sampler.settings.logit_bias", {"x": 1}, "has a sampler that cannot be: invalid literal"),
    ("sampler.settings.logit_bias", {"5": "x"}, "logit_bias of token 5 must be a number"),
    ("sampler.settings.banned_tokens", 5, "banned_tokens is 5, expected a list"),
    ("sampler.settings.banned_tokens", [{}], "a token of banned_tokens must be an integer"),
    ("sections", {}, "sections is {}, expected a list of objects"),
    ("sections", [5], "sections is [5], expected a list of objects"),
    ("sections.0.bytes", -64, "sections[0].bytes is -64, expected an integer from 0 to"),
    ("sections.0.bytes", 2**40, "sections[0].bytes is 1099511627776, expected an integer from 0"),
    ("sections.0.bytes", 2**29, "bytes and not of"),
    ("sections.0.bytes", 2300, "section state has 2300 bytes, expected 2304"),
    ("sections.0.name", "states", "has no section state"),
    ("sections.1.bytes", 1020, "section logits has 1020 bytes, expected 1024"),
    ("sections.2.bytes", 31, "section tokens has 31 bytes, expected a multiple of 4"),
    ("sections.2.name", "state", "sections[2].name is 'state', expected a name that no other"),
    ("sections.4.bytes", 4, "there are 5 counts, expected 1"),
]  # fmt: skip


def changed(header: Any, path: list[str], value: Any) -> None:
    for step in path[:-1]:
        header = header[int(step) if isinstance(header, list) else step]
    header[int(path[-1]) if isinstance(header, list) else path[-1]] = value


@pytest.mark.parametrize(("path", "value", "message"), LIES, ids=lambda value: str(value)[:40])
def test_every_lie_in_a_header_is_found_and_named(path, value, message, small_model, saved):
    header, data = taken_apart(saved)
    changed(header, path.split("."), value)
    found = refused(small_model, sealed(header, data))
    assert message in found
    assert found.startswith("the session: ")


@pytest.mark.parametrize(
    "path",
    [
        "kind", "sections", "needs.", "model", "model.name", "model.description",
        "model.fingerprint", "model.exact", "state", "state.dtype", "state.exact",
        "state.n_tokens", "state.tokens_hash", "state.arrays", "session", "session.tokens_before",
        "session.hash_before", "session.tokens_settled", "session.bytes_shown",
        "session.finish_reason", "sampler", "sampler.rng", "sampler.seed", "sampler.settings",
    ],
)  # fmt: skip
def test_every_field_that_is_missing_is_named(path, small_model, saved):
    header, data = taken_apart(saved)
    if path == "needs.":  # only a newer file is asked for it
        del header["needs"]
        assert refused(small_model, sealed(header, data, version=2)).endswith("has no field needs")
        return
    *parents, last = path.split(".")
    inside = header
    for parent in parents:
        inside = inside[parent]
    del inside[last]
    assert refused(small_model, sealed(header, data)) == f"the session: has no field {path}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[]", "the header is [], expected an object"),
        (b"\xff{}", "the header is no JSON: 'utf-8' codec"),
        (b"{", "the header is no JSON: "),
        (b'{"kind": NaN}', "NaN is no finite number"),
        (b'{"kind": 1e999}', "1e999 is no finite number"),
        (b'{"kind": 1, "kind": 2}', "an object has a field twice"),
        (b"[" * 100_000, "the header is no JSON: objects in objects without end"),
        (b'{"kind": ' + b"9" * 5000 + b"}", "the header is no JSON: Exceeds the limit"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_header_that_is_no_object_is_refused(text, message, small_model):
    assert message in refused(small_model, sealed(text, b""))


def test_sizes_that_no_file_has_allocate_nothing(small_model, saved):
    header, data = taken_apart(saved)
    assert "has a header of 4294967232 bytes, expected 1048576 at most" in refused(
        small_model, sealed(header, data, n_json=2**32 - 64)
    )
    assert "has 9223372036854775808 bytes of data, expected 1073741824 at most" in refused(
        small_model, sealed(header, data, n_data=2**63)
    )
    assert f"has {len(saved)} bytes, expected " in refused(
        small_model, sealed(header, data, n_data=2**30)
    )
    header["sections"][3]["bytes"] = 2**30 + 1
    assert "sections[3].bytes is 1073741825, expected an integer from 0 to 1073741824" in refused(
        small_model, sealed(header, data)
    )


def section(header: dict[str, Any], name: str) -> slice:
    begin = 0
    for entry in header["sections"]:
        if entry["name"] == name:
            return slice(begin, begin + entry["bytes"])
        begin += entry["bytes"] + -entry["bytes"] % ALIGNMENT
    raise KeyError(name)


@pytest.mark.parametrize(
    ("name", "dtype", "at", "value", "message"),
    [
        ("state", "<f4", 0, math.nan, "state array blocks.0.att.x holds nan at position 0"),
        ("state", "<f4", 35, math.inf, "state array blocks.0.att.wkv holds inf at position 3"),
        ("logits", "<f4", 9, -math.inf, "holds logits that are no finite numbers"),
        ("tokens", "<u4", 3, 256, "has token 256, expected ids below 256"),
        ("tokens", "<u4", 3, 2**32 - 1, "has token 4294967295, expected ids below 256"),
        ("tokens", "<u4", 3, 17, "do not lead to its state"),
        ("counted", "<u4", 1, 2**31, "token 2147483648 was counted, expected an id below 2^31"),
        ("counts", "<f8", 1, math.nan, "is nan, expected"),
        ("metadata", "u1", 0, ord("["), "section metadata is no JSON"),
    ],
)  # fmt: skip
def test_every_lie_in_the_data_is_found(name, dtype, at, value, message, small_model, saved):
    header, data = taken_apart(saved)
    changed_data = bytearray(data)
    np.frombuffer(changed_data, dtype, offset=section(header, name).start)[at] = value
    assert message in refused(small_model, sealed(header, bytes(changed_data)))


def test_too_much_metadata_is_refused_both_ways(small_model, saved):
    session = small_model.session()
    session.metadata["history"] = "x" * (16 * 2**20)
    with pytest.raises(
        ValueError, match=r"session\.metadata .*, expected a dict of at most 16777216"
    ):
        session.to_bytes()
    header, data = taken_apart(saved)
    at = section(header, "metadata")
    long = json.dumps({"history": "x" * (16 * 2**20)}).encode()
    header["sections"][-1]["bytes"] = len(long)
    long += bytes(-len(long) % ALIGNMENT)
    assert "section metadata has 16777231 bytes, expected 16777216 at most" in refused(
        small_model, sealed(header, data[: at.start] + long)
    )


def test_states_that_cannot_be_loaded_are_not_saved(small_model, tmp_path):
    session = conversation(small_model)
    arrays = session.state.to_numpy()
    arrays["blocks.0.att.wkv"][0, 1, 2] = np.nan
    session.state.assign(arrays)
    for save in (session.save, session.state.save):
        with pytest.raises(StateError, match=r"blocks\.0\.att\.wkv holds nan at position 18, exp"):
            save(tmp_path / "saved")
    arrays["blocks.0.att.wkv"][0, 1, 2] = 7e4
    session.state.assign(arrays)
    with pytest.raises(StateError, match=r"wkv holds 70000, expected at most 65504 for float16: s"):
        session.save(tmp_path / "saved", dtype="float16")
    assert list(tmp_path.iterdir()) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@given(data=st.data())
def test_no_header_whatever_gets_past(data, small_model, saved):
    """A value somewhere becomes another: it is refused by a StateError, or it changed nothing."""
    header, rest = taken_apart(saved)
    inside: Any = header
    while True:
        keys = range(len(inside)) if isinstance(inside, list) else sorted(inside)
        key = data.draw(st.sampled_from(keys))
        if not isinstance(inside[key], (dict, list)) or not inside[key] or data.draw(st.booleans()):
            break
        inside = inside[key]
    inside[key] = data.draw(json_values)
    with warnings.catch_warnings(), contextlib.suppress(StateError):
        warnings.simplefilter("ignore", ApproximateStateWarning)
        session = small_model.session_from_bytes(sealed(header, rest))
        assert session.state.n_tokens == len(session.tokens) == 8
        list(session.generate(max_tokens=2))


@given(noise=st.binary(max_size=200))
def test_noise_is_refused(noise, small_model):
    for data in (noise, MAGIC + noise, sealed(noise, noise)):
        assert refused(small_model, data)


# A disk that is full, a process that is killed


def run_python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


SAVE_TOO_MUCH = """
import errno, resource, signal, sys
import rwkvcpp
session = rwkvcpp.Model(threads=1).session()
session.feed("Once upon a time")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    session.save(sys.argv[1])
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_a_disk_without_room_keeps_the_old_file(tmp_path):
    path = tmp_path / "story.state"
    path.write_bytes(b"what was there before")
    child = run_python(SAVE_TOO_MUCH, path)
    assert child.communicate(timeout=60)[0] == "EFBIG\n"
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]


SAVE_FOREVER = """
import os, sys
import rwkvcpp
model = rwkvcpp.Model(threads=1)
sessions = []
for text in sys.argv[2:]:
    sessions.append(model.session())
    sessions[-1].feed(text)
    sessions[-1].to_bytes()  # imports what it takes, before there are children
os.write(1, b"ready\\n")
while sys.stdin.readline():  # a child for each line: it saves until it is killed
    parent, child = os.getpid(), os.fork()
    while child == 0:
        for session in sessions:
            session.save(sys.argv[1])
        if os.getppid() != parent:  # nobody is left to kill it
            os._exit(0)
    os.write(1, b"%d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"gone\\n")
"""


def test_a_killed_process_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "story.state"
    texts = ["Once upon a time", "Once upon a time there was a fox"]
    model = Model(threads=1)
    model.session().save(path)
    lengths = {len(model.tokenizer.encode(text)) for text in texts}
    seen = set()
    rng = np.random.default_rng(1)
    with run_python(SAVE_FOREVER, path, *texts, stdin=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == "ready\n"
        for _ in range(100):
            parent.stdin.write("again\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            time.sleep(rng.uniform(0, 0.008))  # anywhere between two of its instructions
            os.kill(child, signal.SIGKILL)
            assert parent.stdout.readline() == "gone\n"
            session = model.load_session(path)
            assert session.state.n_tokens == len(session.tokens)
            seen.add(len(session.tokens))
    assert seen - {0} == lengths
    # Some were killed while they wrote.
    assert any(part.suffix == ".part" for part in tmp_path.iterdir())

"""Checkpoints that lie, and those that want something executed: refused with a sentence."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rwkvcpp
from rwkvcpp.checkpoints import open_checkpoint, pickle_machine
from tests.data import checkpoint_files
from tests.reference import pth_writer
from tests.reference.pth_writer import View, call, dictionary, integer, name, text, tuple_of

ZEROS = bytes(64)


def refusal(path: Path) -> str:
    """The sentence that opening it is refused with, as a checkpoint and as a model."""
    with pytest.raises(rwkvcpp.RwkvError) as error:
        open_checkpoint(path)
    with pytest.raises(type(error.value)):
        rwkvcpp.Model(path)
    sentence = str(error.value)
    assert sentence.startswith(str(path.parent)), sentence
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


# ---- pickles that call something -----------------------------------------------------------------

CANARY = "hostile-checkpoint-canary"


class Exploit:
    """Pickles as a call of `function`, as real attacks do."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def touch(folder: Path) -> str:
    return f"touch {folder / CANARY}"


def exploits(folder: Path) -> dict[str, tuple[Any, str]]:
    """name -> (what is pickled, the name that the refusal must say)"""
    command = touch(folder)
    code = f"open({str(folder / CANARY)!r}, 'w').close()"
    return {
        "os.system": (Exploit(os.system, command), "posix.system"),
        "builtins.eval": (Exploit(eval, code), "builtin"),
        "builtins.exec": (Exploit(exec, code), "builtin"),
        "subprocess": (Exploit(subprocess.getoutput, command), "getoutput"),
        "among tensors": ({"emb.weight": Exploit(os.system, command)}, "posix.system"),
        "nested reduce": (Exploit(getattr, Exploit(__import__, "os"), "system"), "builtin"),
        "in a key": ({"a": [(Exploit(os.system, command), 1)]}, "posix.system"),
    }


def exploit_names() -> list[str]:
    return list(exploits(Path()))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("exploit", exploit_names())
def test_a_pickle_that_calls_something_is_refused_by_the_name_it_asked_for(
    exploit: str, legacy: bool, protocol: int, tmp_path: Path
) -> None:
    payload, asked = exploits(tmp_path)[exploit]
    data = pickle.dumps(payload, protocol)
    path = tmp_path / "model.pth"
    if legacy:
        head = [pth_writer.pickle(integer(n)) for n in (pth_writer.LEGACY_MAGIC, 1001)]
        writer = pth_writer.pickle(dictionary({"little_endian": b"\x88"}))
        path.write_bytes(b"".join(head) + writer + data)
    else:
        pth_writer.write_pickled(path, data, {})
    sentence = refusal(path)
    assert asked in sentence
    assert "nothing was executed" in sentence
    assert not (tmp_path / CANARY).exists()


@pytest.mark.parametrize("exploit", ["os.system", "builtins.eval", "among tensors"])
def test_the_exploits_are_real(exploit: str, tmp_path: Path) -> None:
    """Python's own unpickler runs them."""
    pickle.loads(pickle.dumps(exploits(tmp_path)[exploit][0]))
    assert (tmp_path / CANARY).exists()


SYSTEM = name("os", "system")


def memoized_system() -> bytes:
    """The name of one global made of pieces that were remembered for others."""
    pieces = text("os") + b"q\x00" + b"0" + text("system") + b"q\x01" + b"0"
    return pieces + b"h\x00h\x01\x93"


HAND_MADE = {
    "STACK_GLOBAL": (text("os") + text("system") + b"\x93", "os.system"),
    "STACK_GLOBAL of remembered names": (memoized_system(), "os.system"),
    "INST": (b"(" + text("x") + b"ios\nsystem\n", "os.system"),
    "OBJ": (b"(" + SYSTEM + text("x") + b"o", "os.system"),
    "NEWOBJ": (name("collections", "OrderedDict") + b")\x81", "NEWOBJ"),
    "EXT1": (b"\x82\x01", "EXT1"),
    "PERSID": (b"Pos.system\n", "PERSID"),
    "a call of a tensor's function with it": (
        call(name("torch._utils", "_rebuild_tensor_v2"), SYSTEM), "os.system"),
    "a dotted name": (name("torch._utils", "os.system"), "torch._utils.os.system"),
    "a name of torch that loads": (name("torch.storage", "_load_from_bytes"), "_load_from_bytes"),
    "torch.load": (name("torch", "load"), "torch.load"),
}  # fmt: skip


@pytest.mark.parametrize("trick", HAND_MADE)
def test_tricks_with_pickle_instructions_are_refused(trick: str, tmp_path: Path) -> None:
    instructions, asked = HAND_MADE[trick]
    path = pth_writer.write_pickled(tmp_path / "m.pth", pth_writer.pickle(instructions), {})
    assert asked in refusal(path)


WRONG = {
    "a call of no function": text("print") + text("x") + b"\x85R",
    "a call without a tuple": name("collections", "OrderedDict") + b"]R",
    "attributes of a tensor": (
        pth_writer.tensor(View("0", "FloatStorage", 16, (16,))) + dictionary({}) + b"b"
    ),
    "a tuple for a key": b"}" + tuple_of(text("a")) + text("b") + b"s",
    "items of a list": b"]" + text("a") + text("b") + b"s",
    "a list of a dictionary": b"}" + text("a") + b"a",
    "an empty stack": b"R",
    "no mark": b"t",
    "two objects": text("a") + text("b"),
    "memory that was never written": b"h\x07",
    "another persistent id": text("storage") + b"Q",
    "a storage of no known type": tuple_of(*map(text, ("storage", "x", "0", "cpu", "4"))) + b"Q",
    "a negative number of elements": (
        tuple_of(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"),
                 b"J\xff\xff\xff\xff") + b"Q"
    ),
    "a tensor of nothing": call(name("torch._utils", "_rebuild_tensor_v2")),
    "a shape of text": call(
        name("torch._utils", "_rebuild_tensor_v2"),
        pth_writer.persistent("0", "FloatStorage", 16),
        integer(0), tuple_of(text("4")), tuple_of(integer(1)),
    ),
    "a number": integer(7),
    "a tensor that is text": dictionary({"emb.weight": text("weights")}),
    "an unprintable name": dictionary(
        {"a\u202e\n": pth_writer.tensor(View("0", "FloatStorage", 16, (16,)))}),
    "a lone surrogate": dictionary(
        {"a\ud800": pth_writer.tensor(View("0", "FloatStorage", 16, (16,)))}),
    "text that is not UTF-8": b"X\x01\x00\x00\x00\xff",
    "an endless tuple": b")" + b"\x85" * 100_000,
    "an endless tuple as a key": b"}" + b")" + b"\x85" * 100_000 + text("x") + b"s",
    "a list in itself": b"]q\x00h\x00a",
    "a very large number": b"\x8b" + struct.pack("<I", 5000) + b"\x7f" * 5000,
    "a large place in memory": text("a") + b"r\xff\xff\xff\xff" + b"h\x01",
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_pickles_that_make_no_sense_are_refused(wrong: str, tmp_path: Path) -> None:
    data = pth_writer.pickle(WRONG[wrong])
    refusal(pth_writer.write_pickled(tmp_path / "m.pth", data, {"0": ZEROS}))


def test_a_state_dict_with_metadata_and_parameters_is_read(tmp_path: Path) -> None:
    """What modules save: an OrderedDict with attributes; tensors as parameters."""
    view = pth_writer.tensor(View("0", "FloatStorage", 16, (4, 4)))
    hooks = call(name("collections", "OrderedDict"))
    parameter = call(name("torch._utils", "_rebuild_parameter"), view, b"\x88", hooks)
    ordered = call(name("collections", "OrderedDict")) + b"(" + text("a") + parameter + b"u"
    state_dict = ordered + dictionary({"_metadata": dictionary({})}) + b"b"
    path = pth_writer.write_pickled(tmp_path / "m.pth", pth_writer.pickle(state_dict), {"0": ZEROS})
    assert open_checkpoint(path).tensors["a"].shape == (4, 4)


def test_files_of_other_makers_are_refused_by_what_they_are(tmp_path: Path) -> None:
    one = pth_writer.tensor(View("0", "FloatStorage", 16, (16,)))
    for key, words in {
        "_strategy": "pip package rwkv",
        "optimizer": "an optimizer",
        "state_dict": "weights under 'state_dict'",
    }.items():
        data = pth_writer.pickle(dictionary({"emb.weight": one, key: text("cpu fp32")}))
        path = pth_writer.write_pickled(tmp_path / "m.pth", data, {"0": ZEROS})
        assert words in refusal(path)
        path.unlink()


# ---- tensors that leave their storage ------------------------------------------------------------

OUT_OF_RANGE = {
    "longer than its storage": View("0", "FloatStorage", 16, (17,)),
    "an offset past the end": View("0", "FloatStorage", 16, (4,), offset=13),
    "a stride past the end": View("0", "FloatStorage", 16, (4, 4), (5, 1)),
    "a shape whose product overflows": View("0", "FloatStorage", 16, (2**62, 2**62), (0, 0)),
    "one element many times": View("0", "FloatStorage", 16, (2**40,), (0,)),
    "a dimension of 0": View("0", "FloatStorage", 16, (0, 4)),
    "no dimension": View("0", "FloatStorage", 16, ()),
    "more strides than dimensions": View("0", "FloatStorage", 16, (4,), (4, 1)),
    "five dimensions": View("0", "FloatStorage", 16, (1, 1, 1, 1, 2)),
    "a storage that is not there": View("1", "FloatStorage", 16, (16,)),
    "a storage of another size": View("0", "FloatStorage", 15, (15,)),
    "a storage of other numbers": View("0", "DoubleStorage", 8, (8,)),
    "a storage outside its folder": View("../data.pkl", "FloatStorage", 16, (16,)),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("lie", OUT_OF_RANGE)
def test_tensors_outside_their_storage_are_refused(lie: str, legacy: bool, tmp_path: Path) -> None:
    """The tensor's name is no model's, so that nothing else can be wrong with it."""
    path, views = tmp_path / "m.pth", {"a": OUT_OF_RANGE[lie]}
    if legacy:
        path.write_bytes(pth_writer.legacy_bytes(views, {"0": ZEROS}, item_bytes=4))
    else:
        pth_writer.write_views(path, views, {"0": ZEROS})
    sentence = refusal(path)
    assert "tensor a " in sentence or "storage" in sentence


def test_a_view_may_end_where_its_storage_ends(tmp_path: Path) -> None:
    view = View("0", "FloatStorage", 16, (2, 2), (8, 1), offset=6)
    path = pth_writer.write_views(tmp_path / "m.pth", {"a": view}, {"0": ZEROS})
    assert open_checkpoint(path).tensors["a"].read().shape == (2, 2)


def test_legacy_storages_must_have_the_size_that_the_tensors_say(tmp_path: Path) -> None:
    view = View("0", "FloatStorage", 16, (16,))
    data = pth_writer.legacy_bytes({"a": view}, {"0": ZEROS}, item_bytes=4)
    lying = data.replace(struct.pack("<q", 16) + ZEROS, struct.pack("<q", 17) + ZEROS)
    assert lying != data
    path = pth_writer.path_with(tmp_path / "m.pth", lying)
    assert "storage '0' has 17 elements, expected 16" in refusal(path)


# ---- archives that lie ---------------------------------------------------------------------------


def good_zip(folder: Path) -> Path:
    views = {"a": View("0", "FloatStorage", 16, (16,)), "b": View("1", "FloatStorage", 16, (16,))}
    return pth_writer.write_views(folder / "m.pth", views, {"0": ZEROS, "1": ZEROS})


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    """A few kilobytes that would become gigabytes."""
    entries = {"archive/data.pkl": bytes(10**6)}
    path = pth_writer.write_zip(tmp_path / "m.pth", entries, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    assert "compressed" in refusal(path)


def test_archives_without_a_pickle_are_refused(tmp_path: Path) -> None:
    path = pth_writer.write_zip(tmp_path / "m.zip", {"readme.txt": b"hello"})
    assert "0 entries data.pkl" in refusal(path)


def test_big_endian_checkpoints_are_refused(tmp_path: Path) -> None:
    data = pth_writer.pickle(dictionary({}))
    path = pth_writer.write_pickled(tmp_path / "m.pth", data, {}, byteorder="big")
    assert "byteorder is 'big', expected 'little'" in refusal(path)
    legacy = checkpoint_files.path("rwkv7-bf16-legacy.pth").read_bytes()
    marked = legacy.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89", 1)
    assert marked != legacy
    path = pth_writer.path_with(tmp_path / "legacy.pth", marked)
    assert "big-endian" in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = good_zip(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert "twice" in refusal(path)


def central_record(data: bytes, entry: bytes) -> int:
    """Where the central directory's record of an entry begins."""
    position = data.index(b"PK\x01\x02")
    while data[position + 46 : position + 46 + len(entry)] != entry:
        position = data.index(b"PK\x01\x02", position + 1)
    return position


def test_an_entry_inside_another_is_refused(tmp_path: Path) -> None:
    """What makes small bombs large: the same bytes as many entries."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/data/1", ZEROS)
    whole_entry = inner.getvalue()[: inner.getvalue().index(b"PK\x01\x02")]
    n = len(whole_entry) // 4
    views = {"a": View("0", "FloatStorage", n, (n,)), "b": View("1", "FloatStorage", 16, (16,))}
    path = pth_writer.write_views(
        tmp_path / "m.pth", views, {"0": whole_entry[: 4 * n], "1": ZEROS}
    )
    assert open_checkpoint(path).tensors.keys() == {"a", "b"}
    data = bytearray(path.read_bytes())
    record = central_record(bytes(data), b"archive/data/1")
    data[record + 42 : record + 46] = struct.pack("<I", data.index(whole_entry[: 4 * n]))
    path.write_bytes(data)
    assert "inside 'archive/data/0'" in refusal(path)


def test_an_entry_with_the_header_of_another_is_refused(tmp_path: Path) -> None:
    path = good_zip(tmp_path)
    data = bytearray(path.read_bytes())
    first, second = (central_record(bytes(data), f"archive/data/{i}".encode()) for i in (0, 1))
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)
    assert "another name in its own header" in refusal(path)


def test_entries_longer_than_the_file_are_refused(tmp_path: Path) -> None:
    path = good_zip(tmp_path)
    data = bytearray(path.read_bytes())
    record = central_record(bytes(data), b"archive/data/1")
    for at in (20, 24):  # the compressed size and the size
        data[record + at : record + at + 4] = struct.pack("<I", 10**6)
    path.write_bytes(data)
    assert "ends at byte" in refusal(path)


@pytest.mark.parametrize("file", ["rwkv7-bf16.pth", "rwkv7-bf16-legacy.pth"])
def test_checkpoints_cut_short_are_refused(file: str, tmp_path: Path) -> None:
    data = checkpoint_files.path(file).read_bytes()
    path = tmp_path / "m.pth"
    for n in [*range(1, 200, 7), len(data) // 2, len(data) - 30, len(data) - 1]:
        path.write_bytes(data[:n])
        refusal(path)


# ---- safetensors that lie ------------------------------------------------------------------------


def write_header(path: Path, header: object, data: bytes = ZEROS) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


LYING_HEADERS: dict[str, tuple[object, str]] = {
    "overlap": ({"a": entry(0, 64, [16]), "b": entry(32, 64, [8])}, "begins at byte 32"),
    "out of range": ({"a": entry(0, 128, [32])}, "has 64 bytes of data, expected 128"),
    "a hole": ({"a": entry(0, 16, [4]), "b": entry(32, 64, [8])}, "begins at byte 32"),
    "bytes nobody owns": ({"a": entry(0, 16, [4])}, "has 64 bytes of data, expected 16"),
    "a wrong size": ({"a": entry(0, 64, [15])}, "has 64 bytes, expected 60"),
    "end before begin": ({"a": entry(64, 0, [16])}, "has -64 bytes"),
    "a negative offset": ({"a": entry(-64, 0, [16])}, "no data_offsets"),
    "a shape that overflows": ({"a": entry(0, 64, [2**62, 4])}, "expected"),
    "numbers that are no integers": ({"a": entry(0, 64, [16.0])}, "no shape"),  # type: ignore
    "true as a number": ({"a": entry(0, 64, [True])}, "no shape"),
    "no dimensions": ({"a": entry(0, 4, [])}, "expected 1 to 4 dimensions"),
    "a dimension of 0": ({"a": entry(0, 0, [0])}, "none of them 0"),
    "another type": ({"a": entry(0, 64, [8], "F64")}, "is F64, expected F32, F16, BF16"),
    "a type that is no text": ({"a": entry(0, 64, [8], [])}, "is [], expected"),  # type: ignore
    "no entry": ({"a": [1, 2]}, "described by no JSON object"),
    "a name twice": (b'{"a":{"dtype":"F32"},"a":{"dtype":"F32"}}', "'a' is there twice"),
    "a list": (b'{"a":1}'.replace(b"{", b"{[", 1), "is damaged"),
    "no JSON": (b"{" * 40, "is damaged"),
    "endless JSON": (b'{"a":' * 100_000, "is damaged"),
    "no UTF-8": (b'{"\xff": 1}', "is damaged"),
    "an unprintable name": ({"a\n": entry(0, 64, [16])}, "printable"),
    "metadata that is a list": ({"__metadata__": [], "a": entry(0, 64, [16])}, "__metadata__"),
}


@pytest.mark.parametrize("lie", LYING_HEADERS)
def test_safetensors_headers_that_lie_are_refused(lie: str, tmp_path: Path) -> None:
    header, words = LYING_HEADERS[lie]
    assert words in refusal(write_header(tmp_path / "m.safetensors", header))


@pytest.mark.parametrize("length", [57, 65, 2**31, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{" + bytes(48))
    assert f"the header takes {length} bytes" in refusal(path)


# ---- shards --------------------------------------------------------------------------------------


def write_index(folder: Path, weight_map: object) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    return index


SHARD = {"a": entry(0, 64, [16])}


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_header(tmp_path / "one.safetensors", SHARD)
    index = write_index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    expected = f"{index}: shard two.safetensors is missing from the folder"
    assert refusal(index) == expected
    with pytest.raises(rwkvcpp.ModelFormatError, match=r"shard two\.safetensors is missing"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "one.safetensors", "b": "one.safetensors"}, "has no tensor b"),
        ({"a": "../one.safetensors"}, "expected the name of a file in the same folder"),
        ({"a": "/etc/passwd"}, "expected the name of a file in the same folder"),
        ({"a": 7}, "expected the name of a file in the same folder"),
        ({}, "has no weight_map"),
        ([], "has no weight_map"),
        ({"a": "two.safetensors"}, "which the index has elsewhere"),
        ({"a": "model.safetensors.index.json"}, "begins with"),
    ],
)
def test_indices_that_lie_are_refused(weight_map: object, words: str, tmp_path: Path) -> None:
    write_header(tmp_path / "one.safetensors", SHARD)
    both = {"a": entry(0, 32, [8]), "b": entry(32, 64, [8])}
    write_header(tmp_path / "two.safetensors", both)
    assert words in refusal(write_index(tmp_path, weight_map))


# ---- what is no checkpoint -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (pickle.dumps({"a": 1}), "no PyTorch checkpoint"),
        (b"\x1f\x8b\x08" + bytes(20), "gzip"),
        (bytes(257) + b"ustar\x0000" + bytes(250), "before 0.4"),
        (b"GGJT" + bytes(40), "begins with"),
    ],
)
def test_other_files_are_refused_by_what_they_are(data: bytes, words: str, tmp_path: Path) -> None:
    assert words in refusal(pth_writer.path_with(tmp_path / "m.pth", data))


def test_a_folder_without_weights_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(rwkvcpp.UnsupportedError, match=r"holds none of model\.safetensors"):
        open_checkpoint(tmp_path)


# ---- anything at all -----------------------------------------------------------------------------

anything = settings(max_examples=200, deadline=None)


def outcome(path: Path) -> str:
    """ "ok" or the kind of refusal; anything else is a bug that fails the test."""
    try:
        checkpoint = open_checkpoint(path)
        for tensor in checkpoint.tensors.values():
            tensor.read_rows(0, 1)
    except rwkvcpp.RwkvError as error:
        return type(error).__name__
    return "ok"


def no_storage(_: Any) -> pickle_machine.Storage:
    return pickle_machine.Storage("float32", "0", 16)


OPCODES = [
    bytes([code])
    for code in b"\x80(})]XJKM\x8aqrhjt\x85\x86\x87Rcu.aesbQ\x88\x89NGUT0\x94\x8c\x95\x93"
]
GLOBALS = [name("torch._utils", "_rebuild_tensor_v2"), name("collections", "OrderedDict"),
           name("torch", "FloatStorage"), SYSTEM, text("a"), integer(3), tuple_of(integer(4)),
           pth_writer.persistent("0", "FloatStorage", 16)]  # fmt: skip


@anything
@given(st.lists(st.sampled_from(OPCODES + GLOBALS) | st.binary(max_size=6), max_size=40))
def test_no_pickle_gets_past_the_machine_but_as_plain_data(parts: list[bytes]) -> None:
    stream = io.BytesIO(b"".join(parts) + b".")
    try:
        found = pickle_machine.load(stream, "m.pth", find_storage=no_storage)
    except rwkvcpp.RwkvError:
        return
    assert type(found).__module__ in ("builtins", pickle_machine.__name__)


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """The file with some bytes changed, and perhaps cut."""
    change = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255))

    def apply(changes: list[tuple[int, int]], end: int) -> bytes:
        changed = bytearray(data)
        for at, value in changes:
            changed[at] = value
        return bytes(changed[:end])

    ends = st.just(len(data)) | st.integers(0, len(data))
    return st.builds(apply, st.lists(change, max_size=8), ends)


SEEDS: Mapping[str, bytes] = {
    file: checkpoint_files.path(file).read_bytes() for file in ("views.pth",)
}
LEGACY_SEED = pth_writer.legacy_bytes(
    {"a": View("0", "FloatStorage", 16, (4, 4))}, {"0": ZEROS}, item_bytes=4
)
SAFETENSORS_SEED = (lambda text: struct.pack("<Q", len(text)) + text + ZEROS)(
    json.dumps({"a": entry(0, 32, [8]), "b": entry(32, 64, [2, 4])}).encode()
)


@pytest.mark.parametrize("seed", [SEEDS["views.pth"], LEGACY_SEED, SAFETENSORS_SEED],
                         ids=["zip", "legacy", "safetensors"])  # fmt: skip
def test_damaged_files_are_read_or_refused(
    seed: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "m.pth"

    @anything
    @given(mutated(seed))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        assert outcome(path) in ("ok", "ModelFormatError", "UnsupportedError")

    check()


@anything
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "a"]),
                      inner, max_size=5),
    max_leaves=12,
))  # fmt: skip
def test_any_json_may_stand_in_a_safetensors_header(
    tmp_path_factory: pytest.TempPathFactory, header: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    write_header(path, {"a": header})
    assert outcome(path) in ("ok", "ModelFormatError", "UnsupportedError")


def test_numpy_scalars_beside_the_weights_are_refused_by_name(tmp_path: Path) -> None:
    data = pickle.dumps({"emb.weight": np.float64(3)}, 2)
    path = pth_writer.write_pickled(tmp_path / "m.pth", data, {})
    assert "numpy" in refusal(path)

"""Importances go by the names of GGUF, and through llama.cpp's files."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import rwkvcpp
from rwkvcpp import _core
from rwkvcpp.cli import main
from rwkvcpp.imatrix import Imatrix, Importance, collect
from rwkvcpp.imatrix_directions import common_directions
from rwkvcpp.imatrix_file import read_imatrix, write_imatrix
from rwkvcpp.predictions import Plan
from tests.python.test_importances import collecting, expected_squares
from tests.reference.cases import TOKENS, Case
from tests.reference.checkpoints import Sizes
from tests.reference.layouts import gguf_name
from tests.reference.writers import write_bin

ModelFile = Callable[[Case], Path]

BYTES = Case("7", "gguf", "F16", Sizes(n_embd=128, n_ffn=448, n_vocab=256))


@pytest.fixture(scope="module")
def bytes_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of bytes, away from models of the same name."""
    return BYTES.write(tmp_path_factory.mktemp("bytes"))


TEXT = b"Once upon a time there was a fox, and a bear, who lived in a wood. " * 10


# ---- by tensors of files ---------------------------------------------------------------------


@pytest.mark.parametrize("version", ["6", "7"])
def test_importances_go_by_the_names_of_gguf(version: str, model_file: ModelFile) -> None:
    path = model_file(Case(version, "bin", "F32"))
    found, scores = collect(collecting(path), TOKENS, Plan(8), dataset="some.txt")
    inputs = TOKENS[:-1]
    squares, rows = expected_squares(path, [inputs[:8], inputs[8:16], inputs[16:]])
    joined: dict[str, list[np.ndarray]] = defaultdict(list)
    for name in sorted(squares, key=lambda name: "wkvrg".find(name[-1])):
        joined[gguf_name(version, name.split("w2.")[0] + ("w2" if "w2." in name else ""))].append(
            squares[name] / rows[name]
        )
    assert found.tensors.keys() == joined.keys()
    for name, parts in joined.items():
        assert np.allclose(found.tensors[name].mean_squares(), parts, rtol=1e-2, atol=1e-9), name
    assert (found.datasets, found.n_chunks, found.chunk_size) == (("some.txt",), 3, 8)
    assert len(scores.losses) == len(inputs)


def test_what_version_6_has_five_matrices_in_has_five_rows(model_file: ModelFile) -> None:
    found, _ = collect(collecting(model_file(Case("6", "bin", "F32"))), TOKENS)
    assert found.tensors["blk.1.time_mix_w2.weight"].sums.shape == (5, 32)
    assert found.tensors["blk.1.time_mix_w2.weight"].counts.tolist() == [len(TOKENS) - 1] * 5
    assert found.tensors["blk.1.time_mix_w1.weight"].sums.shape == (1, 128)


@pytest.mark.parametrize("version", ["4", "5.2"])
def test_versions_that_llama_cpp_lacks_have_names_of_the_same_kind(
    version: str, model_file: ModelFile
) -> None:
    found, _ = collect(collecting(model_file(Case(version, "bin", "F32"))), TOKENS)
    assert {"output.weight", "blk.2.time_mix_key.weight"} <= found.tensors.keys()
    assert not any(name.startswith("blocks.") for name in found.tensors)


def test_matrices_that_nothing_meets_are_left_out(bytes_path: Path) -> None:
    found, _ = collect(collecting(bytes_path), list(b"Once upon a time"))
    assert "blk.0.time_mix_v1.weight" not in found.tensors  # layer 0 mixes no values
    assert "blk.1.time_mix_v1.weight" in found.tensors
    assert "token_embd.weight" not in found.tensors


def test_inputs_that_no_file_can_hold_are_an_error(tmp_path: Path) -> None:
    checkpoint = dict(Case("7", "bin", "F32").checkpoint())
    checkpoint["blocks.1.ffn.key.weight"] = checkpoint["blocks.1.ffn.key.weight"] * 1e10
    checkpoint["blocks.1.ffn.value.weight"] = checkpoint["blocks.1.ffn.value.weight"] * 0
    write_bin(tmp_path / "huge.bin", checkpoint, "F32")
    expected = r"huge\.bin: the squares of what tensor blocks\.1\.ffn\.value\.weight is .* to inf"
    with pytest.raises(rwkvcpp.RwkvError, match=expected):
        collect(collecting(tmp_path / "huge.bin"), TOKENS)


# ---- using -----------------------------------------------------------------------------------


def test_rare_inputs_are_raised_where_they_are_used_and_not_in_the_file(tmp_path: Path) -> None:
    sums = np.array([[0, 4, 396, 0], [8, 8, 8, 8]], np.float32)
    importance = Importance(sums, np.array([4, 4], np.float32))
    assert importance.mean_squares().tolist() == [[0, 1, 99, 0], [2, 2, 2, 2]]
    assert importance.weights(4).tolist() == [[0.25, 1, 99, 0.25], [2, 2, 2, 2]]
    assert importance.weights(2).shape == (4, 2)
    write_imatrix(tmp_path / "x.gguf", Imatrix({"x": importance}))
    assert np.array_equal(read_imatrix(tmp_path / "x.gguf").tensors["x"].sums, sums)


def test_what_has_met_nothing_weighs_one() -> None:
    sums, counts = np.zeros((2, 3), np.float32), np.array([0, 7], np.float32)
    assert Importance(sums, counts).mean_squares().tolist() == [[1, 1, 1], [0, 0, 0]]
    assert Importance(sums, counts).weights(3).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_importances_of_another_width_are_refused() -> None:
    importance = Importance(np.ones((1, 6), np.float32), np.ones(1, np.float32))
    with pytest.raises(ValueError, match="there are 6 inputs, expected a multiple of 4"):
        importance.weights(4)


# ---- what inputs have in common --------------------------------------------------------------


def sketch_of(rows: np.ndarray) -> np.ndarray:
    signs = _core.sketch_signs(rows.shape[1])
    return (rows.T @ (rows @ signs)).astype(np.float32)


def test_directions_are_where_inputs_go_together() -> None:
    rng = np.random.default_rng(5)
    shared = rng.normal(size=(4000, 3)) * [4, 2, 1]
    rows = shared @ rng.normal(size=(3, 200)) + 0.5 * rng.normal(size=(4000, 200))
    common = common_directions(sketch_of(rows), len(rows)).astype(np.float64)
    assert common.shape == (16, 200)
    sizes = np.linalg.norm(common, axis=1)
    assert (np.diff(sizes) <= 0).all()
    assert sizes[3] < 0.1 * sizes[2]
    moments = rows.T @ rows / len(rows)
    left = np.linalg.eigvalsh(moments - common.T @ common)
    assert left[-1] < 0.01 * np.linalg.eigvalsh(moments)[-3]
    assert left[0] > -1e-4 * np.trace(moments)  # nowhere more than there is


@pytest.mark.parametrize("value", [0.0, np.inf])
def test_inputs_that_tell_nothing_have_no_directions(value: float) -> None:
    sketch = np.full((40, 64), value, np.float32)
    assert common_directions(sketch, 10).shape == (0, 40)


def test_projections_and_the_head_have_directions(bytes_path: Path) -> None:
    found, _ = collect(collecting(bytes_path), list(TEXT[:200]))
    with_directions = {name for name, found in found.tensors.items() if found.common is not None}
    layer = [name for name in with_directions if name.startswith("blk.1.")]
    assert "output.weight" in with_directions
    assert sorted(layer) == [
        f"blk.1.{part}.weight"
        for part in (
            "channel_mix_key",
            "channel_mix_value",
            "time_mix_key",
            "time_mix_output",
            "time_mix_receptance",
            "time_mix_value",
        )
    ]


# ---- files -----------------------------------------------------------------------------------


SOME = Imatrix(
    {
        "blk.0.time_mix_key.weight": Importance(
            np.arange(64, dtype=np.float32)[None, :],
            np.array([1000], np.float32),
            np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(3, 64),
        ),
        "blk.0.time_mix_w2.weight": Importance(
            np.arange(10, dtype=np.float32).reshape(5, 2), np.full(5, 7, np.float32)
        ),
    },
    datasets=("one.txt", "two.txt"),
    n_chunks=2,
    chunk_size=512,
)


def assert_same(found: Imatrix, expected: Imatrix) -> None:
    assert found.tensors.keys() == expected.tensors.keys()
    for name, importance in expected.tensors.items():
        assert np.array_equal(found.tensors[name].sums, importance.sums), name
        assert np.array_equal(found.tensors[name].counts, importance.counts), name
        common = found.tensors[name].common
        assert (common is None) == (importance.common is None), name
        assert importance.common is None or np.array_equal(common, importance.common), name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_imatrix(tmp_path / "some.gguf", SOME)
    return tmp_path / "some.gguf"


def test_what_was_written_is_read(path: Path) -> None:
    found = read_imatrix(path)
    assert_same(found, SOME)
    assert (found.datasets, found.n_chunks, found.chunk_size) == (SOME.datasets, 2, 512)


def test_the_file_is_as_llama_cpp_has_it(path: Path) -> None:
    reader = gguf.GGUFReader(path)
    keys = {key: part.contents() for key, part in reader.fields.items() if key[:4] != "GGUF"}
    assert keys == {
        "general.type": "imatrix",
        "imatrix.datasets": ["one.txt", "two.txt"],
        "imatrix.chunk_count": 2,
        "imatrix.chunk_size": 512,
    }
    tensors = {t.name: (t.tensor_type.name, t.shape.tolist()) for t in reader.tensors}
    assert tensors == {
        "blk.0.time_mix_key.weight.in_sum2": ("F32", [64, 1]),
        "blk.0.time_mix_key.weight.counts": ("F32", [1, 1]),
        "blk.0.time_mix_key.weight.in_common": ("F32", [64, 3]),  # passed over by llama.cpp
        "blk.0.time_mix_w2.weight.in_sum2": ("F32", [2, 5]),
        "blk.0.time_mix_w2.weight.counts": ("F32", [1, 5]),
    }


def write_tensors(path: Path, tensors: dict[str, np.ndarray], **keys: Any) -> Path:
    """A GGUF file as other programs may write it."""
    writer = gguf.GGUFWriter(path, "none")
    writer.add_type(keys.pop("type", "imatrix"))
    for key, value in keys.items():
        add = writer.add_string if isinstance(value, str) else writer.add_uint32
        add(f"imatrix.{key}", value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_files_may_lack_keys_and_have_sums_that_are_no_squares(tmp_path: Path) -> None:
    one = np.ones((1, 1), np.float32)
    sums = np.arange(32, dtype=np.float32)[None, :]
    path = write_tensors(
        tmp_path / "x.gguf", {"x.in_sum": -sums, "x.in_sum2": sums, "x.counts": one}
    )
    found = read_imatrix(path)
    assert_same(found, Imatrix({"x": Importance(sums, np.ones(1, np.float32))}))
    assert (found.datasets, found.n_chunks, found.chunk_size) == ((), 0, 512)


ONES = np.ones((2, 32), np.float32)
BAD = np.where(np.arange(32) == 5, np.float32(np.nan), np.float32(1))[None, :]


@pytest.mark.parametrize(
    ("tensors", "keys", "problem"),
    [
        ({"x.in_sum2": ONES}, {}, "of x.in_sum2 and x.counts only one is there"),
        ({"x.counts": ONES}, {}, "of x.in_sum2 and x.counts only one is there"),
        ({"x.in_sum2": ONES, "x.counts": ONES[:, :3]}, {}, "tensor x has 6 counts for 2 matrices"),
        ({"x.in_sum2": BAD, "x.counts": ONES[:1, :1]}, {}, "tensor x has nan among its sums of"),
        ({"x.in_sum2": -ONES, "x.counts": ONES[:, :1]}, {}, "tensor x has -1.0 among its sums of"),
        ({"x.in_sum2": ONES, "x.counts": -ONES[:, :1]}, {}, "tensor x has -1.0 among its counts"),
        ({"x.in_sum2": ONES, "x.counts": ONES[:, :1].astype(np.float16)}, {}, "x.counts is F16"),
        ({}, {"datasets": "one.txt"}, "imatrix.datasets is 'one.txt', expected names"),
        (
            {"x.in_sum2": ONES, "x.counts": ONES[:, :1], "x.in_common": ONES},
            {},
            r"tensor x.in_common is \[2, 32\] beside sums of \[2, 32\], expected directions",
        ),
        (
            {"x.in_sum2": ONES[:1], "x.counts": ONES[:1, :1], "x.in_common": ONES[:, :16]},
            {},
            r"tensor x.in_common is \[2, 16\] beside sums of \[1, 32\], expected directions",
        ),
        (
            {"x.in_sum2": ONES[:1], "x.counts": ONES[:1, :1], "x.in_common": BAD},
            {},
            "tensor x.in_common has nan, expected finite numbers",
        ),
        ({"x": ONES}, {}, "holds no importances"),
        ({}, {"chunk_count": "many"}, "imatrix.chunk_count is 'many', expected a number"),
    ],
)
def test_importances_that_make_no_sense_are_refused(
    tensors: dict[str, np.ndarray], keys: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    path = write_tensors(tmp_path / "x.gguf", tensors, **keys)
    with pytest.raises(rwkvcpp.ModelFormatError, match=rf"x\.gguf: .*{problem}"):
        read_imatrix(path)


def test_a_model_is_no_imatrix_and_an_imatrix_no_model(path: Path) -> None:
    with pytest.raises(rwkvcpp.UnsupportedError, match='"model", expected "imatrix"'):
        read_imatrix(rwkvcpp.bundled_model())
    with pytest.raises(rwkvcpp.UnsupportedError, match='"imatrix", expected "model"'):
        rwkvcpp.Model(path)


def test_files_that_end_too_soon_or_lie_are_refused(path: Path) -> None:
    whole = path.read_bytes()
    for n in range(4, len(whole) - 32, 7):  # behind it is padding
        path.write_bytes(whole[:n])
        with pytest.raises(rwkvcpp.RwkvError, match=r"some\.gguf: "):
            read_imatrix(path)
    for at in range(4, 400):
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        try:
            read_imatrix(path)  # it may have hit a name
        except rwkvcpp.RwkvError as error:
            assert "some.gguf: " in str(error)  # noqa: PT017


# ---- .dat ------------------------------------------------------------------------------------


def dat(*entries: tuple[bytes, int, list[float]], tail: bytes = b"") -> bytes:
    parts = [struct.pack("<i", len(entries))]
    for name, calls, values in entries:
        parts += [struct.pack("<i", len(name)), name, struct.pack("<ii", calls, len(values))]
        parts.append(np.array(values, "<f4").tobytes())
    return b"".join(parts) + tail


KEY = b"blk.0.time_mix_key.weight"
WHOLE_DAT = dat((KEY, 4, [4.0, 8.0]), (b"output.weight", 2, [1.0]),
                tail=struct.pack("<ii", 9, 7) + b"one.txt")  # fmt: skip


def test_the_older_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.dat"
    path.write_bytes(WHOLE_DAT)
    found = read_imatrix(path)
    assert found.tensors["blk.0.time_mix_key.weight"].mean_squares().tolist() == [[1, 2]]
    assert found.tensors["output.weight"].mean_squares().tolist() == [[0.5]]
    assert (found.datasets, found.n_chunks) == (("one.txt",), 9)
    path.write_bytes(dat((KEY, 4, [4.0, 8.0])))  # as they were first
    assert read_imatrix(path).datasets == ()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "ends in the number of entries, with 0 bytes from byte 0 on, expected 4"),
        (dat(), "the number of entries is 0 at byte 0, expected 1 to"),
        (b"\xff\xff\xff\x7f", "the number of entries is 2147483647"),
        (WHOLE_DAT[:4] + b"\xff\xff\0\0", "the length of the name of a tensor is 65535"),
        (WHOLE_DAT[:8], "ends in the name of a tensor"),
        (dat((KEY, -1, [4.0])), "the number of calls of blk.0.time_mix_key.weight is -1"),
        (dat((KEY, 1, [])), "the number of values of blk.0.time_mix_key.weight is 0"),
        (dat((KEY, 1, [1.0, 2.0]))[:-1], "ends in the values of blk.0.time_mix_key.weight, with 7"),
        (dat((KEY, 1, [1.0]), (KEY, 1, [1.0])), "blk.0.time_mix_key.weight is there twice"),
        (dat((KEY, 1, [float("inf")])), "has inf among its sums of squares"),
        (WHOLE_DAT[:-1], "ends in the name of the text"),
    ],
)
def test_older_files_that_are_damaged_are_refused(
    data: bytes, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "old.dat").write_bytes(data)
    with pytest.raises(rwkvcpp.ModelFormatError, match=rf"old\.dat: .*{problem}"):
        read_imatrix(tmp_path / "old.dat")


# ---- the command -----------------------------------------------------------------------------


def test_the_command_writes_what_was_collected(
    bytes_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "out.gguf"
    text.write_bytes(TEXT)
    model = str(bytes_path)
    assert main(["imatrix", "-m", model, "-f", str(text), "-o", str(out), "--limit", "600"]) == 0
    told, problems = capsys.readouterr()
    assert problems == ""
    assert "600 tokens of text.txt, perplexity" in told
    expected, _ = collect(collecting(Path(model)), list(TEXT[:601]))
    found = read_imatrix(out)
    assert_same(found, expected)
    assert (found.datasets, found.n_chunks, found.chunk_size) == (("text.txt",), 2, 512)


def test_a_command_that_fails_leaves_no_file(
    bytes_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"x")
    own = ["imatrix", "-m", str(bytes_path), "-f", str(text)]
    assert main([*own, "-o", str(tmp_path / "out.gguf")]) == 2
    assert "the text is one token" in capsys.readouterr().err
    text.write_bytes(TEXT)
    assert main([*own, "-o", str(tmp_path / "no" / "out.gguf")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


# ---- trained models --------------------------------------------------------------------------


def test_rare_channels_are_seen_in_the_story_model(shared: Path) -> None:
    story = json.loads((shared / "demo" / "expected.json").read_text())["tokens"]
    found, _ = collect(collecting(shared / "demo" / "rwkv7-stories-f16.gguf"), story)
    hidden = found.tensors["blk.3.channel_mix_value.weight"]
    assert (hidden.mean_squares() == 0).mean() > 0.1  # ReLU² after so short a text
    assert (hidden.weights(1024) > 0).all()

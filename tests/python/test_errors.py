"""Bad input: each of our errors is one sentence about a file, and leaves everything as it was."""

import errno
import io
import pickle
from pathlib import Path

import numpy as np
import pytest

import rwkvcpp
from rwkvcpp.cli import main


@pytest.fixture(scope="module")
def model() -> rwkvcpp.Model:
    return rwkvcpp.Model()


@pytest.fixture(scope="module")
def whole() -> bytes:
    return rwkvcpp.bundled_model().read_bytes()


def refusal(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """The one line that a refused command leaves; it must exit with 2 and print nothing else."""
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("rwkvcpp: error: ")
    return line.removeprefix("rwkvcpp: error: ")


def make_bad_file(kind: str, folder: Path, whole: bytes) -> Path:
    path = folder / "bad.gguf"
    match kind:
        case "missing":
            pass
        case "directory":
            path.mkdir()
        case "empty":
            path.touch()
        case "garbage":
            path.write_bytes(bytes(range(256)) * 64)
        case "text":
            path.write_text("Once upon a time there was a file that was no model.\n" * 20)
        case "version":
            path.write_bytes(whole[:4] + (99).to_bytes(4, "little") + whole[8:])
        case "counts":
            path.write_bytes(whole[:8] + b"\xff" * 16 + whole[24:])
        case "magic alone":
            path.write_bytes(whole[:4])
        case "header cut":
            path.write_bytes(whole[:500])
        case "tensors cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "last byte cut":
            path.write_bytes(whole[:-1])
    return path


BAD_FILES = {
    "missing": FileNotFoundError,
    "directory": rwkvcpp.UnsupportedError,  # it may be a folder of weights; this one is none
    "empty": rwkvcpp.ModelFormatError,
    "garbage": rwkvcpp.RwkvError,
    "text": rwkvcpp.RwkvError,
    "version": rwkvcpp.RwkvError,
    "counts": rwkvcpp.ModelFormatError,
    "magic alone": rwkvcpp.ModelFormatError,
    "header cut": rwkvcpp.ModelFormatError,
    "tensors cut": rwkvcpp.ModelFormatError,
    "last byte cut": rwkvcpp.ModelFormatError,
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_one_sentence_that_names_it(kind, tmp_path, whole, capsys):
    path = make_bad_file(kind, tmp_path, whole)
    with pytest.raises(BAD_FILES[kind]) as caught:
        rwkvcpp.Model(path)
    assert str(path) in str(caught.value) or path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    for command in (("info", str(path)), ("generate", "-m", str(path), "-p", "Once")):
        line = refusal(capsys, *command)
        assert path.name in line
        assert "Errno" not in line


@pytest.mark.parametrize("share", [k / 23 for k in range(23)])
def test_a_file_cut_anywhere_is_refused(share, tmp_path, whole):
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * share)])
    for use in (rwkvcpp.Model, rwkvcpp.model_info):
        with pytest.raises(rwkvcpp.ModelFormatError, match=r"cut\.gguf"):
            use(path)


def test_missing_files_are_the_errors_that_python_knows(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        rwkvcpp.Model(tmp_path / "nowhere.gguf")
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(tmp_path / "nowhere.gguf")


def test_an_except_clause_knows_them_too(tmp_path):
    """Python 3.10 asks the class that the core named, which need not be that of the error."""
    caught = None
    try:
        rwkvcpp.Model(tmp_path / "nowhere.gguf")
    except FileNotFoundError as error:
        caught = error
    assert caught is not None


# Wrong arguments on the command line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-tokens", "-1"], ["--max-tokens", "-1", "negative"]),
        (["--top-p", "nan"], ["top_p", "nan"]),
        (["--temperature", "-1"], ["temperature", "-1"]),
        (["--temperature", "inf"], ["temperature", "inf"]),
        (["--top-k", "-2"], ["top_k", "-2"]),
        (["--presence-penalty", "nan"], ["presence_penalty", "nan"]),
        (["--threads", "0"], ["threads", "0"]),
        (["--stop", ""], ["stop"]),
        (["--group-norm-eps", "nan"], ["group_norm_eps", "nan"]),
        (["--tokenizer", "nowhere.txt"], ["nowhere.txt"]),
        (["--logit-bias", "999999=1"], ["999999", "4096"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_value_is_named_with_what_was_found(options, words, capsys):
    line = refusal(capsys, "generate", "--quiet", "-p", "Once upon", *options)
    assert [word for word in words if word not in line] == []


def test_a_vocabulary_of_another_kind_is_refused(tmp_path, capsys):
    vocabulary = tmp_path / "vocabulary.txt"
    vocabulary.write_text("this is no vocabulary\n")
    line = refusal(capsys, "generate", "-q", "-p", "Once", "--tokenizer", str(vocabulary))
    assert "vocabulary.txt" in line


def test_no_prompt_for_a_real_model_says_how_to_give_one(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    line = refusal(capsys, "generate", "-m", str(rwkvcpp.bundled_model()))
    assert "-p TEXT" in line


def test_usage_errors_exit_with_2(capsys):
    for command in ([], ["sing"], ["generate", "--max-tokens", "many"], ["generate", "--nonsense"]):
        with pytest.raises(SystemExit, match=r"^2$"):
            main(command)
    assert "usage: rwkvcpp" in capsys.readouterr().err


def test_debug_shows_where_it_happened(monkeypatch, capsys):
    monkeypatch.setenv("RWKVCPP_DEBUG", "1")
    assert main(["info", "nowhere.gguf"]) == 2
    assert "Traceback" in capsys.readouterr().err


# Wrong arguments in Python


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"threads": 0}, ValueError),
        ({"threads": -1}, ValueError),
        ({"threads": 1.5}, TypeError),
        ({"threads": True}, TypeError),
        ({"activations": "int4"}, ValueError),
        ({"group_norm_eps": float("nan")}, ValueError),
        ({"group_norm_eps": -1.0}, ValueError),
        ({"tokenizer": "nowhere.txt"}, FileNotFoundError),
    ],
)
def test_a_model_is_not_made_of_wrong_arguments(options, error):
    with pytest.raises(error):
        rwkvcpp.Model(**options)


@pytest.mark.parametrize(
    ("tokens", "error"),
    [
        ([], ValueError),
        ([4096], IndexError),
        ([-1], IndexError),
        ([2**70], IndexError),
        ([1, True], TypeError),
        ([1, None], TypeError),
        ([0.0], TypeError),
        ("text", TypeError),
        (b"text", TypeError),
        (np.array([1.0]), TypeError),
        (np.array([[1]]), TypeError),
        (np.array([True]), TypeError),
        (np.array([2**63], dtype=np.uint64), IndexError),
        (7, TypeError),
    ],
    ids=repr,
)
def test_wrong_tokens_leave_the_state_as_it_was(model, tokens, error):
    state = model.initial_state()
    model.forward([1, 2, 3], state)
    before = state.to_numpy()
    with pytest.raises(error):
        model.forward(tokens, state)
    with pytest.raises(error):
        model.forward_batch([([1], model.initial_state()), (tokens, state)])
    assert state.n_tokens == 3
    assert all((state.to_numpy()[name] == array).all() for name, array in before.items())


def test_a_state_may_be_in_a_batch_once(model):
    state = model.initial_state()
    with pytest.raises(rwkvcpp.StateError):
        model.forward_batch([([1], state), ([2], state)])
    assert state.n_tokens == 0


def test_a_batch_needs_a_segment(model):
    with pytest.raises(ValueError, match="at least one"):
        model.forward_batch([])


@pytest.mark.parametrize("state", [None, {}, 3, "state"])
def test_a_state_is_a_state(model, state):
    with pytest.raises(TypeError, match=r"expected a rwkvcpp\.State"):
        model.forward([1], state)


# The classes


def test_all_of_ours_have_one_base():
    ours = (rwkvcpp.ModelFormatError, rwkvcpp.UnsupportedError, rwkvcpp.StateError)
    assert all(issubclass(kind, rwkvcpp.RwkvError) for kind in ours)
    assert not issubclass(rwkvcpp.RwkvError, (ValueError, OSError))


@pytest.mark.parametrize(
    "kind",
    [rwkvcpp.RwkvError, rwkvcpp.ModelFormatError, rwkvcpp.UnsupportedError, rwkvcpp.StateError],
)
def test_errors_travel_between_processes(kind):
    copy = pickle.loads(pickle.dumps(kind("a.gguf: tensor x is [1], expected [2]")))
    assert type(copy) is kind
    assert str(copy) == "a.gguf: tensor x is [1], expected [2]"

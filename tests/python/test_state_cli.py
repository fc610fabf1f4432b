"""States on the command line: saved, gone on from, and looked at."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import rwkvcpp
from rwkvcpp.cli import main
from tests.data import tuned_goldens
from tests.reference.writers import write_bin

PROMPT = "The Fox and the Crow\n\nOnce upon a time"
SETTINGS = ("--seed", "3", "--frequency-penalty", "0.4", "--temperature", "1.2")


@pytest.fixture(autouse=True)
def nothing_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A session of the bundled model, which stopped after twelve tokens."""
    path = tmp_path / "story.state"
    session = rwkvcpp.Model().session()
    sampling = rwkvcpp.SamplingParams(seed=3, frequency_penalty=0.4, temperature=1.2)
    list(session.generate(PROMPT, max_tokens=12, sampling=sampling))
    session.save(path)
    return path


def spoken(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(list(map(str, arguments))) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(list(map(str, arguments))) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_two_halves_are_the_whole(tmp_path, capsys):
    path = tmp_path / "story.state"
    begin = ("generate", "-p", PROMPT, *SETTINGS)
    whole = spoken(capsys, *begin, "--max-tokens", 24)
    half = spoken(capsys, *begin, "--max-tokens", 12, "--save-state", path)
    rest = spoken(capsys, "generate", "--state", path, "--max-tokens", 12)
    assert half.removesuffix("\n") + rest == whole


def test_other_settings_may_go_on_from_a_session(story, capsys):
    greedy = spoken(capsys, "generate", "--state", story, "--max-tokens", 9, "--temperature", 0)
    session = rwkvcpp.Model().load_session(story)
    sampling = rwkvcpp.SamplingParams(temperature=0)
    assert greedy == "".join(session.generate(max_tokens=9, sampling=sampling)) + "\n"


def test_a_saved_state_goes_on_after_a_prompt(tmp_path, capsys):
    session = rwkvcpp.Model().session()
    session.feed(PROMPT)
    session.state.save(tmp_path / "fed.state")
    options = ("--max-tokens", 9, "--temperature", 0)
    told = spoken(
        capsys, "generate", "--state", tmp_path / "fed.state", "-p", " there was", *options
    )
    greedy = rwkvcpp.SamplingParams(temperature=0)
    expected = "".join(session.generate(" there was", max_tokens=9, sampling=greedy))
    assert told == expected + "\n"


def test_a_state_alone_has_nothing_to_go_on_from(tmp_path, capsys):
    state = tmp_path / "fed.state"
    model = rwkvcpp.bundled_model()
    rwkvcpp.Model().initial_state().save(state)
    line = refused(capsys, "generate", "-m", model, "--state", state)
    assert line.startswith(
        f"rwkvcpp: error: {state}: has no prediction to go on from, and there is"
    )


def test_generate_begins_with_a_tuned_state(tmp_path, capsys):
    path = tmp_path / "model.bin"
    write_bin(path, tuned_goldens.checkpoint("7"), "F32")
    (tmp_path / "vocabulary.txt").write_text(
        "".join(f"{i} {chr(64 + i)!r} 1\n" for i in range(1, tuned_goldens.SIZES.n_vocab))
    )
    model = ("-m", path, "--tokenizer", tmp_path / "vocabulary.txt")
    options = ("-p", "ABC", "--temperature", "0", "--max-tokens", "20")
    plain = spoken(capsys, "generate", *model, *options)
    tuned = spoken(capsys, "generate", *model, *options, "--state", tuned_goldens.path("7"))
    assert tuned != plain
    loaded = rwkvcpp.Model(path, tokenizer=tmp_path / "vocabulary.txt")
    session = loaded.session_from(tuned_goldens.path("7"))
    greedy = rwkvcpp.SamplingParams(temperature=0)
    assert tuned == "".join(session.generate("ABC", max_tokens=20, sampling=greedy)) + "\n"


def test_what_is_only_approximate_is_said_in_one_line(story, tmp_path, capsys):
    half = tmp_path / "half.state"
    rwkvcpp.Model().load_session(story).save(half, dtype="float16")
    assert main(["generate", "--state", str(half), "--max-tokens", "1", "-q"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rwkvcpp: {half}: continues approximately: it was saved as float16")


@pytest.mark.parametrize("content", [b"", b"# a page of text", b"rwkvst\r\n"])
def test_a_file_that_is_no_state_is_refused_in_one_line(content, tmp_path, capsys):
    path = tmp_path / "page.md"
    path.write_bytes(content)
    line = refused(capsys, "generate", "--state", path, "-p", "x")
    assert line.startswith(f"rwkvcpp: error: {path}: ")
    assert "expected" in line


# info


def test_info_shows_a_session(story, capsys):
    shown = spoken(capsys, "info", story)
    for part in ("saved session", "rwkv7-stories-q8_0.gguf: RWKV 7, 6 layers of 256", "float32"):
        assert part in shown
    assert "temperature 1.2, frequency_penalty 0.4, seed 3" in " ".join(shown.split())
    assert "Once upon a time" in shown


def test_info_gives_the_same_as_json(story, capsys):
    facts = json.loads(spoken(capsys, "info", story, "--json"))
    model = rwkvcpp.Model()
    session = model.load_session(story)
    assert facts["kind"] == "session"
    assert facts["fingerprint"] == model.identity.fingerprint
    assert facts["n_tokens"] == facts["session_tokens"] == len(session.tokens)
    assert facts["text"] == session.text
    assert facts["exact"] is True


def test_info_shows_a_state(tmp_path, capsys):
    rwkvcpp.Model().initial_state().save(tmp_path / "empty", dtype="float16")
    shown = spoken(capsys, "info", tmp_path / "empty")
    assert "saved state" in shown
    assert "after 0 tokens, float16, inexact" in shown


def test_info_refuses_a_damaged_state_in_one_line(story, capsys):
    story.write_bytes(story.read_bytes()[:-1])
    assert refused(capsys, "info", story).startswith(f"rwkvcpp: error: {story}: has ")

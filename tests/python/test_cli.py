"""The command line, as a shell sees it, on the bundled model and on the tiny ones."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import rwkvcpp
from rwkvcpp import SamplingParams
from rwkvcpp.cli import COMMANDS, main

PROMPT = "The Fox and the Crow\n\nOnce upon a time"
SPEEDS = re.compile(
    r"^prefill: \d+ tokens, \d+\.\d tokens/s; decode: \d+ tokens, \d+\.\d tokens/s$", re.M
)
END_OF_TEXT = 0  # of the bundled vocabulary
NOTICE = "name a real one with -m MODEL.gguf"
TINY_MODELS = Path(__file__).parents[3] / "shared" / "models"


def shell(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rwkvcpp", *arguments]
    settings = {"input": "", "text": True, "capture_output": True, "timeout": 120}
    return subprocess.run(command, check=False, **{**settings, **options})


def spoken(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Standard output of a command that must succeed."""
    assert main(arguments) == 0
    return capsys.readouterr().out


def continuation(n_tokens: int, *, begin: bool = True, **params: object) -> str:
    session = rwkvcpp.Model().session()
    if begin:
        session.feed([END_OF_TEXT])
    sampling = SamplingParams(**params)
    return "".join(session.generate(PROMPT, max_tokens=n_tokens, sampling=sampling)) + "\n"


# generate


def test_generate_alone_tells_a_story():
    done = shell("generate")
    assert done.returncode == 0
    assert done.stdout.startswith("The Fox and the Crow\n\nOnce upon a time")
    assert len(done.stdout.split()) > 100
    assert len(re.findall(r"\b(the|and|to|of|said|was|he|she)\b", done.stdout)) > 30
    assert NOTICE in done.stderr
    assert SPEEDS.search(done.stderr)


def test_generate_prints_what_follows_the_prompt(capsys):
    told = spoken(capsys, "generate", "-p", PROMPT, "--max-tokens", "20", "--temperature", "0")
    assert told == continuation(20, temperature=0)


def test_echo_prints_the_prompt_first(capsys):
    options = ["generate", "-p", PROMPT, "--max-tokens", "5", "--temperature", "0"]
    assert spoken(capsys, *options, "--echo") == PROMPT + spoken(capsys, *options)


def test_the_prompt_may_come_from_a_file_or_a_pipe(tmp_path, capsys, monkeypatch):
    options = ["generate", "--max-tokens", "12", "--temperature", "0"]
    expected = spoken(capsys, *options, "-p", PROMPT)
    path = tmp_path / "prompt.txt"
    for closing in ("", "\n", "\r\n"):
        path.write_bytes((PROMPT + closing).encode())
        assert spoken(capsys, *options, "--file", str(path)) == expected
        for source in ([], ["--file", "-"], ["-p", "-"]):
            piped = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
            monkeypatch.setattr("sys.stdin", piped)
            assert spoken(capsys, *options, *source) == expected


def test_a_prompt_may_hold_any_bytes(tmp_path, capsys):
    path = tmp_path / "prompt.bin"
    path.write_bytes(b"Once \xff\x00 upon")
    assert spoken(capsys, "generate", "--file", str(path), "--max-tokens", "3").endswith("\n")
    done = subprocess.run(
        [sys.executable, "-m", "rwkvcpp", "generate", "--max-tokens", "3", "-p", b"Once \xff upon"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0


def test_the_seed_decides_what_is_told(capsys):
    options = ["generate", "-p", PROMPT, "--max-tokens", "20", "--top-p", "0.9", "--seed"]
    told = [spoken(capsys, *options, seed) for seed in ("1", "1", "2")]
    assert told[0] == told[1] != told[2]
    assert told[0] == continuation(20, top_p=0.9, seed=1)


def test_text_ends_before_a_stop(capsys):
    options = ["generate", "-p", PROMPT, "--max-tokens", "60", "--temperature", "0"]
    whole = spoken(capsys, *options).rstrip("\n")
    stop = whole[20:24]
    assert spoken(capsys, *options, "--stop", "never to be seen", "--stop", stop) == (
        whole.split(stop)[0] + "\n"
    )


def test_a_stop_may_be_written_with_escapes(capsys):
    # A dialogue ends its paragraphs soon.
    prompt, params = 'The Bear\n\n"Who are you?" said the bear.\n\n"', {"top_p": 0.8, "seed": 1}
    session = rwkvcpp.Model().session()
    session.feed([END_OF_TEXT])
    sampling = SamplingParams(**params)
    text = "".join(session.generate(prompt, max_tokens=200, sampling=sampling, stop=["\n"]))
    assert session.finish_reason == "stop"
    options = ["--max-tokens", "200", "--top-p", "0.8", "--seed", "1", "--stop", r"\n"]
    assert spoken(capsys, "generate", "-p", prompt, *options) == text + "\n"


def test_begin_of_text_is_an_option(capsys):
    options = ["generate", "-p", PROMPT, "--max-tokens", "20", "--temperature", "0"]
    without = continuation(20, begin=False, temperature=0)
    assert spoken(capsys, *options, "--no-begin-of-text") == without
    named = ["-m", str(rwkvcpp.bundled_model())]
    assert spoken(capsys, *options, *named) == without
    assert spoken(capsys, *options, *named, "--begin-of-text") == spoken(capsys, *options)


def test_quiet_says_nothing_on_standard_error(capsys):
    assert main(["generate", "-q", "-p", PROMPT, "--max-tokens", "2"]) == 0
    assert capsys.readouterr().err == ""


def test_a_named_model_is_not_announced(capsys):
    assert (
        main(["generate", "-m", str(rwkvcpp.bundled_model()), "-p", "x", "--max-tokens", "1"]) == 0
    )
    assert NOTICE not in capsys.readouterr().err


@pytest.mark.parametrize("field", fields(SamplingParams), ids=lambda field: field.name)
def test_every_sampling_parameter_is_an_option_that_arrives(field, monkeypatch, capsys):
    option = f"--{field.name.replace('_', '-')}"
    given, expected = {
        "logit_bias": ("261=-2.5", {261: -2.5}),
        "banned_tokens": ("261", 261),
        "order": ("openai", "openai"),
        "top_k": ("7", 7),
        "seed": ("7", 7),
        "penalty_decay": ("0.5", 0.5),
    }.get(field.name, ("0.25", 0.25))
    seen = []
    generate = rwkvcpp.Session.generate

    def spy(session: rwkvcpp.Session, *args: object, **options: object) -> object:
        seen.append(getattr(options["sampling"], field.name))
        return generate(session, *args, **options)

    monkeypatch.setattr(rwkvcpp.Session, "generate", spy)
    assert main(["generate", "-p", PROMPT, "--max-tokens", "1", option, given]) == 0
    (found,) = seen
    assert (list(found) == [expected]) if field.name == "banned_tokens" else (found == expected)


def test_model_options_arrive(capsys):
    options = ["--threads", "1", "--activations", "float32", "--mmap", "--group-norm-eps", "64e-5"]
    rest = ["-p", PROMPT, "--max-tokens", "10", "--temperature", "0"]
    model = rwkvcpp.Model(threads=1, activations="float32", mmap=True)
    session = model.session()
    session.feed([END_OF_TEXT])
    text = "".join(session.generate(PROMPT, max_tokens=10, sampling=SamplingParams(temperature=0)))
    assert spoken(capsys, "generate", *options, *rest) == text + "\n"


@pytest.mark.parametrize(
    ("name", "eps"),
    [
        ("tiny-rwkv-7v0-834K-FP32", None),
        ("tiny-rwkv-4v0-660K-FP32", None),
        ("tiny-rwkv-5v1-730K-FP32", "1e-5"),
        ("tiny-rwkv-5v2-730K-FP32", "1e-5"),
        ("tiny-rwkv-6v0-3m-Q5_1", None),
    ],
)
def test_the_tiny_models_write_words(name, eps, capsys):
    path = TINY_MODELS / f"{name}.bin"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    options = ["-p", '"in', "--max-tokens", "300", "--seed", "1"]
    options += ["--group-norm-eps", eps] if eps else []
    text = spoken(capsys, "generate", "-m", str(path), *options)
    words = re.findall(r"[a-z]+", text.lower())
    assert len(words) > 30
    # In English the common little words are about a third of a text.
    little = {"the", "and", "a", "to", "of", "in", "was", "he", "she", "it", "is", "that", "for",
              "you", "i", "his", "her", "with", "as", "be", "they", "on", "not"}  # fmt: skip
    assert sum(word in little for word in words) > len(words) / 10


# Ends of all kinds


def started(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "rwkvcpp", "generate", "--max-tokens", "1000000", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


ENDLESS = ("--banned-tokens", "0")


def test_ctrl_c_ends_a_story_with_its_speeds():
    with started(*ENDLESS) as process:
        assert process.stdout is not None
        assert process.stdout.read(200)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.endswith(b"\n")
    assert SPEEDS.search(err.decode())
    assert b"Traceback" not in err


def test_a_closed_pipe_ends_a_story_in_silence():
    with started(*ENDLESS, "--quiet") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(50)
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert err == b""


def test_a_full_disk_is_one_line():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = shell("generate", "-q", "--max-tokens", "3", stdout=full, stderr=subprocess.PIPE,
                     capture_output=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("rwkvcpp: error: ")
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# info, doctor, --version


def test_info_shows_a_table(capsys):
    text = spoken(capsys, "info", str(rwkvcpp.bundled_model()))
    for part in ("RWKV-7", "6 layers, width 256", "4 heads of 64", "4096 tokens", "in the file",
                 "7,337,472", "Q8_0", "time mixing", "MiB of weights"):  # fmt: skip
        assert part in text


def test_info_is_for_programs_too(capsys):
    facts = json.loads(spoken(capsys, "info", "--json"))
    assert (facts["version"], facts["n_layer"], facts["n_embd"]) == ("7", 6, 256)
    assert (facts["n_vocab"], facts["n_parameters"]) == (4096, 7337472)
    assert facts["file_bytes"] == rwkvcpp.bundled_model().stat().st_size
    assert 0 < facts["weight_bytes"] < 2 * facts["file_bytes"]
    assert facts["state_bytes"] == rwkvcpp.Model().initial_state().nbytes
    assert sum(row["bytes"] for row in facts["weights"]) < facts["file_bytes"]
    assert {row["class"] for row in facts["weights"]} == {
        "embedding", "head", "time mixing", "channel mixing", "norms",
    }  # fmt: skip
    assert [key for key, value in facts.items() if isinstance(value, dict)] == []


def test_info_of_the_bundled_model_says_how_to_name_another(capsys):
    assert main(["info"]) == 0
    assert "name a real one with rwkvcpp info MODEL.gguf" in capsys.readouterr().err


def test_info_tells_which_tokenizer_a_vocabulary_without_one_needs(capsys):
    path = TINY_MODELS / "tiny-rwkv-4v0-660K-FP32.bin"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    facts = json.loads(spoken(capsys, "info", "--json", str(path)))
    assert (facts["version"], facts["tokenizer"], facts["head_size"]) == ("4", "bytes", 0)


def test_doctor_tells_what_there_is(capsys):
    report = spoken(capsys, "doctor")
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in report.splitlines())
    assert lines["rwkvcpp"] == rwkvcpp.__version__
    assert lines["instruction sets"].split() == rwkvcpp.instruction_sets()
    assert lines["in use"].startswith(rwkvcpp.active_instruction_set())
    assert lines["threads"].startswith(f"{rwkvcpp.default_threads()} (")
    assert lines["bundled model"] == str(rwkvcpp.bundled_model())
    assert {"tokenizers", "safetensors", "pyrwkv-tokenizer", "flask", "waitress"} <= set(lines)


def test_doctor_gives_the_pip_line_of_a_missing_extra(capsys, monkeypatch):
    extras = (("files", "no-such-package", "nothing"),)
    monkeypatch.setattr("rwkvcpp.cli.doctor.EXTRAS", extras)
    (line,) = re.findall(r"^no-such-package +(.*)$", spoken(capsys, "doctor"), flags=re.M)
    assert line == "not installed: pip install 'rwkvcpp[files]' (nothing)"


def test_the_instruction_set_may_be_forced():
    done = shell("doctor", env={**os.environ, "RWKVCPP_ISA": "scalar"})
    assert "scalar (forced by RWKVCPP_ISA=scalar)" in done.stdout
    done = shell("--version", env={**os.environ, "RWKVCPP_ISA": "scalar"})
    assert done.stdout.startswith(f"rwkvcpp {rwkvcpp.__version__}, using scalar")


def test_an_unknown_instruction_set_is_one_line():
    done = shell("doctor", env={**os.environ, "RWKVCPP_ISA": "abacus"})
    assert done.returncode == 2
    assert "abacus" in done.stderr
    assert "Traceback" not in done.stderr


def test_version_tells_the_instruction_set_in_use(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert f"using {rwkvcpp.active_instruction_set()} " in capsys.readouterr().out


@pytest.mark.parametrize("module", COMMANDS, ids=lambda m: m.__name__.rpartition(".")[2])
def test_help_teaches_with_examples(module, capsys):
    name = module.__name__.rpartition(".")[2]
    with pytest.raises(SystemExit, match=r"^0$"):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert f"examples:\n  rwkvcpp {name}" in text

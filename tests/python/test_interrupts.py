"""What is interrupted leaves no file and no part of one, whatever the signal and the moment."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import rwkvcpp
from tests.python.test_quantize import files, made_model

# The command begins what is named, says so, and waits there for the signal.
WAITING = """
import importlib, sys, time
from rwkvcpp.cli import main

def wait(*_):
    print("waiting", flush=True)
    time.sleep(60)

def waiting(step):
    def begin(*args, progress=None, **options):
        return step(*args, progress=wait, **options)
    return begin

name, step, *command = sys.argv[1:]
module = importlib.import_module(name)
setattr(module, step, waiting(getattr(module, step)))
sys.exit(main(command))
"""

CONVERT = ["convert", "MODEL", "OUT", "--type", "q8_0"]
QUANTIZE = ["quantize", "MODEL", "OUT", "q4_k_m"]
IMATRIX = ["imatrix", "-m", "STORIES", "-f", "TEXT", "-o", "OUT"]
KL_BASE = ["perplexity", "-m", "STORIES", "-f", "TEXT", "--save-kl-base", "OUT"]

MOMENTS = {
    "converting": ("rwkvcpp.convert", "write", CONVERT),
    "measuring": ("rwkvcpp.quantization.quantize", "measure_damage", QUANTIZE),
    "quantizing": ("rwkvcpp.quantization.quantize", "write", [*QUANTIZE, "--no-measure"]),
    "collecting": ("rwkvcpp.cli.imatrix", "collect", IMATRIX),
    "scoring": ("rwkvcpp.cli.perplexity", "score", KL_BASE),
}
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")
@pytest.mark.parametrize("name", EXIT_CODES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_leaves_no_file(moment: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abc " * 100)
    places = {
        "MODEL": str(made_model(tmp_path)),
        "STORIES": str(rwkvcpp.bundled_model()),
        "TEXT": str(tmp_path / "text.txt"),
        "OUT": str(tmp_path / "out.gguf"),
    }
    before = files(tmp_path)
    module, step, arguments = MOMENTS[moment]
    command = [sys.executable, "-c", WAITING, module, step]
    command += [places.get(argument, argument) for argument in arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=60)
    assert line == b"waiting\n", err.decode()
    assert process.returncode == EXIT_CODES[name]
    assert b"Traceback" not in err
    assert files(tmp_path) == before


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    model, out = made_model(tmp_path), tmp_path / "out.gguf"
    out.write_bytes(b"yesterday's")
    before = files(tmp_path)
    command = [sys.executable, "-c", WAITING, "rwkvcpp.convert", "write", "convert"]
    with subprocess.Popen([*command, str(model), str(out)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        during = files(tmp_path)
        process.terminate()
        process.wait(timeout=60)
    assert len(during - before) == 1
    assert files(tmp_path) == before
    assert out.read_bytes() == b"yesterday's"


def test_nohup_is_respected(tmp_path: Path) -> None:
    """A command that was told to outlive its terminal does."""
    program = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WAITING
    command = [sys.executable, "-c", program, "rwkvcpp.convert", "write", "convert"]
    places = [str(made_model(tmp_path)), str(tmp_path / "out.gguf")]
    with subprocess.Popen([*command, *places], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(signal.SIGHUP)
        process.stdout.close()
        process.terminate()
        process.wait(timeout=60)
    assert process.returncode == EXIT_CODES["SIGTERM"]

"""The C++ tests, built and run from here so that one command runs every test."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-20_000:]}"
    return done.stdout


def tool(name: str) -> str:
    beside_python = Path(sys.executable).parent / name
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install {name}")
    return found


@pytest.mark.slow
def test_the_cpp_tests_pass(tmp_path):
    cmake, ctest = tool("cmake"), tool("ctest")
    options = ["-DRWKVCPP_TESTS=ON", "-DRWKVCPP_PYTHON=OFF", "-DCMAKE_BUILD_TYPE=Release"]
    if shutil.which("ninja") or (Path(sys.executable).parent / "ninja").exists():
        options += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    run(cmake, "-S", str(ROOT), "-B", str(tmp_path), *options)
    run(cmake, "--build", str(tmp_path), "--parallel", "2")
    report = run(ctest, "--test-dir", str(tmp_path), "--output-on-failure", "--no-tests=error")
    assert "100% tests passed" in report

"""Everything that a change must pass, by name: plain `nox` runs lint and test.

nox -s dev            .venv with everything, the package built editable
nox -s lint           ruff, clang-format, mypy
nox -s test           pytest, the C++ tests among them; arguments go to pytest
nox -s cpp -- asan    one CMake preset: configure, build, test (dev, release, asan, tsan)
"""

from pathlib import Path

import nox

nox.options.sessions = ["lint", "test"]
nox.options.reuse_existing_virtualenvs = True

SOURCES = ("csrc", "cuda", "bench", "tests")
OURS = ("*.h", "*.cpp", "*.cu")
TYPED = (  # what mypy must see
    "numpy", "gguf", "rich", "prompt_toolkit", "tokenizers", "jinja2", "flask", "pydantic>=2",
    "prometheus_client", "types-waitress",
)  # fmt: skip
FOREIGN = {"doctest.h"}  # kept as its authors format it


@nox.session
def dev(session: nox.Session) -> None:
    """Make .venv, with the package built editable."""
    session.run("python", "-m", "venv", ".venv")
    python = str(Path(".venv/bin/python").absolute())
    session.run(python, "-m", "pip", "install", "scikit-build-core", "pybind11", external=True)
    session.run(
        python, "-m", "pip", "install", "--no-build-isolation", "-e", ".[all,dev]", external=True
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint and types; nothing is built and nothing changed."""
    session.install("ruff", "mypy", "clang-format==14.*", *TYPED)
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("clang-format", "--dry-run", "--Werror", *_cpp_files())


@nox.session
def test(session: nox.Session) -> None:
    """Install as a user would, and run every test."""
    session.install(".[all,dev]")
    session.run("pytest", *session.posargs)


@nox.session
def cpp(session: nox.Session) -> None:
    """The C++ tests alone, of one CMake preset."""
    session.install("cmake>=3.20", "ninja", "pybind11", "numpy")
    (preset,) = session.posargs or ["dev"]
    session.run("cmake", "--preset", preset)
    session.run("cmake", "--build", "--preset", preset)
    session.run("ctest", "--preset", preset)


def _cpp_files() -> list[str]:
    found = (path for root in SOURCES for kind in OURS for path in Path(root).rglob(kind))
    return sorted(str(path) for path in found if path.name not in FOREIGN)

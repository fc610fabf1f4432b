"""Fixtures that many tests use: small models, written once per run, and the shared material."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reference.cases import Case, Expected, expected

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def _signals_as_in_a_terminal() -> None:
    """Who started the tests by nohup or `&` did not mean the programs that they start."""
    for name, usual in (
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
    ):
        if signal.getsignal(name) is signal.SIG_IGN:
            signal.signal(name, usual)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of trained models beside the repository; tests that need it skip without it."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs trained models: there is no ../shared beside the repository")
    return folder


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """Writes the file of a case, the first time it is asked for."""
    folder = tmp_path_factory.mktemp("models")
    return lambda case: case.write(folder)


@pytest.fixture(scope="session")
def reference(model_file: Callable[[Case], Path]) -> Callable[[Case], Expected]:
    """What the float64 reference computes on the file of a case."""
    known: dict[Case, Expected] = {}

    def compute(case: Case) -> Expected:
        if case not in known:
            known[case] = expected(model_file(case))
        return known[case]

    return compute

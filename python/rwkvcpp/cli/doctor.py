"""Say what this machine offers, and what rwkvcpp makes of it.

examples:
  rwkvcpp doctor
  RWKVCPP_ISA=scalar rwkvcpp doctor     force the slowest instruction set, to compare
"""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np

import rwkvcpp

# What an extra adds, by the package that it installs.
EXTRAS = (
    ("files", "tokenizers", "the 20B tokenizer of RWKV-4 Pile and Raven"),
    ("files", "safetensors", "checkpoints in .safetensors"),
    ("files", "pyrwkv-tokenizer", "the World vocabulary, when a model file has none"),
    ("server", "flask", "the HTTP server"),
    ("server", "waitress", "the HTTP server"),
    ("server", "pydantic", "the HTTP server"),
    ("server", "prometheus_client", "the HTTP server's metrics"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(args: argparse.Namespace) -> int:
    """Print what was found; there is nothing that it could fail at."""
    rows = [*_software(), *_processor(), *_model(), *_extras()]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")
    return 0


def _software() -> list[tuple[str, str]]:
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return [("rwkvcpp", rwkvcpp.__version__), ("Python", python), ("NumPy", np.__version__)]


def _processor() -> list[tuple[str, str]]:
    forced = os.environ.get("RWKVCPP_ISA")
    reason = f"forced by RWKVCPP_ISA={forced}" if forced else "the fastest of them"
    return [
        ("CPU features", " ".join(rwkvcpp.cpu_features()) or "none that matter here"),
        ("instruction sets", " ".join(rwkvcpp.instruction_sets())),
        ("in use", f"{rwkvcpp.active_instruction_set()} ({reason})"),
        ("threads", _threads()),
    ]


def _threads() -> str:
    chosen, usable = rwkvcpp.default_threads(), _usable_processors()
    return (
        f"{chosen} (the physical cores that this process may use; the machine has "
        f"{os.cpu_count()} logical processors, {usable} of them open to it)"
    )


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _model() -> list[tuple[str, str]]:
    try:
        return [("bundled model", str(rwkvcpp.bundled_model()))]
    except FileNotFoundError as error:
        return [("bundled model", str(error.strerror))]


def _extras() -> list[tuple[str, str]]:
    return [(package, _presence(extra, package, use)) for extra, package, use in EXTRAS]


def _presence(extra: str, package: str, use: str) -> str:
    try:
        return f"{version(package)} ({use})"
    except PackageNotFoundError:
        return f"not installed: pip install 'rwkvcpp[{extra}]' ({use})"

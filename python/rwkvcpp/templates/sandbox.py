"""Rendering Jinja that came with a model: in a process of its own, with little time and memory.

A chat template is a program of a stranger's. Jinja's sandbox keeps it from our objects and files,
but not from running for ever or filling the memory, for which a template has many ways (loops in
loops, "a" * 10**9, macros that call each other). So the time and memory are the system's to limit,
in `sandbox_child.py`: a hostile template costs its process, and us one error.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rwkvcpp.errors import ModelFormatError, UnsupportedError

MAX_TEXT = 1 << 18  # characters of a template; the longest that are in use have a tenth
MAX_OUTPUT = 1 << 24  # characters
SECONDS = 2  # of computing; what is in use takes a tenth, the process included
LIMITS = {
    "RLIMIT_CPU": SECONDS,
    "RLIMIT_AS": 1 << 30,  # bytes
    "RLIMIT_FSIZE": 0,  # no file grows
    "RLIMIT_CORE": 0,
}

CHILD = Path(__file__).with_name("sandbox_child.py")


def render_jinja(text: str, variables: Mapping[str, Any], *, where: str) -> str:
    """What the Jinja `text` makes of `variables`, which JSON can spell.

    where: the file that the text is from, for messages. ModelFormatError says what is wrong with
    it; UnsupportedError that jinja2 is not installed.
    """
    if len(text) > MAX_TEXT:
        raise ModelFormatError(
            f"{where}: the chat template has {len(text)} characters, expected {MAX_TEXT} at most"
        )
    if importlib.util.find_spec("jinja2") is None:
        raise UnsupportedError(
            f"{where}: its chat template needs jinja2: pip install 'rwkvcpp[chat]', "
            "or choose a template that is built in"
        )
    request = {
        "text": text,
        "variables": dict(variables),
        "max_output": MAX_OUTPUT,
        "limits": LIMITS,
        "path": [entry for entry in sys.path if entry],  # "" is wherever we stand
    }
    answer = _answer(json.dumps(request).encode(), where)
    if "error" in answer:
        raise ModelFormatError(f"{where}: the chat template cannot be rendered: {answer['error']}")
    return answer["text"].encode("utf-8", "replace").decode()  # half of a pair is no character


def _answer(request: bytes, where: str) -> dict[str, str]:
    # -I -S -B: of what is installed, only what the request names; nothing is written.
    command = [sys.executable, "-I", "-S", "-B", str(CHILD)]
    # Nothing of ours but where a Python's own libraries are.
    environment = {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, env=environment, check=False
        )
    except OSError as error:
        raise UnsupportedError(
            f"{where}: its chat template needs a Python of its own, that cannot be started: {error}"
        ) from error
    if done.returncode < 0:
        raise ModelFormatError(
            f"{where}: the chat template was ended: it takes more than {SECONDS} s of computing, "
            f"or too much memory (signal {-done.returncode})"
        )
    try:
        answer: dict[str, str] = json.loads(done.stdout)
    except ValueError as error:
        reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ModelFormatError(f"{where}: the chat template was not rendered: {reason}") from error
    return answer

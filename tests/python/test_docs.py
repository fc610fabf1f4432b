"""The documents are true: their code runs, and every command and option is described."""

import argparse
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rwkvcpp.cli import make_parser
from tests.python.server import live_server

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
ADDRESS = "http://127.0.0.1:8000"  # as the documents have it
CLI_PAGE = (ROOT / "docs" / "cli.md").read_text()


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.M | re.S)


def commands() -> dict[str, argparse.ArgumentParser]:
    (subparsers,) = (
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(subparsers.choices)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if code_blocks(p, "python")], ids=lambda page: page.name
)
def test_python_code_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # One page is one program: later blocks use what earlier ones made.
    code = "\n".join(code_blocks(page, "python"))
    with served(code) as code:
        exec(compile(code, page.name, "exec"), {})


@contextmanager
def served(code: str) -> Iterator[str]:
    """The code with the address of a server that is there, if it asks one."""
    if ADDRESS not in code:
        yield code
        return
    with live_server(max_tokens_limit=60) as live:
        yield code.replace(ADDRESS, live.url)


def asking(language: str) -> list[tuple[Path, str]]:
    """The blocks that ask a server."""
    return [(page, code) for page in PAGES for code in code_blocks(page, language)
            if ADDRESS in code]  # fmt: skip


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl to ask with")
@pytest.mark.parametrize(
    ("page", "code"), asking("sh"), ids=[page.name for page, _ in asking("sh")]
)
def test_curl_is_answered(page, code, tmp_path):
    with served(code) as code:
        for command in re.findall(r"^curl (?:.*\\\n)*.*$", code, flags=re.M):
            fail = command.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
            done = subprocess.run(["bash", "-c", fail], capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node to run JavaScript")
@pytest.mark.parametrize(
    ("page", "code"), asking("js"), ids=[page.name for page, _ in asking("js")]
)
def test_javascript_gets_its_text(page, code, tmp_path):
    with served(code) as code:
        (tmp_path / "example.mjs").write_text(code)
        done = subprocess.run(["node", "example.mjs"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 50


def test_the_readme_has_python_to_run():
    assert len(code_blocks(ROOT / "README.md", "python")) == 1


def test_every_command_has_a_section():
    sections = re.findall(r"^## rwkvcpp (\S+)$", CLI_PAGE, flags=re.M)
    assert sections == list(commands())


@pytest.mark.parametrize("name", list(commands()))
def test_every_option_is_described(name):
    section = CLI_PAGE.split(f"## rwkvcpp {name}\n")[1].split("\n## ")[0]
    options = {o for action in commands()[name]._actions for o in action.option_strings}
    described = set(re.findall(r"`(--?[a-z][a-z-]*)`", section))
    assert options - {"-h", "--help"} - described == set()


def test_no_option_is_described_that_does_not_exist():
    known = {o for parser in commands().values() for a in parser._actions for o in a.option_strings}
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", CLI_PAGE))
    assert shown - known - {"--version"} == set()


def shell_lines() -> list[tuple[str, str]]:
    return [
        (page.name, line)
        for page in PAGES
        for block in code_blocks(page, "sh")
        for line in block.splitlines()
        if "rwkvcpp " in line and "pip" not in line
    ]


@pytest.mark.parametrize(("page", "line"), shell_lines(), ids=lambda value: value[:60])
def test_shell_lines_are_understood(page, line, tmp_path):
    """Every `rwkvcpp …` in the documents parses, checked with the shell's own quoting."""
    (tmp_path / "rwkvcpp").write_text(
        '#!/bin/sh\nprintf "%s\\0" "$@" > "$CAPTURED"\ncat >/dev/null\n'
    )
    (tmp_path / "rwkvcpp").chmod(0o755)
    captured = tmp_path / "captured"
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CAPTURED": str(captured),
    }
    command = line.replace(".venv/bin/rwkvcpp", "rwkvcpp")
    subprocess.run(["bash", "-c", command], env=environment, cwd=tmp_path, check=True, input=b"")
    arguments = captured.read_text().split("\0")[:-1]
    if {"--help", "--version"} & set(arguments):
        with pytest.raises(SystemExit, match=r"^0$"):
            make_parser().parse_args(arguments)
    else:
        make_parser().parse_args(arguments)


def prose(page: Path) -> str:
    """Without blocks of code: a lambda of C++ looks like a link."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def test_links_between_documents_lead_somewhere():
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)\)", prose(page))
        if not (page.parent / target).exists()
    ]
    assert broken == []

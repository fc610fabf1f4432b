"""What an installation contains, and the two lines of the README that make one."""

import re
import subprocess
from importlib.metadata import distribution, entry_points, requires
from pathlib import Path

import pytest

import rwkvcpp

ROOT = Path(__file__).parents[2]


def readme_lines() -> list[str]:
    return re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), flags=re.M)


def test_the_required_packages_are_the_promised_four():
    required = [line for line in requires("rwkvcpp") or [] if "extra ==" not in line]
    assert sorted(required) == ["gguf", "numpy", "prompt_toolkit", "rich"]


def test_extras_are_the_promised_ones():
    extras = distribution("rwkvcpp").metadata.get_all("Provides-Extra") or []
    assert {"all", "chat", "dev", "files", "server"} == set(extras)


def test_every_script_leads_to_a_function():
    scripts = [s for s in entry_points(group="console_scripts") if s.value.startswith("rwkvcpp")]
    assert sorted(script.name for script in scripts) == ["rwkvcpp", "rwkvcpp-chat"]
    assert all(callable(script.load()) for script in scripts)


def test_the_package_brings_its_model_card_and_types():
    package = Path(rwkvcpp.__file__).parent
    assert rwkvcpp.bundled_model().parent == package / "data"
    assert (package / "data" / "README.md").is_file()
    assert (package / "py.typed").is_file()
    assert (package / "_core.pyi").is_file()


def test_without_the_bundled_model_the_error_says_how_to_name_one(tmp_path, monkeypatch):
    monkeypatch.setattr("rwkvcpp.bundled._FILE", tmp_path / "gone.gguf")
    with pytest.raises(FileNotFoundError, match=r"name a model file \(-m FILE") as caught:
        rwkvcpp.Model()
    assert caught.value.filename == str(tmp_path / "gone.gguf")
    rwkvcpp.Model(Path(rwkvcpp.__file__).parent / "data" / "rwkv7-stories-q8_0.gguf")


def test_the_readme_has_two_lines_each_with_its_own_environment():
    story, tests = readme_lines()
    assert story.endswith("/rwkvcpp generate")
    assert tests.endswith("/pytest")
    environments = [re.findall(r"\.venv[\w-]*", line) for line in (story, tests)]
    assert [len(set(names)) for names in environments] == [1, 1]
    assert environments[0][0] != environments[1][0]


def test_ci_runs_the_readme_line():
    pattern = re.search(r"grep -m 1 '(.*)' README.md", (ROOT / ".ci" / "run").read_text())
    assert pattern is not None
    found = subprocess.run(
        ["grep", "-m", "1", pattern[1], "README.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == readme_lines()[1]

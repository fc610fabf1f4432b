"""The public names: listed once, importable, documented."""

import inspect
import subprocess
import sys
from importlib.metadata import version

import rwkvcpp
from rwkvcpp import _core


def test_public_names_are_sorted_and_there():
    constants_first = sorted(rwkvcpp.__all__, key=lambda name: (not name.isupper(), name))
    assert rwkvcpp.__all__ == constants_first
    assert [name for name in rwkvcpp.__all__ if not hasattr(rwkvcpp, name)] == []


def test_nothing_else_looks_public():
    public = {name for name in vars(rwkvcpp) if not name.startswith("_")}
    modules = {name for name in public if inspect.ismodule(getattr(rwkvcpp, name))}
    assert public - modules == set(rwkvcpp.__all__) - {"__version__"}


def test_the_names_of_the_promised_interface_are_there():
    promised = ("Model", "Session", "State", "SamplingParams", "sample", "Tokenizer", "RwkvError")
    errors = ("ModelFormatError", "UnsupportedError", "StateError")
    assert {*promised, *errors} <= set(rwkvcpp.__all__)


def test_every_public_class_and_function_says_what_it_is():
    silent = [
        name
        for name in rwkvcpp.__all__
        if callable(getattr(rwkvcpp, name)) and not (getattr(rwkvcpp, name).__doc__ or "").strip()
    ]
    assert silent == []


def test_every_public_method_says_what_the_caller_gets():
    silent = [
        f"{owner}.{name}"
        for owner in rwkvcpp.__all__
        if inspect.isclass(getattr(rwkvcpp, owner))
        for name, member in vars(getattr(rwkvcpp, owner)).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
        if not (member.__doc__ or "").strip()
    ]
    assert silent == []


def test_the_version_is_the_same_everywhere():
    assert rwkvcpp.__version__ == _core.__version__ == version("rwkvcpp")


def test_import_loads_no_optional_package():
    code = (
        "import sys, rwkvcpp, rwkvcpp.cli; "
        "print([m for m in ('tokenizers', 'safetensors', 'flask', 'gguf', 'rich', 'prompt_toolkit')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

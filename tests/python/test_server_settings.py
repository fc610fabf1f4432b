"""Settings: one table, three sources, and an error that says where the wrong one stands."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rwkvcpp.cli import main, make_parser
from rwkvcpp.server import Settings
from rwkvcpp.server.listening import listen
from rwkvcpp.server.setting_kinds import ADAPTER, FLAG, INTEGER, PATH, SECONDS, TEXT
from rwkvcpp.server.setting_sources import read_settings
from rwkvcpp.server.settings import SETTINGS

# A kind -> words that say a value, and the value.
WRITTEN = {
    ADAPTER: ("a.pth:32", (Path("a.pth"), 32.0)),
    FLAG: ("true", True),
    INTEGER: ("7", 7),
    PATH: ("a.gguf", Path("a.gguf")),
    SECONDS: ("2.5", 2.5),
    TEXT: ("http://a.example", "http://a.example"),
}
# A kind -> what TOML might have in its place.
WRONG = {
    ADAPTER: "1",
    FLAG: '"yes"',
    INTEGER: '"8000"',
    PATH: "1",
    SECONDS: '"ten"',
    TEXT: "true",
}


def arguments(*words: str) -> argparse.Namespace:
    return make_parser().parse_args(["serve", *words])


def expected(name: str) -> object:
    value = WRITTEN[SETTINGS[name].kind][1]
    return (value,) if SETTINGS[name].is_list else value


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "server.toml"
        path.write_text(text)
        return path

    return write


def test_every_field_is_in_the_table():
    assert list(SETTINGS) == [field.name for field in dataclasses.fields(Settings)]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_an_option(name):
    kind = SETTINGS[name].kind
    value = [] if kind is FLAG else [WRITTEN[kind][0]]
    given = getattr(arguments(f"--{name.replace('_', '-')}", *value), name)
    assert (tuple(given) if SETTINGS[name].is_list else given) == expected(name)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_a_variable(name):
    word, _ = WRITTEN[SETTINGS[name].kind]
    settings = read_settings({}, {f"RWKVCPP_{name.upper()}": word})
    assert getattr(settings, name) == expected(name)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dash", ["_", "-"])
def test_a_setting_is_a_key_of_the_file(name, dash, file):
    kind = SETTINGS[name].kind
    word = WRITTEN[kind][0]
    path = file(
        f"{name.replace('_', dash)} = {word if kind in (FLAG, INTEGER, SECONDS) else repr(word)}"
    )
    found = getattr(read_settings({}, {}, path), name)
    if kind.is_path:  # as seen from the file
        one = found[0] if SETTINGS[name].is_list else found
        assert (one[0] if kind is ADAPTER else one).parent == path.parent
    else:
        assert found == expected(name)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_value_of_another_type_is_named_with_file_and_key(name, file):
    path = file(f"{name} = {WRONG[SETTINGS[name].kind]}")
    with pytest.raises(ValueError, match=rf"server\.toml: {name} is .*, expected "):
        read_settings({}, {}, path)


def test_true_is_no_number(file):
    with pytest.raises(ValueError, match="port is True, expected a whole number"):
        read_settings({}, {}, file("port = true"))


def test_a_variable_of_another_type_is_named():
    with pytest.raises(ValueError, match="RWKVCPP_PORT is 'x', expected a whole number"):
        read_settings({}, {"RWKVCPP_PORT": "x"})
    with pytest.raises(ValueError, match="RWKVCPP_DEPLOY is 'maybe', expected one of 1, true"):
        read_settings({}, {"RWKVCPP_DEPLOY": "maybe"})


def test_the_command_line_goes_before_variables_and_those_before_the_file(file):
    path = file("port = 1\nmax_batch = 1\ngrace = 1\n")
    settings = read_settings({"port": 3}, {"RWKVCPP_PORT": "2", "RWKVCPP_MAX_BATCH": "2"}, path)
    assert (settings.port, settings.max_batch, settings.grace) == (3, 2, 1)


def test_an_option_that_is_not_given_leaves_the_file_alone(file):
    path = file("deploy = true\nport = 9\n")
    given = arguments("--config", str(path))
    assert not any(hasattr(given, name) for name in SETTINGS)
    assert arguments("--no-deploy").deploy is False


def test_a_variable_names_the_file(file):
    path = file("port = 9")
    assert read_settings({}, {"RWKVCPP_CONFIG": str(path)}).port == 9
    other = path.with_name("other.toml")
    other.write_text("port = 10")
    assert read_settings({}, {"RWKVCPP_CONFIG": str(path)}, other).port == 10


def test_lists(file):
    assert read_settings({}, {}, file('api_key = ["a", "b"]')).api_key == ("a", "b")
    assert read_settings({}, {}, file('api_key = "a"')).api_key == ("a",)
    assert read_settings({}, {"RWKVCPP_API_KEY": "a, b,"}).api_key == ("a", "b")
    assert arguments("--api-key", "a", "--api-key", "b").api_key == ["a", "b"]
    assert Settings(api_key="secret").api_key == ("secret",)  # and not its letters
    with pytest.raises(ValueError, match=r"server\.toml: api_key is 1, expected a text"):
        read_settings({}, {}, file('api_key = ["a", 1]'))


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("max_bach", "max_batch"), ("api-keys", "api_key"), ("modell", "model"), ("Port", "port")],
)
def test_an_unknown_key_is_named_with_those_that_were_meant(key, nearest, file):
    with pytest.raises(ValueError, match=rf"server\.toml: unknown key '{key}'.* {nearest}\b"):
        read_settings({}, {}, file(f"{key} = 1"))


def test_a_key_like_no_other_gets_all_of_them(file):
    with pytest.raises(
        ValueError, match=r"unknown key 'zzz', expected one of .*allow_host, api_key"
    ):
        read_settings({}, {}, file("zzz = 1"))


@pytest.mark.parametrize("text", ["port = ", "port = 1\nport = 2", "\ufeff="])
def test_a_file_that_is_no_toml_is_named(text, file):
    with pytest.raises(ValueError, match=r"server\.toml: no TOML: "):
        read_settings({}, {}, file(text))


def test_a_file_that_is_not_there_is_refused(capsys, tmp_path):
    assert main(["serve", "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"port": 70000}, "port is 70000, expected 0 to 65535"),
        ({"port": -1}, "port is -1, expected 0 to 65535"),
        ({"max_batch": 0}, "max_batch is 0, expected at least 1"),
        ({"threads": 0}, "threads is 0, expected at least 1"),
        ({"grace": math.nan}, "grace is nan, expected 0 to 86400"),
        ({"grace": -1}, "grace is -1, expected 0 to 86400"),
        ({"api_key": ["a", ""]}, "an api_key is empty"),
        ({"cors": ["localhost:3000/"]}, "cors is 'localhost:3000/', expected an origin"),
        ({"cors": ["http://localhost:3000/"]}, "expected an origin"),
        ({"model": "a.gguf", "no_model": True}, "model is a.gguf and no_model is set"),
    ],
)
def test_what_cannot_be_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        Settings(**changes)


def test_a_wrong_word_on_the_command_line_is_wrong_usage(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        arguments("--port", "http")
    assert "argument --port: is 'http', expected a whole number" in capsys.readouterr().err


def test_help_tells_defaults(capsys):
    with pytest.raises(SystemExit):
        arguments("--help")
    text = " ".join(capsys.readouterr().out.split())
    for default in ("(127.0.0.1)", "(8000)", "(16)", "(102400)", "(10.0)"):
        assert default in text


# The command, before it serves


def test_without_the_libraries_of_the_server_one_sentence_says_what_to_install(tmp_path):
    """And everything else of the command line works."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['flask'] = None\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    environment.pop("PYTHONSAFEPATH", None)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rwkvcpp", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    served = run("serve", "--port", "0")
    assert served.returncode == 2
    assert served.stderr == (
        'rwkvcpp: error: the server needs flask, among others: pip install "rwkvcpp[server]"\n'
    )
    assert run("serve", "--help").returncode == 0
    assert run("doctor").returncode == 0


def test_a_port_that_is_taken_is_one_sentence_before_anything_is_loaded(capsys):
    (taken,) = listen("127.0.0.1", 0)
    with taken:
        port = taken.getsockname()[1]
        assert main(["serve", "-m", "no-such-model.gguf", "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"rwkvcpp: error: 127.0.0.1:{port} is in use by another program; --port names another one\n"
    )


def test_who_calls_the_command_keeps_his_logging(capsys):
    ours = logging.getLogger("rwkvcpp.server")
    before = (ours.level, ours.propagate, list(ours.handlers))
    assert main(["serve", "-m", "no-such-model.gguf", "--port", "0"]) == 2
    assert (ours.level, ours.propagate, list(ours.handlers)) == before
    assert "no-such-model.gguf" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("192.0.2.1", "192.0.2.1:0 is no address of this machine; --host names one"),
        ("no.such.host.invalid", "no.such.host.invalid is no address that this machine knows"),
    ],
)
def test_an_address_of_others_is_refused(host, sentence):
    with pytest.raises(OSError, match=sentence):
        listen(host, 0)


def test_a_name_of_several_addresses_gets_one_port(monkeypatch):
    def two_addresses(*_: object, **__: object) -> list[object]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.1", 0)), (*kind, ("127.0.0.2", 0)), (*kind, ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    first, second = listen("two.example", 0)
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1]
        assert {first.getsockname()[0], second.getsockname()[0]} == {"127.0.0.1", "127.0.0.2"}


def test_one_address_that_is_not_there_leaves_the_others(monkeypatch):
    def with_a_stranger(*_: object, **__: object) -> list[object]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("192.0.2.1", 0)), (*kind, ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", with_a_stranger)
    (only,) = listen("two.example", 0)
    with only:
        assert only.getsockname()[0] == "127.0.0.1"
        assert only.getsockname()[1] != 0

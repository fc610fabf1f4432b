r"""Serve a model over HTTP, for OpenAI clients, RWKV-Runner's and others.

Any program that talks to OpenAI can use it: give it http://127.0.0.1:8000/v1 as the address, and
anything as the key. http://127.0.0.1:8000/docs shows everything that can be asked for. Ctrl-C ends
it when those who wait have their answers; twice, it ends at once.

Every option can also stand in a TOML file (--config), under the same name, and in a variable
(RWKVCPP_PORT=9000). The command line goes before variables, and those before the file.

examples:
  rwkvcpp serve                                         the bundled model tells stories
  rwkvcpp serve -m rwkv7-g1-1.5b-q8_0.gguf --max-batch 32
  rwkvcpp serve -m model.gguf --host 0.0.0.0 --api-key "$SECRET" --deploy
  rwkvcpp serve -m model.gguf --cors http://localhost:3000
  rwkvcpp serve --config server.toml --port 9000
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"messages": [{"role": "user", "content": "Why is the sky blue?"}]}'
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rwkvcpp
from rwkvcpp.cli.model_options import announce_bundled_model
from rwkvcpp.cli.progress import byte_progress
from rwkvcpp.cli.warning_lines import warning_lines
from rwkvcpp.server.setting_kinds import FLAG, Kind
from rwkvcpp.server.setting_sources import CONFIG, read_settings
from rwkvcpp.server.settings import GROUPS, SETTINGS, About, Settings

if TYPE_CHECKING:
    from flask import Flask

SHORT = {"model": "-m"}
LOG = "%(asctime)s %(message)s"
LEVELS = {
    "rwkvcpp.server": logging.INFO,
    "waitress": logging.WARNING,
    "waitress.queue": logging.ERROR,  # it tells of every request that waits for a thread
}
QUESTION = '{"messages": [{"role": "user", "content": "Hi"}]}'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for each setting, and those that say where settings are."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings in TOML ({CONFIG} names one, too)"
    )
    groups = {group: parser.add_argument_group(group) for group in GROUPS}
    for name, about in SETTINGS.items():
        _add_option(groups[about.group], name, about)
    groups["log and end"].add_argument(
        "-q", "--quiet", action="store_true", help="nothing on standard error but errors"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until told to end; 130 and 143 after signals."""
    given = {name: getattr(args, name) for name in SETTINGS if hasattr(args, name)}
    settings = read_settings(given, os.environ, args.config)
    try:
        from rwkvcpp.server.app import create_app
        from rwkvcpp.server.listening import listen
        from rwkvcpp.server.wsgi import serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("rwkvcpp"):
            raise
        raise ValueError(
            f'the server needs {error.name}, among others: pip install "rwkvcpp[server]"'
        ) from error
    with ExitStack() as stack:
        stack.enter_context(_logging(quiet=args.quiet))
        # Had before a model loads, which takes long.
        sockets = [stack.enter_context(each) for each in listen(settings.host, settings.port)]
        with _loading(settings, args.quiet) as progress:
            app = create_app(settings, progress=progress)
        if not args.quiet:
            print(_welcome(app, sockets), file=sys.stderr)
        return serve(app, sockets)


@contextmanager
def _loading(settings: Settings, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """What is shown while a model loads; the function that it tells its progress."""
    model = None if settings.model is None else Path(settings.model)
    if not settings.no_model:
        announce_bundled_model(model, quiet=quiet)
    with (
        byte_progress("loading", shown=sys.stderr.isatty() and not quiet) as progress,
        warning_lines(rwkvcpp.StrategyWarning, shown=not quiet),
    ):
        yield progress


def _add_option(group: argparse._ArgumentGroup, name: str, about: About) -> None:
    """Absent from the arguments unless it is given: other sources may say it."""
    default = f" ({about.default})" if about.shows_default else ""
    options: dict[str, Any] = {
        "dest": name,
        "default": argparse.SUPPRESS,
        "help": about.help + default,
    }
    if about.kind is not FLAG:
        options |= {"type": _argument(about.kind), "metavar": about.kind.metavar}
        options["action"] = "append" if about.is_list else "store"
    elif name.startswith("no_"):
        options["action"] = "store_true"
    else:
        options["action"] = argparse.BooleanOptionalAction
    names = [f"--{name.replace('_', '-')}"]
    group.add_argument(*([SHORT[name]] if name in SHORT else []), *names, **options)


def _argument(kind: Kind) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return kind.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


@contextmanager
def _logging(*, quiet: bool) -> Iterator[None]:
    """A line for each request on standard error, and what goes wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(LOG))
    loggers = [logging.getLogger(name) for name in LEVELS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.ERROR if quiet else LEVELS[logger.name])
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagates) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagates


def _welcome(app: Flask, sockets: list[socket.socket]) -> str:
    """What is served, where, and how to ask; and who else can."""
    from rwkvcpp.server.listening import url_host

    service = app.extensions["rwkvcpp"]
    settings: Settings = service.settings
    model = service.serving().id if service.is_serving else "no model yet"
    host = url_host(_reachable(settings.host))
    url = f"http://{host}:{sockets[0].getsockname()[1]}"
    key = " -H 'Authorization: Bearer KEY'" if settings.api_key else ""
    lines = [
        f"rwkvcpp: serving {model} at {url}/v1 (everything: {url}/docs); ask it:",
        f"  curl {url}/v1/chat/completions{key} -d {shlex.quote(QUESTION)}",
    ]
    if not settings.api_key and not _is_loopback(settings.host):
        lines.append(
            f"rwkvcpp: warning: whoever reaches {settings.host} can ask; --api-key keeps others out"
        )
    return "\n".join(lines)


def _reachable(host: str) -> str:
    """Where this machine finds it."""
    return "127.0.0.1" if host in ("", "0.0.0.0", "::") else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

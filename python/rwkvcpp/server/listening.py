"""Listening: the sockets of an address, had before a model is loaded that may take minutes."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

BACKLOG = 1024

PROBLEMS = {
    errno.EADDRINUSE: "is in use by another program; --port names another one",
    errno.EADDRNOTAVAIL: "is no address of this machine; --host names one",
    errno.EACCES: "may not be used: ports below 1024 are for administrators",
}


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets on which connections to `host` wait from now on, on one port.

    port: 0 takes one that is free.
    OSError with a sentence when there is none to be had.
    """
    sockets: list[socket.socket] = []
    problem: OSError | None = None
    for family, address in _addresses(host, port):
        try:
            sockets.append(_listening(family, (*address[:1], port, *address[2:])))
        except OSError as error:
            problem = problem or error
            if error.errno == errno.EADDRINUSE:
                break
        else:
            port = port or sockets[0].getsockname()[1]
    if problem is not None and (not sockets or problem.errno == errno.EADDRINUSE):
        for each in sockets:
            each.close()
        sentence = PROBLEMS.get(problem.errno or 0, str(problem))
        raise OSError(f"{url_host(host)}:{port} {sentence}") from problem
    return sockets


def url_host(host: str) -> str:
    """As a URL has it."""
    return f"[{host}]" if ":" in host else host


def _addresses(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(f"{host} is no address that this machine knows: {error.strerror}") from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two programs have one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock

"""Origins: what a web page may do that some browser on this machine, or near it, has open.

Any page can have its browser send requests here, and three things keep it in bounds:

- It reads an answer only if its origin is allowed to (CORS headers), and without a question of the
  browser before (OPTIONS, answered here) it can send neither JSON nor a key. What it can send
  without is refused.
- What touches the machine or changes what others get is for origins that were named one by one.
- A page may have the name of its own host lead here (DNS rebinding), and is then no foreign page to
  the browser. So a host that is not known as this machine's is as foreign as an origin.

Programs that are no browsers send no Origin, and notice nothing of this.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import Request, Response

from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.settings import Settings

# What a page may send to anybody without being asked: the other types need permission.
SIMPLE_TYPES = ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
ANYBODYS = ("*", "null")  # a page without an origin of its own says null, and any page can
WILDCARDS = ("", "0.0.0.0", "::")
PREFLIGHT_SECONDS = 600


@dataclass(frozen=True)
class Origins:
    """Which origins and hosts are known."""

    origins: frozenset[str]
    hosts: frozenset[str]
    is_on_all_addresses: bool

    @classmethod
    def of(cls, settings: Settings) -> Origins:
        """Those that the settings name, and what this machine is called."""
        name = socket.gethostname().lower()
        named = {settings.host, *settings.allow_host}
        hosts = {"localhost", name, f"{name}.local", *(host.lower() for host in named)}
        return cls(frozenset(settings.cors), frozenset(hosts) - {""}, settings.host in WILDCARDS)

    # Guards

    def check(self, request: Request) -> None:
        """ApiError 403 for what a foreign page sends without being allowed to."""
        origin = request.headers.get("Origin")
        if origin is None or self.may_read(request):
            return
        is_rebound = urlsplit(origin).netloc == request.host  # and yet not our own
        if is_rebound or (request.method == "POST" and request.mimetype in SIMPLE_TYPES):
            raise _foreign(origin)

    def check_machine(self, request: Request) -> None:
        """The same for what touches the machine, or what others get."""
        host = _host_of(f"//{request.host}")
        if host and not self._is_known(host):
            raise ApiError(
                403,
                f"{host} is not known as a name of this server: --allow-host names it",
                code="foreign_host",
            )
        origin = request.headers.get("Origin")
        if origin is None:
            if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
                raise _foreign("another site")
        elif not self._is_own(request, origin) and (
            origin not in self.origins or origin in ANYBODYS
        ):
            raise _foreign(origin)

    def may_read(self, request: Request) -> bool:
        """Whether the page that asks may have the answer."""
        origin = request.headers.get("Origin", "")
        return origin in self.origins or "*" in self.origins or self._is_own(request, origin)

    # Answers

    def permit(self, request: Request, response: Response, *, is_for_named: bool) -> None:
        """Headers that let the page that asks read `response`, and send what OPTIONS asks about.

        is_for_named: the route is for origins that were named one by one.
        """
        origin = request.headers.get("Origin")
        response.vary.add("Origin")
        if origin is None or not self.may_read(request):
            return
        if is_for_named and (origin not in self.origins or origin in ANYBODYS):
            return
        headers = response.headers
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = "Retry-After"
        if request.method == "OPTIONS":
            headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            asked = request.headers.get("Access-Control-Request-Headers", "")
            headers["Access-Control-Allow-Headers"] = asked or "Authorization, Content-Type"
            headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
            if "Access-Control-Request-Private-Network" in request.headers:
                headers["Access-Control-Allow-Private-Network"] = "true"

    def _is_own(self, request: Request, origin: str) -> bool:
        """Whether the page came from this server, under a name that is known."""
        is_same = urlsplit(origin).netloc == request.host
        return is_same and self._is_known(_host_of(origin))

    def _is_known(self, host: str) -> bool:
        if host in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        # No DNS leads an address astray, so all of the machine's are as good.
        return address.is_loopback or self.is_on_all_addresses


def _host_of(url: str) -> str:
    """The host of a URL in lower case, without a port; "" for what has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _foreign(origin: str) -> ApiError:
    return ApiError(
        403,
        f"pages of {origin} may not ask for this: --cors names the origins that may",
        code="foreign_origin",
    )

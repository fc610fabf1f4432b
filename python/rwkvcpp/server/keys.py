"""Keys: who may ask at all, when the server was given keys."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from flask import Request

from rwkvcpp.server.errors import ApiError


def check_key(request: Request, keys: Iterable[str]) -> None:
    """ApiError 401 unless one of the keys comes as a bearer or in X-Api-Key."""
    sent = [key.encode("latin-1", "replace") for key in _sent(request)]
    # Every key is compared with everything that came: how long that takes tells nothing.
    equal = [hmac.compare_digest(key.encode(), each) for key in keys for each in sent]
    if not any(equal):
        found = "is not one of this server's" if sent else "is missing"
        raise ApiError(
            401,
            f"the API key {found}: send it as Authorization: Bearer KEY",
            code="invalid_api_key",
        )


def _sent(request: Request) -> list[str]:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    bearer = [token.strip()] if scheme.lower() == "bearer" else []
    return bearer + request.headers.getlist("X-Api-Key")

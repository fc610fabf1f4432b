"""The HTTP endpoint: a model for OpenAI clients, RWKV-Runner clients and many at once.

>>> from rwkvcpp.server import Settings, create_app
>>> app = create_app(Settings(model="rwkv7-1.5b-q5_1.gguf"))  # for any WSGI server

It needs the extra "server": pip install "rwkvcpp[server]". Settings alone do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rwkvcpp.server.settings import Settings

if TYPE_CHECKING:
    from rwkvcpp.server.app import create_app
    from rwkvcpp.server.wsgi import serve

__all__ = ["Settings", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    """Flask and the others are imported by those who use them."""
    if name == "create_app":
        from rwkvcpp.server.app import create_app

        return create_app
    if name == "serve":
        from rwkvcpp.server.wsgi import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

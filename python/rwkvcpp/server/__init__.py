"""The HTTP endpoint: a model for OpenAI clients, RWKV-Runner clients and many at once.

>>> from rwkvcpp.server import Settings, create_app
>>> app = create_app(Settings(model="rwkv7-1.5b-q5_1.gguf"))  # for any WSGI server

It needs the extra "server": pip install "rwkvcpp[server]".
"""

from rwkvcpp.server.app import create_app
from rwkvcpp.server.settings import Settings
from rwkvcpp.server.wsgi import serve

__all__ = ["Settings", "create_app", "serve"]

r"""serve a model over HTTP, for OpenAI clients and others

Any program that talks to OpenAI can use it: give it http://127.0.0.1:8000/v1 as the address.

  rwkvcpp serve -m rwkv7-1.5b-q5_1.gguf
  rwkvcpp serve -m rwkv7-1.5b-q5_1.gguf --host 0.0.0.0 --api-key secret
  curl http://127.0.0.1:8000/v1/chat/completions \
    -d '{"messages": [{"role": "user", "content": "Hi"}]}'
"""

from __future__ import annotations

import argparse
from dataclasses import fields

from rwkvcpp.server import Settings, create_app, serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for each setting."""
    parser.add_argument("-m", "--model", metavar="FILE")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-batch", type=int, default=16)


def run(args: argparse.Namespace) -> int:
    """Serve until told to end."""
    given = {field.name: getattr(args, field.name, None) for field in fields(Settings)}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    serve(create_app(settings))
    return 0

"""The model in the box: a small RWKV-7 that tells children's stories."""

import errno
from pathlib import Path

_FILE = Path(__file__).parent / "data" / "rwkv7-stories-q8_0.gguf"


def bundled_model() -> Path:
    """The path of the bundled model; FileNotFoundError says how to do without it."""
    if not _FILE.is_file():
        hint = "this installation has no bundled model: name a model file (-m FILE, Model(FILE))"
        raise FileNotFoundError(errno.ENOENT, hint, str(_FILE))
    return _FILE

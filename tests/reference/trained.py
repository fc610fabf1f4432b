"""The trained models beside the repository, and what is known of their logits.

The tiny ones come with the logits of the float model after three bytes; `weight_loss` is how far
the float64 reference on the file's own weights is from those, so it is what FP16 or Q5_1 cost. The
story model comes with the logits of each file itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference import rwkv_numpy
from tests.reference.readers import read_model

OFFICIAL_EPS = 64e-5
RWKV_CPP_EPS = 1e-5  # rwkv.cpp's for v5


@dataclass(frozen=True)
class TrainedFile:
    """One file; the paths are relative to the shared folder."""

    path: str
    weight_type: str
    expected: str
    weight_loss: float  # largest absolute difference, seen with the reference
    group_norm_eps: float = OFFICIAL_EPS

    @property
    def is_story_model(self) -> bool:
        return self.path.startswith("demo/")

    def tokens(self, shared: Path) -> list[int]:
        return story(shared)["tokens"] if self.is_story_model else list(b'"in')

    def expected_logits(self, shared: Path) -> NDArray[np.float32]:
        """[tokens, V] of the story model, [1, V] of the tiny ones (their last token)."""
        n_vocab = 4096 if self.is_story_model else 256
        return np.fromfile(shared / self.expected, "<f4").reshape(-1, n_vocab)

    def reference_logits(self, shared: Path) -> rwkv_numpy.Array:
        return _reference_logits(self, shared)


@cache
def _reference_logits(file: TrainedFile, shared: Path) -> rwkv_numpy.Array:
    weights = read_model(shared / file.path).weights
    tokens = file.tokens(shared)
    return rwkv_numpy.forward(weights, tokens, group_norm_eps=file.group_norm_eps)[0]


def story(shared: Path) -> Any:
    """The story model's prompt, its tokens, and the greedy continuation by file."""
    return json.loads((shared / "demo" / "expected.json").read_text())


def _tiny(name: str, weight_type: str, loss: float, *, official: bool = True) -> TrainedFile:
    suffix = {"F32": "FP32", "F16": "FP16"}.get(weight_type, weight_type)
    return TrainedFile(
        path=f"models/tiny-rwkv-{name}-{suffix}.bin",
        weight_type=weight_type,
        expected=f"models/expected-logits-{name}.bin",
        weight_loss=loss,
        group_norm_eps=OFFICIAL_EPS if official else RWKV_CPP_EPS,
    )


TRAINED_FILES = [
    _tiny("4v0-660K", "F32", 0.0),
    _tiny("4v0-660K", "F16", 1.63e-3),
    _tiny("4v0-660K", "Q5_1", 9.62e-2),
    _tiny("5v1-730K", "F32", 0.0, official=False),
    _tiny("5v2-730K", "F32", 0.0, official=False),
    _tiny("5v2-730K", "Q5_1", 0.371, official=False),
    _tiny("6v0-3m", "Q5_1", 7.57e-2),
    _tiny("7v0-834K", "F32", 0.0),
    _tiny("7v0-834K", "F16", 0.0),
    _tiny("7v0-834K", "Q5_1", 4.16e-3),
    *(
        TrainedFile(
            path=f"demo/rwkv7-stories-{name}.gguf",
            weight_type=name.upper(),
            expected=f"demo/expected-logits-{name}.bin",
            weight_loss=0.0,
        )
        for name in ("f16", "q8_0")
    ),
]

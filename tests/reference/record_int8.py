"""Measures what int8 activations cost, and writes int8_bounds.py with twice that.

    python -m tests.reference.record_int8

Run it when a change is meant to move the deviations, and look at the diff before committing.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from pathlib import Path

import rwkvcpp
from tests.reference import int8_bounds
from tests.reference.cases import ALL_CASES, BLOCK_TYPES, TOKENS, expected
from tests.reference.compare import rms_per_rms
from tests.reference.trained import TRAINED_FILES, TrainedFile

SHARED = Path(__file__).resolve().parents[3] / "shared"
HEAD_ROOM = 2.0


def deviation_of_cases(folder: Path) -> dict[str, dict[str, float]]:
    """The worst of each weight type and version."""
    found: dict[str, dict[str, float]] = {name: defaultdict(float) for name in BLOCK_TYPES}
    for case in ALL_CASES:
        if case.weight_type in BLOCK_TYPES:
            path = case.write(folder)
            model = rwkvcpp.Model(path)
            logits = model.forward(TOKENS, model.initial_state(), all_logits=True)
            deviation = rms_per_rms(logits, expected(path).logits)
            by_version = found[case.weight_type]
            by_version[case.version] = max(by_version[case.version], deviation)
            print(f"{deviation:.2e}  {case.name}")
    return found


def deviation_of_trained(file: TrainedFile) -> float:
    model = rwkvcpp.Model(SHARED / file.path, group_norm_eps=file.group_norm_eps)
    logits = model.forward(file.tokens(SHARED), model.initial_state(), all_logits=True)
    return rms_per_rms(logits, file.reference_logits(SHARED))


def bound(deviation: float) -> float:
    """With head-room, rounded up to two digits."""
    value = HEAD_ROOM * deviation
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step) * step:.1e}")


def as_source(bounds: dict[str, dict[str, float]], trained: dict[str, float]) -> str:
    lines = [f'"""{int8_bounds.__doc__}"""', "", "BOUNDS: dict[str, dict[str, float]] = {"]
    for weight_type, by_version in bounds.items():
        row = ", ".join(f'"{version}": {value:g}' for version, value in by_version.items())
        lines.append(f'    "{weight_type}": {{{row}}},')
    lines += ["}", "", "TRAINED: dict[str, float] = {"]
    lines += [f'    "{path}": {value:g},' for path, value in trained.items()]
    return "\n".join([*lines, "}", ""])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measured = deviation_of_cases(Path(folder))
    bounds = {
        name: {version: bound(value) for version, value in by_version.items()}
        for name, by_version in measured.items()
    }
    trained = dict(int8_bounds.TRAINED)
    if SHARED.is_dir():
        block_files = [file for file in TRAINED_FILES if file.weight_type in BLOCK_TYPES]
        trained = {file.path: bound(deviation_of_trained(file)) for file in block_files}
    Path(int8_bounds.__file__).write_text(as_source(bounds, trained))


if __name__ == "__main__":
    main()

"""How long the choice of a token takes, in microseconds at 65,536 logits.

    python bench/sampling.py

The median of many draws, with the fastest beside it, for distributions from peaked to flat and for
the parameters that cost something. The native call alone: one thread, penalties counted.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from numpy.typing import NDArray

from rwkvcpp import Sampler, SamplingParams
from rwkvcpp.profiles import profile

N_VOCAB = 65536
N_DRAWS = 200

PARAMS: dict[str, SamplingParams] = {
    "greedy": SamplingParams(temperature=0, seed=1),
    "top_p 0.5": SamplingParams(seed=1),
    "top_p 0.05": SamplingParams(top_p=0.05, seed=1),
    "top_p 1": SamplingParams(top_p=1, seed=1),
    "T 0.7": SamplingParams(temperature=0.7, seed=1),
    "T 2, top_p 0.9": SamplingParams(temperature=2, top_p=0.9, seed=1),
    "top_k 40": SamplingParams(top_k=40, top_p=1, seed=1),
    "openai, all on": SamplingParams(
        order="openai", temperature=0.8, top_p=0.95, top_k=40, frequency_penalty=0.4, seed=1
    ),
    "the same, rapid": SamplingParams(
        order="rapid",
        temperature=0.8,
        top_p=0.95,
        top_k=40,
        presence_penalty=0.4,
        frequency_penalty=0.4,
        seed=1,
    ),
    "rapid, open think": profile("open-think").params(seed=1),
    "rapid, fake think": profile("fake-think").params(seed=1),
    "top_k 30000": SamplingParams(top_k=30000, top_p=1, seed=1),
}


def distributions() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    rows = {
        # As models give them: a broad tail, and a few tokens that stand out.
        "peaked": rng.normal(-8, 3, N_VOCAB) + 14 * (rng.random(N_VOCAB) < 2e-4),
        "broad": rng.normal(0, 2, N_VOCAB),
        "flat": rng.normal(0, 0.01, N_VOCAB),
        "equal": np.zeros(N_VOCAB),
    }
    return {name: row.astype(np.float32) for name, row in rows.items()}


def microseconds(params: SamplingParams, logits: NDArray[np.float32]) -> tuple[float, float]:
    """Median and least time of a draw."""
    sampler = Sampler(params)
    times = []
    for _ in range(N_DRAWS):
        start = time.perf_counter()
        sampler.sample(logits)
        times.append(time.perf_counter() - start)
    return 1e6 * median(times), 1e6 * min(times)


def main() -> None:
    rows = distributions()
    print(f"{'µs: median (least)':20}" + "".join(f"{name:>16}" for name in rows))
    for name, params in PARAMS.items():
        cells = (microseconds(params, logits) for logits in rows.values())
        print(f"{name:20}" + "".join(f"{f'{mid:.0f} ({least:.0f})':>16}" for mid, least in cells))


if __name__ == "__main__":
    main()

"""How soon the first token of a prompt comes that was read before: medians, in ms.

    python bench/prefix_cache.py rwkv7-1.5b-q5_1.gguf

Every round does everything once, so that what else the machine does meets all alike; the first
round warms up and is not counted. "decode step" is one token through the model, which is also what
each hit would cost more if snapshots had no logits. Files lie in --folder, and in the page cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rwkvcpp import Model, PrefixCache, PrefixKey, Sampler, SamplingParams

STEPS_ALLOWED = 3  # decode steps until the first token of a prompt that was seen before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="a model file; its weights do not matter")
    parser.add_argument("--tokens", type=int, default=2000, help="length of the prompt")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--folder", type=Path, help="where to write (the system's temporary one)")
    args = parser.parse_args()

    model = Model(args.model, threads=args.threads)
    prompt = np.random.default_rng(1).integers(1, model.n_vocab, args.tokens).tolist()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        times = measured(model, prompt, Path(folder), args.rounds)
    for name, rounds in times.items():
        low, high = 1000 * min(rounds), 1000 * max(rounds)
        median = 1000 * statistics.median(rounds)
        print(f"{name:<44}{median:10.3f} ms   ({low:.3f} to {high:.3f})")
    steps = statistics.median(
        seen / step
        for seen, step in zip(times["seen: first token"], times["decode step"], strict=True)
    )
    print(f"A prompt seen before takes {steps:.2f} decode steps of {STEPS_ALLOWED} allowed.")


def measured(
    model: Model, prompt: list[int], folder: Path, n_rounds: int
) -> dict[str, list[float]]:
    """Seconds of each kind, round by round."""
    half, rng = len(prompt) // 2, np.random.default_rng(2)
    cache, on_disk = PrefixCache(), PrefixCache(directory=folder)
    begun = time.perf_counter()
    cache.prefill(model.session(), prompt, boundaries=[half])
    first = time.perf_counter() - begun
    state, key = model.initial_state(), PrefixKey.of(model)
    sampler, snapshot = Sampler(SamplingParams(seed=1)), cache.lookup(key, prompt)
    assert snapshot is not None
    on_disk.insert(key, prompt, snapshot.state(), snapshot.logits())

    def first_token(known: PrefixCache, tokens: list[int]) -> None:
        session = model.session()
        known.prefill(session, tokens)
        assert session.logits is not None
        sampler.sample(session.logits)

    def two_others() -> list[int]:
        return [*prompt[:half], *rng.integers(1, model.n_vocab, 2).tolist()]

    kinds: dict[str, Callable[[], object]] = {
        "decode step": lambda: model.forward([7], state),
        "seen: first token": lambda: first_token(cache, prompt),
        "seen before a restart: first token": lambda: first_token(
            PrefixCache(directory=folder), prompt
        ),
        "half of it seen, 2 others: first token": lambda: first_token(cache, two_others()),
        "lookup": lambda: cache.lookup(key, prompt),
        "lookup that finds nothing": lambda: cache.lookup(key, prompt[1:]),
        "a copy of the state": snapshot.state,
        "a copy of the logits": snapshot.logits,
        "sampling": lambda: sampler.sample(snapshot.logits()),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(n_rounds + 1):
        for name, run in kinds.items():
            begun = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begun)
    return {f"{len(prompt)} tokens never seen": [first]} | {
        name: rounds[1:] for name, rounds in times.items()
    }


if __name__ == "__main__":
    main()

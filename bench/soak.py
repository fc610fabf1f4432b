"""Everything that clients send, for minutes: answers by status, and memory as time goes.

    python -m bench.soak --minutes 10

Threads ask whatever MIX has, by weight, of a server that is a process of its own: chats, texts,
streams that are read and streams that are left, embeddings, counts, pages, switches of the cache,
and what is wrong. What a client sends may never give a 5xx. Memory must be flat after some minutes:
what the allocator has once got from the system, for its threads' heaps, it keeps for what comes.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.served import Served

WORDS = ("fox", "crow", "king", "forest", "night", "bread", "river", "wolf", "mother", "gold")


def text(rng: random.Random, n: int = 12) -> str:
    """A prompt that was hardly ever asked before."""
    return " ".join(rng.choices(WORDS, k=rng.randrange(1, n)))


def limits(rng: random.Random) -> dict[str, Any]:
    """How much, and how."""
    return {"max_tokens": rng.randrange(1, 16), "seed": rng.randrange(9), "top_p": 0.8}


def messages(rng: random.Random) -> dict[str, Any]:
    """A conversation."""
    turns = [{"role": "user", "content": text(rng)}]
    if rng.random() < 0.5:
        turns += [{"role": "assistant", "content": text(rng)}, {"role": "user", "content": "And?"}]
    return {"messages": turns, **limits(rng)}


def prompt(rng: random.Random) -> dict[str, Any]:
    """A text to continue."""
    return {"prompt": text(rng, 60), **limits(rng)}


Body = Callable[[random.Random], Any]

# Weight, method, path, body.
MIX: tuple[tuple[int, str, str, Body | None], ...] = (
    (20, "POST", "/v1/chat/completions", messages),
    (4, "POST", "/chat/completions", lambda rng: {**messages(rng), "n": 2, "logprobs": True}),
    (6, "POST", "/v1/chat/completions", lambda rng: {**messages(rng), "stream": True}),
    (12, "POST", "/v1/completions", prompt),
    (3, "POST", "/completions", lambda rng: {**prompt(rng), "echo": True, "logprobs": 2}),
    (3, "POST", "/v1/completions", lambda rng: {**prompt(rng), "return_state": True}),
    (3, "POST", "/v1/completions", lambda rng: {**prompt(rng), "prompt": [text(rng), text(rng)]}),
    (6, "POST", "/v1/completions", lambda rng: {**prompt(rng), "stream": True}),
    (6, "POST", "/v1/embeddings", lambda rng: {"input": [text(rng), text(rng)]}),
    (3, "POST", "/v1/batch/completions", lambda rng: {"contents": [text(rng)] * 3, **limits(rng)}),
    (4, "POST", "/tokenize", lambda rng: {"content": text(rng)}),
    (2, "POST", "/detokenize", lambda rng: {"tokens": [rng.randrange(4096) for _ in range(9)]}),
    (2, "POST", "/v1/tokens/count", lambda rng: {"text": text(rng)}),
    (1, "POST", "/infill", lambda rng: {"input_prefix": text(rng), "input_suffix": text(rng)}),
    (1, "POST", "/update-config", lambda rng: {"top_p": rng.random(), "max_tokens": 16}),
    (1, "POST", "/reset-state-cache", None),
    (1, "POST", "/disable-state-cache", None),
    (1, "POST", "/enable-state-cache", None),
    (3, "GET", "/v1/models", None),
    (2, "GET", "/status", None),
    (2, "GET", "/v1/server/status", None),
    (2, "GET", "/health", None),
    (1, "GET", "/metrics", None),
    (1, "GET", "/openapi.json", None),
    (1, "GET", "/models/none", None),
    (1, "GET", "/nowhere", None),
    (2, "POST", "/v1/chat/completions", lambda rng: b'{"messages": ['),
    (2, "POST", "/v1/completions", lambda rng: {"prompt": [[], {}], "temperature": "hot"}),
    (1, "POST", "/switch-model", lambda rng: {"model": "../none.gguf", "strategy": "cpu fp32"}),
)


class Soak:
    """A crowd, and what it was told."""

    def __init__(self, served: Served, seconds: float) -> None:
        self._served, self._end = served, time.monotonic() + seconds
        self._lock = threading.Lock()
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.n_dropped = 0

    def ask(self, seed: int) -> None:
        """One client after another, until the end."""
        rng = random.Random(seed)
        weights = [weight for weight, *_ in MIX]
        while time.monotonic() < self._end:
            ((_, method, path, body),) = rng.choices(MIX, weights)
            if rng.random() < 0.05:
                self._leave(prompt(rng))
                continue
            status, _ = self._served.ask(method, path, None if body is None else body(rng))
            with self._lock:
                self.answers[method, path, status] += 1

    def _leave(self, body: dict[str, Any]) -> None:
        events = self._served.events("/v1/completions", {**body, "max_tokens": 1000})
        next(events, None)
        events.close()
        with self._lock:
            self.n_dropped += 1

    def n_requests(self) -> int:
        """How many by now."""
        with self._lock:
            return self.answers.total() + self.n_dropped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-m", "--model", type=Path, help="(the bundled one)")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=12)
    args = parser.parse_args()
    with Served(*(["-m", str(args.model)] if args.model else [])) as served:
        soak(served, args.minutes, args.clients)


def soak(served: Served, minutes: float, n_clients: int) -> None:
    """Ask, show memory every half a minute, and count at the end."""
    crowd = Soak(served, 60 * minutes)
    clients = [threading.Thread(target=crowd.ask, args=(seed,)) for seed in range(n_clients)]
    begun = time.monotonic()
    for client in clients:
        client.start()
    while (seconds := time.monotonic() - begun) < 60 * minutes:
        cached = served.numbers().get("rwkvcpp_cache_bytes", 0) / 2**20
        print(
            f"{seconds:6.0f} s {crowd.n_requests():8} requests {served.resident_mb():8.1f} MB, "
            f"of which prompts {cached:6.1f} MB {served.n_threads():5} threads",
            flush=True,
        )
        time.sleep(min(30, 60 * minutes - seconds))
    for client in clients:
        client.join()
    served.await_idle()
    report(crowd, served)


def report(crowd: Soak, served: Served) -> None:
    """Every route's statuses, and the sums."""
    for (method, path, status), n in sorted(crowd.answers.items()):
        print(f"{method:5}{path:26}{status:5}{n:8}")
    n_failed = sum(n for (*_, status), n in crowd.answers.items() if status >= 500)
    print(
        f"{crowd.n_requests()} requests, {crowd.n_dropped} of them left; {n_failed} answers of "
        f"5xx; at the end {served.resident_mb():.1f} MB and {served.n_threads()} threads."
    )


if __name__ == "__main__":
    main()

"""What batching requests is worth, and what a long prompt costs those who write beside it.

    python bench/engine.py rwkv7-1.5b-q4_0.gguf

Clients with different prompts, a thread each, all at once: beside the same requests one after
another (as many as --alone, the rate counts), and beside `forward_batch` with as many tokens as
there are slots, which neither samples nor reads prompts. "while all slots write" are the tokens
that come after the last of the first slots began and before the first one ends. "in lockstep" is
the same work, prompts and all, by a program that knows everything beforehand. Then some streams
write while a long prompt joins: gaps between two tokens of a stream, as its client sees them.

The rounds do everything in turn; figures are medians, and the lowest and highest. With a model
whose weights are random no text ends by itself; stop tokens are off so that none does.
"""

from __future__ import annotations

import argparse
import math
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rwkvcpp import Model, Sampler, SamplingParams
from rwkvcpp.engine import EndEvent, Engine, Generation, PromptEvent, Request, TokenEvent

SHARE_WANTED = 0.90  # of forward_batch, while all slots write
TIMES_WANTED = 2.0  # one after another
GAP_WANTED = 0.300  # seconds, the 99th percentile


class Client(threading.Thread):
    """Takes the events of a generation and keeps when they came."""

    def __init__(self, generation: Generation) -> None:
        super().__init__()
        self.generation = generation
        self.read_at = self.ended_at = 0.0
        self.tokens_at: list[float] = []
        self.start()

    def run(self) -> None:
        for event in self.generation:
            now = time.perf_counter()
            if isinstance(event, TokenEvent):
                self.tokens_at.append(now)
            elif isinstance(event, PromptEvent):
                self.read_at = now
            elif isinstance(event, EndEvent):
                self.ended_at = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="a model file; its weights do not matter")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=200, help="tokens of each client's prompt")
    parser.add_argument("--tokens", type=int, default=128, help="tokens that each client gets")
    parser.add_argument("--alone", type=int, default=4, help="requests made one after another")
    parser.add_argument("--streams", type=int, default=8, help="that write while a prompt joins")
    parser.add_argument("--long", type=int, default=4000, help="tokens of the prompt that joins")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()

    bench = Bench(Model(args.model, threads=args.threads), args)
    rounds: list[dict[str, float]] = []
    for _ in range(args.rounds):
        rounds.append({name: figure for case in bench.cases for name, figure in case().items()})
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        middle = statistics.median(values)
        print(f"{name:<56}{middle:10.3f}   ({min(values):.3f} to {max(values):.3f})")
    share = _ratio(rounds, "while all slots write, tokens/s", "forward_batch, tokens/s")
    times = _ratio(rounds, "all clients, tokens/s", "one after another, tokens/s")
    gap = statistics.median(each["a prompt joins: gap p99, s"] for each in rounds)
    print(f"While all slots write: {share:.1%} of forward_batch (wanted {SHARE_WANTED:.0%}).")
    lockstep = _ratio(rounds, "all clients, tokens/s", "in lockstep, tokens/s")
    print(f"With their prompts: {lockstep:.1%} of lockstep.")
    print(f"Together: {times:.2f} times one after another (wanted {TIMES_WANTED}).")
    print(f"99 of 100 gaps are within {1000 * gap:.0f} ms (wanted {1000 * GAP_WANTED:.0f}).")


def _ratio(rounds: list[dict[str, float]], one: str, other: str) -> float:
    return statistics.median(each[one] / each[other] for each in rounds)


class Bench:
    """The cases, each gives figures by their names; prompts are new every time."""

    def __init__(self, model: Model, args: argparse.Namespace) -> None:
        self._model, self._args = model, args
        self._rng = np.random.default_rng(1)
        self._params = SamplingParams(seed=1)
        self.cases = (
            self.together,
            self.lockstep,
            self.batch,
            self.one_after_another,
            self.joining,
        )

    def _request(self, n_prompt: int, n_tokens: int) -> Request:
        prompt = self._rng.integers(1, min(self._model.n_vocab, 60_000), n_prompt).tolist()
        return Request(tokens=prompt, max_tokens=n_tokens, sampling=self._params, stop_tokens=[])

    def _requests(self, n: int) -> list[Request]:
        return [self._request(self._args.prompt, self._args.tokens) for _ in range(n)]

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        with Engine(self._model, max_batch=self._args.slots) as engine:
            engine.submit(self._request(self._args.prompt, 1)).answer()  # it knows its pace
            yield engine

    def together(self) -> dict[str, float]:
        """All clients at once."""
        with self._engine() as engine:
            begun = time.perf_counter()
            clients = [Client(engine.submit(each)) for each in self._requests(self._args.clients)]
            for client in clients:
                client.join()
            seconds = time.perf_counter() - begun
        first = sorted(clients, key=lambda client: client.read_at)[: self._args.slots]
        begin = max(client.tokens_at[0] for client in first)
        end = min(client.tokens_at[-1] for client in first)
        n_tokens = sum(begin < at <= end for client in first for at in client.tokens_at)
        rate = n_tokens / (end - begin) if begin < end else math.nan  # --tokens is too small
        n_drawn = sum(len(client.tokens_at) for client in clients)
        return {
            "all clients, s": seconds,
            "all clients, tokens/s": n_drawn / seconds,
            "while all slots write, tokens/s": rate,
        }

    def lockstep(self) -> dict[str, float]:
        """The same work with the library alone: as many as there are slots, prompts first."""
        requests, n = self._requests(self._args.clients), self._args.slots
        begun = time.perf_counter()
        for group in (requests[at : at + n] for at in range(0, len(requests), n)):
            states = [self._model.initial_state() for _ in group]
            samplers = [Sampler(self._params) for _ in group]
            tokens = [request.tokens for request in group]
            for _ in range(self._args.tokens):
                logits = self._model.forward_batch(list(zip(tokens, states, strict=True)))
                tokens = [[s.sample(row)] for s, row in zip(samplers, logits, strict=True)]
        n_drawn = self._args.tokens * len(requests)
        return {"in lockstep, tokens/s": n_drawn / (time.perf_counter() - begun)}

    def batch(self) -> dict[str, float]:
        """What the model makes of as many tokens as there are slots, and nothing else."""
        n = self._args.slots
        states = [self._model.initial_state() for _ in range(n)]
        tokens = self._rng.integers(1, min(self._model.n_vocab, 60_000), (self._args.tokens, n, 1))
        begun = time.perf_counter()
        for step in tokens:
            self._model.forward_batch(list(zip(step, states, strict=True)))
        return {"forward_batch, tokens/s": tokens.size / (time.perf_counter() - begun)}

    def one_after_another(self) -> dict[str, float]:
        """With the library alone, as a server without batches would."""
        requests = self._requests(self._args.alone)
        begun = time.perf_counter()
        for request in requests:
            state, sampler = self._model.initial_state(), Sampler(self._params)
            logits = self._model.forward(request.tokens, state)
            for _ in range(request.max_tokens):
                logits = self._model.forward([sampler.sample(logits)], state)
        n_drawn = self._args.tokens * len(requests)
        return {"one after another, tokens/s": n_drawn / (time.perf_counter() - begun)}

    def joining(self) -> dict[str, float]:
        """A long prompt beside streams that write."""
        with self._engine() as engine:
            streams = [
                Client(engine.submit(self._request(20, 10**6))) for _ in range(self._args.streams)
            ]
            while min(len(stream.tokens_at) for stream in streams) < 20:
                time.sleep(0.01)
            begun = time.perf_counter()
            late = Client(engine.submit(self._request(self._args.long, 1)))
            late.join()
            for stream in streams:
                stream.generation.cancel()
                stream.join()
        gaps = np.concatenate(
            [_gaps(np.array(stream.tokens_at), begun, late.read_at) for stream in streams]
        )
        return {
            "a prompt joins: gap p99, s": float(np.quantile(gaps, 0.99)),
            "a prompt joins: gap median, s": float(np.median(gaps)),
            "a prompt joins: longest gap, s": float(gaps.max()),
            "a prompt joins: its tokens/s": self._args.long / (late.read_at - begun),
        }


def _gaps(tokens_at: np.ndarray, begin: float, end: float) -> np.ndarray:
    """Seconds from token to token, of those that ended between two moments."""
    gaps = np.diff(tokens_at)
    return gaps[(tokens_at[1:] > begin) & (tokens_at[:-1] < end)]


if __name__ == "__main__":
    main()

"""What the HTTP server costs beside the library, and how it bears a crowd.

    python -m bench.server rwkv7-1.5b-q4_0.gguf

The server is a process of its own on the same cores; the library is in this one, and both do the
same work in turn, round by round: figures are medians, and the lowest and highest. Prompts are
new in every round. "while all slots write" and the library's rates are those of engine.py.

"overhead" is one request, not streamed, beside `Session.generate` with the same prompt and seed;
the texts must be the same. "first token" is that of a stream, beside reading the prompt with the
library. With a model whose weights are random no text ends by itself.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.engine import SHARE_WANTED, TIMES_WANTED, Bench
from bench.served import Served
from rwkvcpp import Model, Sampler, SamplingParams

OVERHEAD_WANTED = 0.03  # of what the library takes
FIRST_BYTE_WANTED = 0.050  # seconds more than the prompt takes
FREED_WANTED = 0.050  # seconds more than a step
GROWTH_WANTED = 0.05  # of the memory

GUIDE = {"messages": [{"role": "user", "content": "Hello"}]}  # RWKV-Runner's load test
SAMPLING = {"temperature": 1.0, "top_p": 0.5, "presence_penalty": 0.0, "frequency_penalty": 0.0}


class Client(threading.Thread):
    """Takes a stream, and keeps when its pieces came."""

    def __init__(self, served: Served, body: dict[str, Any]) -> None:
        super().__init__()
        self._served, self._body = served, body
        self.pieces_at: list[float] = []
        self.n_tokens = 0
        self.start()

    def run(self) -> None:
        body = {**self._body, "stream_options": {"include_usage": True}}
        for event in self._served.events("/v1/completions", body):
            if event["choices"] and event["choices"][0]["text"]:
                self.pieces_at.append(time.perf_counter())
            if event.get("usage"):
                self.n_tokens = event["usage"]["completion_tokens"]

    def tokens_between(self, begin: float, end: float) -> float:
        """A piece may be more than a token: those of random weights are often half a character."""
        n_pieces = sum(begin < at <= end for at in self.pieces_at)
        return n_pieces * self.n_tokens / len(self.pieces_at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="a model file; its weights do not matter")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=200, help="tokens of each client's prompt")
    parser.add_argument("--tokens", type=int, default=128, help="tokens that each client gets")
    parser.add_argument("--alone", type=int, default=4, help="requests made one after another")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chats", type=int, default=100, help="requests of the load test")
    parser.add_argument("--chat-tokens", type=int, default=64, help="tokens of each")
    parser.add_argument("--drops", type=int, default=1000, help="clients that hang up")
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()

    options = ["-m", str(args.model), "--max-batch", str(args.slots)]
    options += ["--threads", str(args.threads)] if args.threads else []
    model = Model(args.model, threads=args.threads)
    with Served(*options) as served:
        bench = ServerBench(model, served, args)
        rounds = [bench.round() for _ in range(args.rounds)]
        show(rounds)
        print(load_test(served, args.clients, args.chats, args.chat_tokens))
        print(dropping(served, args.drops))


def show(rounds: list[dict[str, float]]) -> None:
    """All figures, and how those that were wanted came out."""
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        middle = statistics.median(values)
        print(f"{name:<56}{middle:10.3f}   ({min(values):.3f} to {max(values):.3f})")

    def median(figure: Any) -> float:
        return statistics.median(figure(each) for each in rounds)

    share = median(lambda r: r["while all slots write, tokens/s"] / r["forward_batch, tokens/s"])
    times = median(lambda r: r["all clients, tokens/s"] / r["one after another, tokens/s"])
    overhead = median(lambda r: r["alone: server, s"] / r["alone: library, s"] - 1)
    first = median(lambda r: r["first token: stream, s"] - r["first token: library, s"])
    freed = median(lambda r: r["hung up: freed after, s"] - r["hung up: a step, s"])
    print(f"While all slots write: {share:.1%} of forward_batch (wanted {SHARE_WANTED:.0%}).")
    print(f"Together: {times:.2f} times one after another (wanted {TIMES_WANTED}).")
    print(f"Overhead alone: {overhead:.1%} of the library (wanted below {OVERHEAD_WANTED:.0%}).")
    print(f"First token: {1000 * first:.1f} ms more (wanted {1000 * FIRST_BYTE_WANTED:.0f}).")
    print(f"Freed a step and {1000 * freed:.1f} ms later (wanted {1000 * FREED_WANTED:.0f}).")


class ServerBench:
    """The cases, each gives figures by their names."""

    def __init__(self, model: Model, served: Served, args: argparse.Namespace) -> None:
        self._model, self._served, self._args = model, served, args
        self._library = Bench(model, args)
        self._rng = np.random.default_rng(2)
        served.post("/v1/completions", self._body(args.prompt, 16))  # it knows its pace

    def round(self) -> dict[str, float]:
        """Everything once."""
        cases = (
            self.together,
            self._library.batch,
            self._library.one_after_another,
            self.alone,
            self.first_token,
            self.hung_up,
        )
        return {name: figure for case in cases for name, figure in rested(case).items()}

    def _body(self, n_prompt: int, n_tokens: int) -> dict[str, Any]:
        prompt = self._rng.integers(1, min(self._model.n_vocab, 60_000), n_prompt).tolist()
        return {"prompt": prompt, "max_tokens": n_tokens, "seed": 1, **SAMPLING}

    def together(self) -> dict[str, float]:
        """All clients at once."""
        args = self._args
        begun = time.perf_counter()
        clients = [
            Client(self._served, self._body(args.prompt, args.tokens)) for _ in range(args.clients)
        ]
        for client in clients:
            client.join()
        seconds = time.perf_counter() - begun
        first = sorted(clients, key=lambda client: client.pieces_at[0])[: args.slots]
        begin = max(client.pieces_at[0] for client in first)
        end = min(client.pieces_at[-1] for client in first)
        n_tokens = sum(client.tokens_between(begin, end) for client in first)
        rate = n_tokens / (end - begin) if begin < end else math.nan  # --tokens is too small
        return {
            "all clients, s": seconds,
            "all clients, tokens/s": sum(client.n_tokens for client in clients) / seconds,
            "while all slots write, tokens/s": rate,
        }

    def alone(self) -> dict[str, float]:
        """One request, by the library and by the server."""
        body = self._body(20, self._args.tokens)
        sampling = SamplingParams(seed=body["seed"], **SAMPLING)
        begun = time.perf_counter()
        texts = self._model.session().generate(
            body["prompt"], max_tokens=body["max_tokens"], sampling=sampling
        )
        text = "".join(texts)
        library = time.perf_counter() - begun
        rest()
        begun = time.perf_counter()
        answer = self._served.post("/v1/completions", {**body, "sampler": sampling.order})
        server = time.perf_counter() - begun
        if answer["choices"][0]["text"] != text:
            raise RuntimeError("the server wrote another text than the library")
        return {"alone: library, s": library, "alone: server, s": server}

    def first_token(self) -> dict[str, float]:
        """Until the first token of a stream, and of the library."""
        letter = self._model.tokenizer.encode("a")[0]  # a half character would not be sent at once
        body = {**self._body(self._args.prompt, 2), "logit_bias": {str(letter): 100}}
        begun = time.perf_counter()
        logits = self._model.forward(body["prompt"], self._model.initial_state())
        Sampler(SamplingParams(seed=1)).sample(logits)
        library = time.perf_counter() - begun
        rest()
        begun = time.perf_counter()
        next(self._served.events("/v1/completions", body))
        stream = time.perf_counter() - begun
        self._served.await_idle()
        return {"first token: library, s": library, "first token: stream, s": stream}

    def hung_up(self) -> dict[str, float]:
        """A client that hangs up while its answer is written."""
        events = self._served.events("/v1/completions", self._body(20, 10_000))
        times = [time.perf_counter() for _ in islice(events, 20)]
        events.close()
        freed = self._served.await_idle()
        step = (times[-1] - times[0]) / (len(times) - 1)
        return {"hung up: a step, s": step, "hung up: freed after, s": freed}


def load_test(served: Served, n_clients: int, n_requests: int, n_tokens: int) -> str:
    """RWKV-Runner's: `ab -p body.json -T application/json -c 20 -n 100 -l .../chat/completions`."""
    left, body = iter(range(n_requests)), {**GUIDE, "max_tokens": n_tokens}
    statuses: list[int] = []

    def ask() -> None:
        for _ in left:
            statuses.append(served.ask("POST", "/chat/completions", body)[0])

    begun = time.perf_counter()
    in_threads(ask, n_clients)
    seconds = time.perf_counter() - begun
    failed = n_requests - statuses.count(200)
    return f"{n_requests} chats of {n_clients} clients: {failed} failed, {seconds:.1f} s."


def dropping(served: Served, n: int) -> str:
    """Clients that connect and hang up: at once, in a header, before the answer and in it."""
    drop(served, max(20, n // 10))  # what grows once has grown
    n_threads, resident = served.n_threads(), served.resident_mb()
    drop(served, n)
    grown = served.resident_mb() / resident - 1
    return (
        f"{n} clients hung up: {served.n_threads() - n_threads} threads and "
        f"{served.n_generations()} generations are left of them, memory {resident:.0f} MB "
        f"and {grown:.1%} (wanted below {GROWTH_WANTED:.0%})."
    )


def drop(served: Served, n: int) -> None:
    """All kinds of it in turn."""
    body = {"prompt": "The fox", "max_tokens": 10_000, "seed": 1}
    for i in range(n):
        connection = served.connect()
        connection.connect()
        if i % 4 == 1:  # in the headers
            connection.putrequest("POST", "/v1/completions")
            connection.putheader("Content-Length", "10")
        if i % 4 == 2:  # while the answer is computed
            connection.request("POST", "/v1/completions", json.dumps(body).encode())
        if i % 4 == 3:  # while it is sent
            events = served.events("/v1/completions", body)
            next(events)
            events.close()
        connection.close()
    served.await_idle()


def in_threads(work: Callable[[], None], n: int) -> None:
    """`work` n times at once."""
    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rested(case: Callable[[], dict[str, float]]) -> dict[str, float]:
    """A case after a rest, so that no thread of the one before it still spins."""
    rest()
    return case()


def rest() -> None:
    """As long as the other side's threads may spin."""
    time.sleep(0.3)


if __name__ == "__main__":
    main()

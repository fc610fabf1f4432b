"""How long states and sessions take to be saved, loaded, forked and rewound: medians, in ms.

    python bench/states.py rwkv7-1.5b-q4_0.gguf

Every round does everything once, so that what else the machine does meets all alike; the first
round warms up and is not counted. Files lie in --folder, and in the page cache. `durable` waits for
the disk, and says what the disk is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rwkvcpp import Model, SamplingParams, Session

N_TOKENS = 2000  # of the session: a few pages
N_SAMPLED = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="a model file; its weights do not matter")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="where to write (the system's temporary one)")
    args = parser.parse_args()

    session = conversation(Model(args.model, mmap=True))
    print(f"{session.state.nbytes / 1e6:.1f} MB of state, {len(session.tokens)} tokens")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        times = measured(session, Path(folder), args.rounds)
    for name, rounds in times.items():
        seconds = sorted(rounds)
        print(
            f"{name:<28}{1000 * statistics.median(seconds):8.2f} ms"
            f"   ({1000 * seconds[0]:.2f} to {1000 * seconds[-1]:.2f})"
        )


def conversation(model: Model) -> Session:
    """A session as chats have them: many tokens, and a sampler with penalties."""
    session = model.session()
    session.feed([1 + i % (model.n_vocab - 1) for i in range(N_TOKENS)])
    sampling = SamplingParams(top_p=0.5, frequency_penalty=0.5, seed=1)
    for _ in session.generate(max_tokens=N_SAMPLED, sampling=sampling, stop_tokens=[]):
        pass
    return session


def measured(session: Session, folder: Path, n_rounds: int) -> dict[str, list[float]]:
    """Seconds of each kind, round by round."""
    model, state = session.model, session.state
    files = {name: folder / name for name in ("state", "half", "session", "durable")}
    checkpoint = session.checkpoint()
    data = session.to_bytes()
    kinds: dict[str, Callable[[], object]] = {
        "state.save": lambda: state.save(files["state"]),
        "model.load_state": lambda: model.load_state(files["state"]),
        "state.save, float16": lambda: state.save(files["half"], dtype="float16"),
        "session.save": lambda: session.save(files["session"]),
        "model.load_session": lambda: model.load_session(files["session"]),
        "session.save, durable": lambda: session.save(files["durable"], durable=True),
        "session.to_bytes": session.to_bytes,
        "model.session_from_bytes": lambda: model.session_from_bytes(data),
        "session.fork": session.fork,
        "session.checkpoint": session.checkpoint,
        "session.rewind": lambda: session.rewind(checkpoint),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(n_rounds + 1):
        for name, run in kinds.items():
            begun = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begun)
    return {name: rounds[1:] for name, rounds in times.items()}


if __name__ == "__main__":
    main()

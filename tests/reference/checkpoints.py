"""Random checkpoints in the official layout, of any version and size, the same on every machine.

The statistics are those of a model that works: residual branches of the stream's own size, decays
spread over their range, logits of unit scale, and group-norm inputs of order one, among the first
tokens small enough that a wrong epsilon shows. Every tensor has its own stream of random bits,
seeded by its name, and only operations that IEEE 754 rounds exactly turn bits into weights: no
version of NumPy changes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERSIONS = ("4", "5.0", "5.1", "5.2", "6", "7")

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model. The low ranks are v6's R and D and v7's four."""

    n_embd: int = 128
    n_layer: int = 3
    head_size: int = 64
    n_ffn: int = 448
    n_vocab: int = 133
    lerp_rank: int = 32
    decay_rank: int = 64
    rate_rank: int = 32
    value_rank: int = 32
    gate_rank: int = 96

    @property
    def n_head(self) -> int:
        return self.n_embd // self.head_size


class Stream:
    """Random numbers of one tensor, straight from the bits of PCG64."""

    def __init__(self, seed: int, name: str) -> None:
        self._bits = np.random.PCG64([seed, zlib.crc32(name.encode())])

    def bell(self, shape: tuple[int, ...], std: float) -> Float32:
        """The sum of four 16-bit uniforms: close to a normal distribution, at most 3.5 std."""
        words = self._bits.random_raw(int(np.prod(shape))).astype("<u8", copy=False)
        parts = words.view("<u2").reshape(-1, 4)
        sums = np.full(len(parts), -2 * 65535, np.int32)
        for i in range(4):
            sums += parts[:, i]
        weights = sums.astype(np.float32)
        weights *= np.float32(std * np.sqrt(3.0) / 65536.0)
        return weights.reshape(shape)

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> Float32:
        words = self._bits.random_raw(int(np.prod(shape))) >> np.uint64(11)
        return (low + (high - low) * (words * 2.0**-53)).astype(np.float32).reshape(shape)


Make = Callable[[Stream], Float32]


def matrix(rows: int, inputs: int, gain: float = 1.0) -> Make:
    """Outputs have `gain` times the size of the inputs."""
    return lambda s: s.bell((rows, inputs), gain / np.sqrt(inputs))


def low_rank(*shape: int, gain: float = 1.0) -> Make:
    """The same for the transposed orientation, [..., inputs, outputs]."""
    return lambda s: s.bell(shape, gain / np.sqrt(shape[-2]))


def around(mean: float, std: float, *shape: int) -> Make:
    return lambda s: np.float32(mean) + s.bell(shape, std)


def between(low: float, high: float, *shape: int) -> Make:
    return lambda s: s.uniform(shape, low, high)


def norm(name: str, n: int) -> dict[str, Make]:
    return {f"{name}.weight": around(1.0, 0.2, n), f"{name}.bias": around(0.0, 0.2, n)}


def squares(names: str, n: int, gain: float = 1.0) -> dict[str, Make]:
    return {f"{name}.weight": matrix(n, n, gain) for name in names.split()}


def shifts(names: str, n: int) -> dict[str, Make]:
    return {name: between(0.05, 0.95, 1, 1, n) for name in names.split()}


def gated_channel_mix(z: Sizes, mix: str) -> dict[str, Make]:
    """ffn of v4, v5 and v6; `mix` is what the version calls its lerps."""
    c = z.n_embd
    return {
        **shifts(f"ffn.{mix}_k ffn.{mix}_r", c),
        "ffn.key.weight": matrix(z.n_ffn, c),
        "ffn.receptance.weight": matrix(c, c),
        "ffn.value.weight": matrix(c, z.n_ffn),
    }


def block_4(z: Sizes) -> dict[str, Make]:
    c = z.n_embd
    return {
        "att.time_decay": between(-5.0, 1.5, c),
        "att.time_first": around(0.5, 0.8, c),
        **shifts("att.time_mix_k att.time_mix_v att.time_mix_r", c),
        **squares("att.key att.value att.receptance", c),
        **squares("att.output", c, gain=2.0),
        **gated_channel_mix(z, "time_mix"),
    }


def block_5(z: Sizes, *, gated: bool, per_channel: bool, bonus: str) -> dict[str, Make]:
    c = z.n_embd
    decays = (z.n_head, z.head_size) if per_channel else (z.n_head,)
    return {
        "att.time_decay": between(-4.0, 1.0, *decays),
        bonus: between(-1.0, 0.7, *decays),
        **shifts("att.time_mix_k att.time_mix_v att.time_mix_r", c),
        **(shifts("att.time_mix_g", c) if gated else {}),
        **squares("att.receptance att.key", c, gain=0.6),
        **squares("att.value att.output", c),
        **(squares("att.gate", c, gain=2.0) if gated else {}),
        **norm("att.ln_x", c),
        **gated_channel_mix(z, "time_mix"),
    }


def block_5_0(z: Sizes) -> dict[str, Make]:
    return block_5(z, gated=False, per_channel=False, bonus="att.time_first")


def block_5_1(z: Sizes) -> dict[str, Make]:
    return block_5(z, gated=True, per_channel=False, bonus="att.time_faaaa")


def block_5_2(z: Sizes) -> dict[str, Make]:
    return block_5(z, gated=True, per_channel=True, bonus="att.time_faaaa")


def block_6(z: Sizes) -> dict[str, Make]:
    c = z.n_embd
    return {
        **shifts(" ".join(f"att.time_maa_{q}" for q in "xwkvrg"), c),
        "att.time_maa_w1": low_rank(c, 5 * z.lerp_rank),
        "att.time_maa_w2": low_rank(5, z.lerp_rank, c, gain=0.4),
        "att.time_decay": between(-5.0, 1.0, 1, 1, c),
        "att.time_decay_w1": low_rank(c, z.decay_rank),
        "att.time_decay_w2": low_rank(z.decay_rank, c),
        "att.time_faaaa": between(-1.0, 0.7, z.n_head, z.head_size),
        **squares("att.receptance att.key", c, gain=0.6),
        **squares("att.value att.output", c),
        **squares("att.gate", c, gain=2.0),
        **norm("att.ln_x", c),
        **gated_channel_mix(z, "time_maa"),
    }


def block_7(z: Sizes) -> dict[str, Make]:
    c = z.n_embd
    ranks = {"w": z.decay_rank, "a": z.rate_rank, "v": z.value_rank, "g": z.gate_rank}
    biases = {"w": (-6.0, 1.0), "a": (-2.0, 2.0), "v": (-2.0, 2.0)}
    return {
        **shifts(" ".join(f"att.x_{q}" for q in "rwkvag"), c),
        **{f"att.{q}0": between(*biases[q], 1, 1, c) for q in biases},
        **{f"att.{q}1": low_rank(c, rank) for q, rank in ranks.items()},
        **{f"att.{q}2": low_rank(rank, c) for q, rank in ranks.items()},
        "att.k_k": around(0.85, 0.2, 1, 1, c),
        "att.k_a": around(1.0, 0.2, 1, 1, c),
        "att.r_k": around(0.0, 1.0, z.n_head, z.head_size),
        **squares("att.receptance att.key", c, gain=0.6),
        **squares("att.value", c),
        **squares("att.output", c, gain=2.0),
        **norm("att.ln_x", c),
        **shifts("ffn.x_k", c),
        "ffn.key.weight": matrix(z.n_ffn, c),
        "ffn.value.weight": matrix(c, z.n_ffn),
    }


BLOCKS: dict[str, Callable[[Sizes], dict[str, Make]]] = {
    "4": block_4,
    "5.0": block_5_0,
    "5.1": block_5_1,
    "5.2": block_5_2,
    "6": block_6,
    "7": block_7,
}


class Checkpoint(Mapping[str, Float32]):
    """Tensors by official name, each made when it is asked for: wide models need not fit memory."""

    def __init__(self, version: str, sizes: Sizes, *, seed: int = 1) -> None:
        self.version = version
        self.sizes = sizes
        self.seed = seed
        self._make = _recipes(version, sizes)

    def __getitem__(self, name: str) -> Float32:
        return self._make[name](Stream(self.seed, name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)

    def float64(self) -> dict[str, NDArray[np.float64]]:
        """All tensors, as the NumPy reference takes them."""
        return {name: a.astype(np.float64) for name, a in self.items()}

    def crc(self) -> int:
        """Of every name and every bit."""
        crc = 0
        for name, tensor in self.items():
            crc = zlib.crc32(tensor.tobytes(), zlib.crc32(name.encode(), crc))
        return crc


def _recipes(version: str, z: Sizes) -> dict[str, Make]:
    recipes: dict[str, Make] = {"emb.weight": lambda s: s.bell((z.n_vocab, z.n_embd), 0.7)}
    recipes |= norm("blocks.0.ln0", z.n_embd)
    for i in range(z.n_layer):
        block = {**norm("ln1", z.n_embd), **norm("ln2", z.n_embd), **BLOCKS[version](z)}
        recipes |= {f"blocks.{i}.{name}": make for name, make in block.items()}
    recipes |= norm("ln_out", z.n_embd)
    recipes["head.weight"] = matrix(z.n_vocab, z.n_embd)
    return recipes

"""RWKV-4, 5.0, 5.1, 5.2, 6 and 7 in float64 NumPy: the executable specification.

Written to be read beside the papers, one section per version; nothing here is fast. Weights carry
the official checkpoint's names and orientation: matrices are [outputs, inputs] (y = W x), low-rank
pairs are [inputs, rank] and [rank, outputs] (y = x A B), decays are raw. `x` is always [tokens, C]
after layer norm, `p` the same vectors one token earlier.

A state is a dict of named arrays, per layer i and updated in place:
    blocks.i.att.x [C]          token shift of time mixing
    blocks.i.att.wkv [H, N, N]  v5, v6: [head][key][value]; v7: [head][value][key]
    blocks.i.att.aa, .bb, .pp   v4 instead of wkv: numerator, denominator, log scale, [C] each
    blocks.i.ffn.x [C]          token shift of channel mixing
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]
State = dict[str, Array]

LAYER_NORM_EPS = 1e-5
GROUP_NORM_EPS = 64e-5  # trained as eps 1e-5 on y / 8, which is this on y
LOG_DECAY_FLOOR_7 = -np.exp(-0.5)  # others write 0.606531, which moves logits by 4e-7 of their rms


# ---- the pieces that every version shares ----------------------------------------------------


def sigmoid(z: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * z))  # no overflow for any z


def silu(z: Array) -> Array:
    return z * sigmoid(z)


def relu_squared(z: Array) -> Array:
    return np.maximum(z, 0.0) ** 2


def double_exp_decay(z: Array) -> Array:
    """exp(-exp(z)): the share of the state that survives a token, in [0, 1]."""
    return np.exp(-np.exp(np.minimum(z, 88.0)))  # beyond 88 it is 0 either way


def normalized(x: Array, eps: float) -> Array:
    """Mean 0 and (biased) variance 1 along the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)


def layer_norm(x: Array, weights: Weights, name: str) -> Array:
    return normalized(x, LAYER_NORM_EPS) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def token_shift(x: Array, state: State, name: str) -> Array:
    """The previous token's rows; leaves the last row in the state for the next call."""
    p = np.concatenate([state[name][None, :], x[:-1]])
    state[name] = x[-1].copy()
    return p


@dataclass
class Layer:
    """One block's weights by their short names ("att.key.weight"), and what the formulas share."""

    weights: Weights
    index: int
    group_norm_eps: float
    across_layers: dict[str, Array] = field(default_factory=dict)  # v7: v_first of these tokens

    def __getitem__(self, name: str) -> Array:
        return self.weights[f"blocks.{self.index}.{name}"]

    def __contains__(self, name: str) -> bool:
        return f"blocks.{self.index}.{name}" in self.weights

    def vector(self, name: str) -> Array:
        return self[name].reshape(-1)  # checkpoints keep some vectors as [1, 1, C]

    def linear(self, name: str, x: Array) -> Array:
        return x @ self[f"{name}.weight"].T

    def mix(self, name: str, x: Array, p: Array) -> Array:
        """v4, v5: mu is the share of the current token."""
        mu = self.vector(name)
        return x * mu + p * (1.0 - mu)

    def lerp(self, name: str, x: Array, p: Array) -> Array:
        """v6, v7: mu is the share of the previous token."""
        return x + (p - x) * self.vector(name)

    def group_norm(self, y: Array) -> Array:
        """y is [tokens, H, N]; each head is normalized by itself. Returns [tokens, C]."""
        flat = normalized(y, self.group_norm_eps).reshape(len(y), -1)
        return flat * self["att.ln_x.weight"] + self["att.ln_x.bias"]


# ---- RWKV-4 ----------------------------------------------------------------------------------


def time_mix_4(p4: Layer, x: Array, state: State) -> Array:
    att = f"blocks.{p4.index}.att"
    p = token_shift(x, state, f"{att}.x")
    r = sigmoid(p4.linear("att.receptance", p4.mix("att.time_mix_r", x, p)))
    k = p4.linear("att.key", p4.mix("att.time_mix_k", x, p))
    v = p4.linear("att.value", p4.mix("att.time_mix_v", x, p))
    u = p4.vector("att.time_first")
    w = -np.exp(p4.vector("att.time_decay"))

    # aa / bb is the weighted mean of past values; both are scaled by exp(-pp), so that no
    # exponent is positive.
    aa, bb, pp = state[f"{att}.aa"], state[f"{att}.bb"], state[f"{att}.pp"]
    wkv = np.empty_like(v)
    for t in range(len(x)):
        q = np.maximum(pp, u + k[t])
        e1, e2 = np.exp(pp - q), np.exp(u + k[t] - q)
        wkv[t] = (e1 * aa + e2 * v[t]) / (e1 * bb + e2)

        q = np.maximum(pp + w, k[t])
        e1, e2 = np.exp(pp + w - q), np.exp(k[t] - q)
        aa, bb, pp = e1 * aa + e2 * v[t], e1 * bb + e2, q
    state[f"{att}.aa"], state[f"{att}.bb"], state[f"{att}.pp"] = aa, bb, pp
    return p4.linear("att.output", r * wkv)


def channel_mix_4(p4: Layer, x: Array, state: State) -> Array:
    """v5 uses it too."""
    p = token_shift(x, state, f"blocks.{p4.index}.ffn.x")
    k = relu_squared(p4.linear("ffn.key", p4.mix("ffn.time_mix_k", x, p)))
    r = sigmoid(p4.linear("ffn.receptance", p4.mix("ffn.time_mix_r", x, p)))
    return r * p4.linear("ffn.value", k)


# ---- RWKV-5.0, 5.1, 5.2 ----------------------------------------------------------------------


def wkv_5(r: Array, k: Array, v: Array, w: Array, u: Array, s: Array) -> Array:
    """The recurrence of v5 and v6. r, k, v, w are [tokens, H, N], u is [H, N]; advances s."""
    y = np.empty_like(v)
    for t in range(len(r)):
        kv = k[t][:, :, None] * v[t][:, None, :]  # [H, key, value]
        y[t] = np.einsum("hi,hij->hj", r[t], u[:, :, None] * kv + s)  # the state before the update
        s[:] = kv + w[t][:, :, None] * s
    return y


def time_mix_5(p5: Layer, x: Array, state: State) -> Array:
    """5.0 has no gate and one decay per head, 5.1 a gate, 5.2 a gate and one decay per channel."""
    att = f"blocks.{p5.index}.att"
    p = token_shift(x, state, f"{att}.x")
    s = state[f"{att}.wkv"]
    heads = (len(x), *s.shape[:2])
    r = p5.linear("att.receptance", p5.mix("att.time_mix_r", x, p)).reshape(heads)
    k = p5.linear("att.key", p5.mix("att.time_mix_k", x, p)).reshape(heads)
    v = p5.linear("att.value", p5.mix("att.time_mix_v", x, p)).reshape(heads)

    per_head = (heads[1], -1)  # [H, 1] or [H, N]
    w = double_exp_decay(p5["att.time_decay"]).reshape(per_head)
    if "att.time_faaaa" in p5:
        u = p5["att.time_faaaa"].reshape(per_head)
    else:
        u = np.exp(p5["att.time_first"]).reshape(per_head)
    y = wkv_5(r, k, v, np.broadcast_to(w, heads), np.broadcast_to(u, heads[1:]), s)

    y = p5.group_norm(y)
    if "att.gate.weight" in p5:
        y = y * silu(p5.linear("att.gate", p5.mix("att.time_mix_g", x, p)))
    return p5.linear("att.output", y)


# ---- RWKV-6 ----------------------------------------------------------------------------------


def data_dependent_lerps(p6: Layer, x: Array, p: Array) -> dict[str, Array]:
    """How much of the previous token each of w, k, v, r, g sees depends on the token itself."""
    low = np.tanh(p6.lerp("att.time_maa_x", x, p) @ p6["att.time_maa_w1"])  # [tokens, 5 R]
    slices = np.split(low, 5, axis=1)
    return {
        q: x + (p - x) * (p6.vector(f"att.time_maa_{q}") + slices[i] @ p6["att.time_maa_w2"][i])
        for i, q in enumerate("wkvrg")
    }


def time_mix_6(p6: Layer, x: Array, state: State) -> Array:
    att = f"blocks.{p6.index}.att"
    p = token_shift(x, state, f"{att}.x")
    s = state[f"{att}.wkv"]
    heads = (len(x), *s.shape[:2])
    mixed = data_dependent_lerps(p6, x, p)
    r = p6.linear("att.receptance", mixed["r"]).reshape(heads)
    k = p6.linear("att.key", mixed["k"]).reshape(heads)
    v = p6.linear("att.value", mixed["v"]).reshape(heads)
    g = silu(p6.linear("att.gate", mixed["g"]))
    low = np.tanh(mixed["w"] @ p6["att.time_decay_w1"]) @ p6["att.time_decay_w2"]
    w = double_exp_decay(p6.vector("att.time_decay") + low).reshape(heads)

    y = wkv_5(r, k, v, w, p6["att.time_faaaa"].reshape(heads[1:]), s)
    return p6.linear("att.output", p6.group_norm(y) * g)


def channel_mix_6(p6: Layer, x: Array, state: State) -> Array:
    p = token_shift(x, state, f"blocks.{p6.index}.ffn.x")
    k = relu_squared(p6.linear("ffn.key", p6.lerp("ffn.time_maa_k", x, p)))
    r = sigmoid(p6.linear("ffn.receptance", p6.lerp("ffn.time_maa_r", x, p)))
    return r * p6.linear("ffn.value", k)


# ---- RWKV-7 ----------------------------------------------------------------------------------


def wkv_7(r: Array, w: Array, k: Array, v: Array, kk: Array, a: Array, s: Array) -> Array:
    """The delta rule: take out what the state knows of kk, put in v. Advances s [H, value, key]."""
    y = np.empty_like(v)
    for t in range(len(r)):
        known = -np.einsum("hij,hj->hi", s, kk[t])
        s[:] = (
            s * w[t][:, None, :]
            + known[:, :, None] * (kk[t] * a[t])[:, None, :]
            + v[t][:, :, None] * k[t][:, None, :]
        )
        y[t] = np.einsum("hij,hj->hi", s, r[t])  # the state after the update
    return y


def time_mix_7(p7: Layer, x: Array, state: State) -> Array:
    att = f"blocks.{p7.index}.att"
    p = token_shift(x, state, f"{att}.x")
    s = state[f"{att}.wkv"]
    heads = (len(x), *s.shape[:2])
    xr, xw, xk, xv, xa, xg = (p7.lerp(f"att.x_{q}", x, p) for q in "rwkvag")

    r = p7.linear("att.receptance", xr)
    k = p7.linear("att.key", xk)
    v = p7.linear("att.value", xv)
    a = sigmoid(p7.vector("att.a0") + xa @ p7["att.a1"] @ p7["att.a2"])
    g = sigmoid(xg @ p7["att.g1"]) @ p7["att.g2"]
    low = np.tanh(xw @ p7["att.w1"]) @ p7["att.w2"]
    w = np.exp(LOG_DECAY_FLOOR_7 * sigmoid(p7.vector("att.w0") + low))

    kk = (k * p7.vector("att.k_k")).reshape(heads)
    kk = kk / np.maximum(np.linalg.norm(kk, axis=-1, keepdims=True), 1e-12)
    k = k * (1.0 + (a - 1.0) * p7.vector("att.k_a"))
    if p7.index == 0:
        p7.across_layers["v_first"] = v
    else:
        share = sigmoid(p7.vector("att.v0") + xv @ p7["att.v1"] @ p7["att.v2"])
        v = v + (p7.across_layers["v_first"] - v) * share

    r, w, k, v, a = (q.reshape(heads) for q in (r, w, k, v, a))
    y = p7.group_norm(wkv_7(r, w, k, v, kk, a, s))
    bonus = (r * k * p7["att.r_k"].reshape(heads[1:])).sum(axis=-1, keepdims=True) * v
    return p7.linear("att.output", (y + bonus.reshape(len(x), -1)) * g)


def channel_mix_7(p7: Layer, x: Array, state: State) -> Array:
    p = token_shift(x, state, f"blocks.{p7.index}.ffn.x")
    return p7.linear("ffn.value", relu_squared(p7.linear("ffn.key", p7.lerp("ffn.x_k", x, p))))


# ---- every version ---------------------------------------------------------------------------

Half = Callable[[Layer, Array, State], Array]

HALVES: dict[str, tuple[Half, Half]] = {
    "4": (time_mix_4, channel_mix_4),
    "5.0": (time_mix_5, channel_mix_4),
    "5.1": (time_mix_5, channel_mix_4),
    "5.2": (time_mix_5, channel_mix_4),
    "6": (time_mix_6, channel_mix_6),
    "7": (time_mix_7, channel_mix_7),
}

HEADS_ARE_ROWS_OF = {
    "5.0": "time_decay",
    "5.1": "time_decay",
    "5.2": "time_decay",
    "6": "time_faaaa",
    "7": "r_k",
}


def detect_version(weights: Weights) -> str:
    """The version, from the names and shapes of block 0."""
    att = "blocks.0.att."
    if f"{att}r_k" in weights:
        return "7"
    if f"{att}time_maa_x" in weights:
        return "6"
    if f"{att}ln_x.weight" not in weights:
        return "4"
    if f"{att}gate.weight" not in weights:
        return "5.0"
    decay = weights[f"{att}time_decay"]
    return "5.2" if decay.ndim > 1 and decay.shape[1] > 1 else "5.1"


def layer_count(weights: Weights) -> int:
    return 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))


def initial_state(weights: Weights) -> State:
    """The state before the first token."""
    version = detect_version(weights)
    n_embd = weights["emb.weight"].shape[1]
    state: State = {}
    for i in range(layer_count(weights)):
        att = f"blocks.{i}.att"
        state[f"{att}.x"] = np.zeros(n_embd)
        if version == "4":
            state[f"{att}.aa"] = np.zeros(n_embd)
            state[f"{att}.bb"] = np.zeros(n_embd)
            state[f"{att}.pp"] = np.full(n_embd, -1e30)
        else:
            n_head = len(weights[f"{att}.{HEADS_ARE_ROWS_OF[version]}"])
            head_size = n_embd // n_head
            state[f"{att}.wkv"] = np.zeros((n_head, head_size, head_size))
        state[f"blocks.{i}.ffn.x"] = np.zeros(n_embd)
    return state


def hidden(
    weights: Weights,
    tokens: Sequence[int],
    state: State | None = None,
    *,
    group_norm_eps: float = GROUP_NORM_EPS,
    rescale_every: int = 0,
) -> tuple[Array, State]:
    """What the head meets after every token, [len(tokens), C], and the state after the last.

    `state` is left as it was. With rescale_every = n the residual stream is halved after every n-th
    layer, for v6 GGUF files, whose output matrices are divided to match.
    """
    time_mix, channel_mix = HALVES[detect_version(weights)]
    state = {name: a.copy() for name, a in (state or initial_state(weights)).items()}
    across_layers: dict[str, Array] = {}
    x = layer_norm(weights["emb.weight"][np.asarray(tokens)], weights, "blocks.0.ln0")
    for i in range(layer_count(weights)):
        layer = Layer(weights, i, group_norm_eps, across_layers)
        x = x + time_mix(layer, layer_norm(x, weights, f"blocks.{i}.ln1"), state)
        x = x + channel_mix(layer, layer_norm(x, weights, f"blocks.{i}.ln2"), state)
        if rescale_every and (i + 1) % rescale_every == 0:
            x = x / 2.0
    return layer_norm(x, weights, "ln_out"), state


def forward(
    weights: Weights,
    tokens: Sequence[int],
    state: State | None = None,
    *,
    group_norm_eps: float = GROUP_NORM_EPS,
    rescale_every: int = 0,
) -> tuple[Array, State]:
    """The logits after every token, [len(tokens), V], and the state after the last."""
    rows, state = hidden(
        weights, tokens, state, group_norm_eps=group_norm_eps, rescale_every=rescale_every
    )
    return rows @ weights["head.weight"].T, state


def embedding(rows: Array) -> Array:
    """The text of which `hidden` gave these rows as one vector, of length 1."""
    mean = rows.mean(axis=0)
    return mean / np.linalg.norm(mean)

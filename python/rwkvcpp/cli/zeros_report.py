"""Zeros in channel mixing, and the roofs of decoding with and without them."""

from __future__ import annotations

from typing import Any

import rwkvcpp
from rwkvcpp.zeros import bytes_to_skip, share_of_zeros


def zeros_report(model: rwkvcpp.Model, read_gbs: float, reached: float) -> dict[str, Any]:
    """What `model` has met so far; `reached` tokens/s of decode, where reading runs at read_gbs."""
    layers = model.zeros()
    skipped = bytes_to_skip(layers)
    dense_roof = read_gbs * 1e9 / model.token_bytes_read
    skipping_roof = read_gbs * 1e9 / (model.token_bytes_read - skipped)
    return {
        "share": share_of_zeros(layers),
        "by_layer": [layer.share for layer in layers],
        "layers_by_columns": sum(layer.by_columns for layer in layers),
        "bytes_skippable_per_token": skipped,
        "dense_roof": {"tokens/s": dense_roof, "reached": reached / dense_roof},
        "skipping_roof": {"tokens/s": skipping_roof, "reached": reached / skipping_roof},
        "decode": {"tokens/s": reached},
    }


def zeros_lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, figures) for people."""
    dense, skipping = report["dense_roof"], report["skipping_roof"]
    by_layer = " ".join(f"{100 * share:.0f}" for share in report["by_layer"])
    return [
        ("zeros into ffn.value", f"{100 * report['share']:.1f} % (by layer: {by_layer})"),
        (
            "ffn.value by columns",
            f"{report['layers_by_columns']} of {len(report['by_layer'])} layers",
        ),
        ("decode roof, dense", _roof(dense)),
        ("decode roof, zeros skipped", _roof(skipping)),
    ]


def _roof(roof: dict[str, float]) -> str:
    return f"{roof['tokens/s']:.1f} tokens/s, {100 * roof['reached']:.0f} % of it reached"

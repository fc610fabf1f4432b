"""One option for every field of SamplingParams: a new field is a new option by itself.

And --profile, which gives those that are not named other values than the defaults.
"""

from __future__ import annotations

import argparse
from dataclasses import Field, fields, replace
from typing import Any

import rwkvcpp
from rwkvcpp.profiles import PROFILES


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """--profile, --temperature, --top-p and the others."""
    options = parser.add_argument_group("sampling")
    options.add_argument(
        "--profile",
        choices=PROFILES,
        metavar="NAME",
        help="published parameters, where none are given: " + ", ".join(PROFILES),
    )
    for field in fields(rwkvcpp.SamplingParams):
        options.add_argument(f"--{field.name.replace('_', '-')}", **_shape(field))


def sampling_params(args: argparse.Namespace) -> rwkvcpp.SamplingParams:
    """The parameters that the options ask for, those not given as --profile or the defaults say."""
    given = {field.name: getattr(args, field.name) for field in fields(rwkvcpp.SamplingParams)}
    chosen = {name: value for name, value in given.items() if value is not None}
    if "logit_bias" in chosen:
        chosen["logit_bias"] = dict(chosen["logit_bias"])
    base = rwkvcpp.SamplingParams() if args.profile is None else PROFILES[args.profile].sampling
    return replace(base, **chosen)


def _shape(field: Field[Any]) -> dict[str, Any]:
    """What argparse needs to know of a field, read off its default value."""
    default = getattr(rwkvcpp.SamplingParams(), field.name)
    text = field.metadata["help"].replace("%", "%%")  # argparse formats it
    if isinstance(default, float):
        return {"type": float, "metavar": "X", "help": f"{text} ({default:g})"}
    if isinstance(default, str):
        return {"choices": field.metadata["choices"], "help": f"{text} ({default})"}
    if isinstance(default, dict):
        return {"type": _id_and_bias, "action": "append", "metavar": "ID=X", "help": text}
    if isinstance(default, (tuple, list)):
        return {"type": int, "action": "append", "metavar": "ID", "help": text}
    shown = "" if default is None else f" ({default})"
    return {"type": int, "metavar": "N", "help": text + shown}


def _id_and_bias(text: str) -> tuple[int, float]:
    token, equals, bias = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected ID=BIAS such as 261=-2.5, got {text!r}")
    return int(token), float(bias)

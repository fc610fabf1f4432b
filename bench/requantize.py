"""Writes a trained model as GGUF with weights of another type, to measure quality on.

    python -m bench.requantize rwkv7-stories-f16.gguf rwkv7-stories-q4_0.gguf --type q4_0
    python -m bench.requantize tiny-rwkv-7v0-834K-FP32.bin tiny-rwkv7-q8_0.gguf --type q8_0

RWKV-6 and 7, from GGUF or rwkv.cpp files. Rounding is ggml's reference rounding, and each tensor
has the type that llama-quantize gives it; --pure gives every matrix the one type.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import rwkvcpp
from bench.make_model import quantized_type
from bench.random_blocks import FILL
from tests.reference.cases import native_quantize
from tests.reference.layouts import Tensor
from tests.reference.readers import read_model
from tests.reference.writers import write_gguf


def requantize(source: Path, out: Path, weight_type: str, *, pure: bool = False) -> None:
    """Write `out` with the weights and the vocabulary of `source`."""

    def type_of(name: str, tensor: Tensor) -> str:
        return quantized_type(name, tensor.shape, weight_type, pure=pure)

    model = rwkvcpp.Model(source)
    if model.version not in ("6", "7"):
        raise ValueError(f"{source}: RWKV-{model.version} cannot be written as GGUF, only 6 and 7")
    write_gguf(
        out,
        _with_unused(read_model(source).weights),
        weight_type,
        type_of=type_of,
        vocabulary=[model.tokenizer.token_bytes(i) for i in range(model.n_vocab)],
        quantize=native_quantize,
    )


def _with_unused(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the v0, v1 and v2 of RWKV-7's layer 0, which GGUF has and nothing reads."""
    first = "blocks.0.att."
    unused = {f"{first}v{i}": weights.get(f"{first}a{i}") for i in range(3)}
    return {name: tensor for name, tensor in unused.items() if tensor is not None} | weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="the model to read, best of float weights")
    parser.add_argument("out", type=Path, help="the .gguf file to write")
    parser.add_argument("--type", choices=[name.lower() for name in FILL], required=True)
    parser.add_argument("--pure", action="store_true", help="every matrix in the one type")
    args = parser.parse_args()
    try:
        requantize(args.source, args.out, args.type.upper(), pure=args.pure)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

"""Makes the digests of quantized files, with the quantizer of a llama.cpp library.

pip install llama-cpp-python==0.3.36
python -m tests.data.make_quantized_digests
"""

from __future__ import annotations

import ctypes
import json
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np

from rwkvcpp.convert import convert
from rwkvcpp.imatrix import Imatrix
from tests.data import quantized_digests

STORIES = Path(__file__).resolve().parents[3] / "shared" / "demo" / "rwkv7-stories-f16.gguf"


def llama_quantize(source: Path, target: Path, file_type: int, imatrix: Imatrix | None) -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    if imatrix is not None:
        kept = {name: np.ascontiguousarray(i.mean_squares()) for name, i in imatrix.tensors.items()}
        params.imatrix = _imatrix(kept)
    failed = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(params)
    )
    if failed:
        raise RuntimeError(f"llama_model_quantize({source}, {file_type}) returned {failed}")


def _imatrix(values: dict[str, np.ndarray]) -> ctypes.Array:
    """Ends with an entry without a name."""
    array = (llama_cpp.llama_model_imatrix_data * (len(values) + 1))()
    for entry, (name, numbers) in zip(array, values.items(), strict=False):
        entry.name = name.encode()
        entry.data = numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = numbers.size
    return array


def main() -> None:
    digests = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = {"stories": STORIES}
        for version in quantized_digests.MADE:
            made = quantized_digests.made_model(version, folder)
            models[f"made-{version}"] = convert(made, folder / f"made-{version}.gguf").path
        for model, path in models.items():
            importances = quantized_digests.importances(path)
            for name, weighted in quantized_digests.cases(model):
                number, target = quantized_digests.FILE_TYPES[name], folder / "quantized.gguf"
                llama_quantize(path, target, number, importances if weighted else None)
                key = f"{model}, {name}" + (", weighted" if weighted else "")
                digests[key] = quantized_digests.digest(target)
    quantized_digests.FILE.write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()

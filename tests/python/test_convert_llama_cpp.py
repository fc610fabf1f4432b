"""llama.cpp loads what convert and quantize write, and computes the same.

Needs a Python with llama-cpp-python: this one, or the one that RWKVCPP_LLAMA_PYTHON names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import rwkvcpp
from bench.llama_cpp_reads import allowed
from rwkvcpp.convert import convert
from rwkvcpp.file_types import FILE_TYPES, FLOATS
from rwkvcpp.quantization import quantize
from rwkvcpp.templates import choose_template
from tests.data import quantized_digests
from tests.reference.cases import NARROW, TOKENS
from tests.reference.checkpoints import Checkpoint, Sizes
from tests.reference.compare import rms_per_rms
from tests.reference.writers import write_bin

WORKER = Path(__file__).parents[2] / "bench" / "worker.py"

TYPES = ("f32", "f16", "bf16", "q8_0")


@cache
def has_llama_cpp(python: str) -> bool:
    return subprocess.run([python, "-c", "import llama_cpp"], capture_output=True).returncode == 0


def llama_python() -> str:
    """An interpreter that has llama_cpp."""
    python = os.environ.get("RWKVCPP_LLAMA_PYTHON", sys.executable)
    if not has_llama_cpp(python):
        pytest.skip("needs llama-cpp-python, here or where RWKVCPP_LLAMA_PYTHON says")
    return python


def llama_logits(model: Path, tokens: list[int], n_vocab: int) -> NDArray[np.float32]:
    """[tokens, n_vocab], by the worker that the benchmarks use."""
    out = model.with_suffix(".logits")
    request: list[Any] = ["write_logits", [tokens], str(out)]
    done = subprocess.run(
        [llama_python(), str(WORKER), "llama.cpp", str(model), "1"],
        input=json.dumps(request), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return np.fromfile(out, np.float32).reshape(len(tokens), n_vocab)


def assert_llama_cpp_agrees(model: Path, type: str, tokens: list[int], n_vocab: int) -> None:
    theirs = llama_logits(model, tokens, n_vocab)
    ours = our_logits(model, tokens, activations="float32")
    int8 = rms_per_rms(our_logits(model, tokens, activations="int8"), ours)
    assert 0 < rms_per_rms(theirs, ours) <= allowed(type, int8)


def our_logits(model: Path, tokens: list[int], *, activations: str) -> NDArray[np.float32]:
    loaded = rwkvcpp.Model(model, activations=activations)
    return loaded.forward(tokens, loaded.initial_state(), all_logits=True)


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("version", ["6", "7"])
def test_llama_cpp_agrees_on_random_models(version, type, tmp_path):
    write_bin(tmp_path / "source.bin", Checkpoint(version, NARROW), "F32")
    model = convert(tmp_path / "source.bin", tmp_path / "model.gguf", type=type).path
    assert_llama_cpp_agrees(model, type, TOKENS, NARROW.n_vocab)


def test_llama_cpp_takes_a_model_of_one_layer(tmp_path):
    """Layer 0 has no value residual, so none of the layers tells its rank."""
    sizes = Sizes(**{**vars(NARROW), "n_layer": 1})
    write_bin(tmp_path / "source.bin", Checkpoint("7", sizes), "F32")
    model = convert(tmp_path / "source.bin", tmp_path / "model.gguf").path
    assert_llama_cpp_agrees(model, "f32", TOKENS, sizes.n_vocab)


@pytest.mark.parametrize("type", TYPES)
def test_llama_cpp_agrees_on_the_stories(type, shared, tmp_path):
    demo = shared / "demo"
    vocabulary = demo / "rwkv_vocab_stories.txt"
    model = convert(
        demo / "rwkv7-stories.pth", tmp_path / "stories.gguf", type=type, tokenizer=vocabulary
    ).path
    tokens = rwkvcpp.Model(model).tokenizer.encode("Once upon a time there was a fox.")
    assert_llama_cpp_agrees(model, type, tokens, 4096)


# ---- quantized -------------------------------------------------------------------------------

QUANTIZED = [name for name in FILE_TYPES if name.upper() not in FLOATS]


@pytest.mark.parametrize("type", QUANTIZED)
@pytest.mark.parametrize("version", ["6", "7"])
def test_llama_cpp_agrees_on_quantized_models(version, type, tmp_path):
    """In our types, which are mixed: low-rank matrices are quantized, too."""
    source = quantized_digests.made_model(version, tmp_path)
    model = quantize(source, tmp_path / "model.gguf", type, measure=False).path
    assert_llama_cpp_agrees(model, type, TOKENS, quantized_digests.WIDE.n_vocab)


# ---- vocabularies ----------------------------------------------------------------------------

TOKENIZE = """
import json, sys
from llama_cpp import Llama

model = Llama(sys.argv[1], vocab_only=True, verbose=False)
print(json.dumps(model.tokenize(sys.argv[2].encode(), add_bos=False, special=False)))
"""

TEXT = "The Eiffel\ttower  is 'in' \"Paris\"\n\n\n    def f(x):\\n\n你好 é 😀 it's 1234567   ...\n"


@pytest.mark.parametrize(
    ("n_vocab", "file"), [(65536, "rwkv_vocab_v20230424.txt"), (50304, "20B_tokenizer.json")]
)
def test_llama_cpp_cuts_text_as_we_do(n_vocab, file, shared, tmp_path):
    python = llama_python()
    sizes = Sizes(**{**vars(NARROW), "n_layer": 1, "n_vocab": n_vocab})
    write_bin(tmp_path / "source.bin", Checkpoint("7", sizes), "F16")
    model = convert(
        tmp_path / "source.bin", tmp_path / "model.gguf", tokenizer=shared / "vocab" / file
    ).path
    command = [python, "-c", TOKENIZE, str(model), TEXT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == rwkvcpp.Model(model).tokenizer.encode(TEXT)


# ---- chat templates --------------------------------------------------------------------------

# What llama.cpp's own function says, which reads no Jinja, and what jinja2 does.
TEMPLATE = """
import ctypes, json, sys
import llama_cpp
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

model = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False)
text = model.metadata["tokenizer.chat_template"]
messages = json.loads(sys.argv[2])
chat = (llama_cpp.llama_chat_message * len(messages))(
    *(llama_cpp.llama_chat_message(m["role"].encode(), m["content"].encode()) for m in messages)
)
buffer = ctypes.create_string_buffer(4096)
n = llama_cpp.llama_chat_apply_template(text.encode(), chat, len(messages), True, buffer, 4096)
render = Jinja2ChatFormatter(template=text, eos_token="", bos_token="")
print(json.dumps([buffer.raw[:n].decode(), render(messages=messages).prompt]))
"""


@pytest.mark.parametrize(("stem", "thought"), [("RWKV-World", ""), ("g1c", " <think></think>")])
def test_llama_cpp_renders_the_template_of_a_converted_file(stem, thought, shared, tmp_path):
    python = llama_python()
    sizes = Sizes(**{**vars(NARROW), "n_layer": 1, "n_vocab": 65536})
    write_bin(tmp_path / f"{stem}.bin", Checkpoint("7", sizes), "F16")
    vocabulary = shared / "vocab" / "rwkv_vocab_v20230424.txt"
    model = convert(tmp_path / f"{stem}.bin", tmp_path / "model.gguf", tokenizer=vocabulary).path
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Oh."},
                {"role": "user", "content": "Why?"}]  # fmt: skip
    command = [python, "-c", TEMPLATE, str(model), json.dumps(messages)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    text = "User: Hi\n\nAssistant: Oh.\n\nUser: Why?\n\nAssistant:"
    assert json.loads(done.stdout) == [text, text + thought]
    assert choose_template(metadata=rwkvcpp.Model(model).metadata).render(messages) == (
        text + thought.removesuffix(">")
    )

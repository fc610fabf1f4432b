"""The benchmarks run and tell something sane; how fast it was is nobody's business here."""

import importlib.util
import json
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest

import rwkvcpp
from bench import vs_llama_cpp
from bench.make_model import LAYERS_AND_WIDTH, make_model, official_sizes
from bench.random_blocks import FILL, random_tensor
from rwkvcpp.cli import main
from rwkvcpp.roofs import token_work
from rwkvcpp.sampling import Sampler
from rwkvcpp.speed import loop_share
from tests.reference.checkpoints import Sizes

SMALL = Sizes(n_embd=256, n_ffn=1024, n_vocab=512)
QUICK = ("--prompt", "16", "--generate", "4", "--batch", "1,3", "--repeats", "2", "-q")


# ---- rwkvcpp bench ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report() -> dict:
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) as out:
        assert main(["bench", "--json", *QUICK]) == 0
    return json.loads(out.getvalue())


def test_every_speed_is_there(report):
    names = [speed["name"] for speed in report["speeds"]]
    assert names == ["prefill 16", "decode", "generate", "batch of 1", "batch of 3"]
    assert all(speed["tokens/s"] > 0 and speed["spread"] >= 0 for speed in report["speeds"])


def test_the_machine_stands_beside_the_figures(report):
    assert report["rwkvcpp"] == rwkvcpp.__version__
    assert report["instruction_set"] == rwkvcpp.active_instruction_set()
    assert report["threads"] == rwkvcpp.default_threads()
    assert report["cpu"]
    assert report["read_roof"]["GB/s"] > 0
    assert report["int8_roof"]["Gop/s"] > 0
    assert report["load"]["GB/s"] > 0


def test_the_loop_has_a_share_of_a_generated_token(report):
    assert -1 < report["loop"]["share"] < 1  # below 0 when a neighbour's burst met the model alone
    assert report["loop"]["spread"] >= 0


def test_the_share_of_the_loop_is_what_it_takes_beside_the_model(monkeypatch):
    # A sampler that takes three times as long as the model: three quarters, whatever the machine.
    model, seconds = rwkvcpp.Model(), []
    forward_into, sample = rwkvcpp.Model.forward_into, Sampler.sample

    def timed_forward(*args, **options):
        begun = time.perf_counter()
        forward_into(*args, **options)
        seconds.append(time.perf_counter() - begun)

    def slow_sample(sampler, logits):
        token = sample(sampler, logits)
        end = time.perf_counter() + 3 * seconds[-1]
        while time.perf_counter() < end:
            pass
        return token

    monkeypatch.setattr(rwkvcpp.Model, "forward_into", timed_forward)
    monkeypatch.setattr(Sampler, "sample", slow_sample)
    assert 0.6 < loop_share(model, 40) < 0.95


def test_shares_follow_from_speeds_and_roofs(report):
    speeds = {speed["name"]: speed for speed in report["speeds"]}
    model = report["model"]
    decode, batch, prefill = speeds["decode"], speeds["batch of 3"], speeds["prefill 16"]
    read = report["read_roof"]["GB/s"] * 1e9 / model["bytes_read_per_token"]
    int8 = report["int8_roof"]["Gop/s"] * 1e9
    assert math.isclose(decode["of_read_roof"], decode["tokens/s"] / read)
    assert math.isclose(batch["of_read_roof"], batch["tokens/s"] / 3 / read)
    per_prompt_token = model["operations_per_prompt_token"]
    assert math.isclose(prefill["of_int8_roof"], prefill["tokens/s"] * per_prompt_token / int8)
    assert prefill["of_read_roof"] is None


def test_the_table_says_the_same(capsys):
    assert main(["bench", *QUICK]) == 0
    out = capsys.readouterr().out
    for part in ("prefill 16", "decode", "generate", "batch of 3", "GB/s", "Gop/s", "of read roof",
                 "of a generated token", rwkvcpp.active_instruction_set()):  # fmt: skip
        assert part in out


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1,,2"])
def test_numbers_of_sessions_are_checked(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", f"--batch={wrong}"])
    assert "at least 1" in capsys.readouterr().err


def test_float_weights_have_no_share_of_the_int8_roof(tmp_path):
    make_model(tmp_path / "f16.gguf", "7", SMALL, "F16")
    assert not token_work(rwkvcpp.Model(tmp_path / "f16.gguf")).is_int8
    assert token_work(rwkvcpp.Model()).is_int8


# ---- make_model ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FILL))
def test_random_blocks_have_the_spread_that_was_asked_for(name):
    blocks = random_tensor(name, (512, 1024), 0.02, np.random.default_rng(1))
    kind = gguf.GGMLQuantizationType[name]
    weights = gguf.quants.dequantize(blocks.reshape(512, -1), kind)
    assert weights.shape == (512, 1024)
    assert abs(weights.std() / 0.02 - 1) < 0.03
    # The mean of 2^19 weights has a deviation of 1/724 of theirs; block signs add half as much.
    assert abs(weights.mean()) < 0.01 * 0.02


def test_float32_weights_are_bf16_inside():
    blocks = random_tensor("F32", (64, 64), 0.02, np.random.default_rng(1))
    assert not (blocks.view("<u4") & 0xFFFF).any()


@pytest.mark.parametrize("pure", [False, True], ids=["published", "pure"])
@pytest.mark.parametrize(("version", "weight_type"), [
    ("4", "Q5_1"), ("5.2", "Q8_0"), ("6", "Q4_0"), ("6", "BF16"),
    ("7", "Q4_0"), ("7", "Q5_1"), ("7", "Q8_0"), ("7", "Q6_K"), ("7", "F16"),
    ("5.2", "Q2_K"), ("7", "Q4_K"), ("7", "IQ4_NL"), ("7", "IQ3_XXS"),
])  # fmt: skip
def test_a_made_model_computes_sane_logits(version, weight_type, pure, tmp_path):
    path = tmp_path / ("model.gguf" if version in "67" else "model.bin")
    make_model(path, version, SMALL, weight_type, pure=pure)
    model = rwkvcpp.Model(path)
    assert (model.version, model.weight_type) == (version, weight_type)
    logits = model.forward(list(range(1, 65)), model.initial_state())
    assert 0.5 < logits.std() < 2
    assert abs(logits).max() < 8


def types(path: Path) -> dict[str, str]:
    return {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize(
    ("weight_type", "head"), [("Q4_0", "Q6_K"), ("Q5_1", "Q6_K"), ("Q8_0", "Q8_0"), ("F16", "F16")]
)
def test_tensors_have_the_types_of_published_files(weight_type, head, tmp_path):
    make_model(tmp_path / "model.gguf", "7", SMALL, weight_type)
    found = types(tmp_path / "model.gguf")
    assert found["output.weight"] == head
    assert found["token_embd.weight"] == weight_type
    assert found["blk.1.channel_mix_value.weight"] == weight_type
    low_ranks = {letter: found[f"blk.1.time_mix_{letter}1.weight"] for letter in "wavg"}
    assert low_ranks == {"w": "F32", "a": "F16", "v": "F16", "g": "F16"}
    assert found["blk.1.time_mix_lerp_fused.weight"] == "F32"


def test_a_pure_model_has_one_type_of_matrix(tmp_path):
    make_model(tmp_path / "model.gguf", "7", SMALL, "Q4_0", pure=True)
    found = types(tmp_path / "model.gguf")
    matrices = [name for name in found if name.endswith(("1.weight", "2.weight", "output.weight"))]
    matrices = [name for name in matrices if "norm" not in name]
    assert {found[name] for name in matrices} == {"Q4_0"}


def test_the_vocabulary_is_the_world_vocabulary(tmp_path):
    make_model(tmp_path / "model.gguf", "7", SMALL, "Q8_0")
    tokenizer = rwkvcpp.Model(tmp_path / "model.gguf").tokenizer
    assert tokenizer.decode(tokenizer.encode("in to")) == "in to"


@pytest.mark.parametrize(("version", "size", "millions"), [
    ("7", "0.1b", 191.1), ("7", "0.4b", 450.8), ("7", "1.5b", 1527.7), ("7", "2.9b", 2948.1),
    ("7", "7.2b", 7199.9), ("6", "1.5b", 1599.9), ("6", "2.9b", 3099.9), ("6", "7.2b", 7635.7),
    ("5.2", "0.4b", 461.7), ("4", "1.5b", 1577.6),
])  # fmt: skip
def test_official_sizes_have_the_official_number_of_parameters(version, size, millions):
    z = official_sizes(version, size)
    squares, vectors = {"4": (5, 11), "5.2": (6, 14), "6": (6, 16), "7": (4, 19)}[version]
    ranks = {
        "6": 10 * z.lerp_rank + 2 * z.decay_rank,
        "7": 2 * (z.decay_rank + z.rate_rank + z.value_rank + z.gate_rank),
    }.get(version, 0)
    layer = squares * z.n_embd**2 + 2 * z.n_ffn * z.n_embd + (vectors + ranks) * z.n_embd
    total = 2 * z.n_vocab * z.n_embd + 4 * z.n_embd + z.n_layer * layer
    assert abs(total / 1e6 - millions) < 0.06
    assert size in LAYERS_AND_WIDTH


def test_the_container_follows_from_the_version(tmp_path):
    with pytest.raises(ValueError, match=r"RWKV-4 is written as \.bin, not \.gguf"):
        make_model(tmp_path / "model.gguf", "4", SMALL, "Q8_0")
    with pytest.raises(ValueError, match="no BF16"):
        make_model(tmp_path / "model.bin", "4", SMALL, "BF16")


# ---- vs_llama_cpp ----------------------------------------------------------------------------


def test_the_worker_times_what_it_is_asked_to():
    model = rwkvcpp.bundled_model()
    worker = vs_llama_cpp.Worker(sys.executable, vs_llama_cpp.OURS, model, 1)
    try:
        assert worker.facts["bytes_read"] == rwkvcpp.Model().token_bytes_read
        assert worker.facts["load_seconds"] > 0
        assert worker.ask("prefill", 8) > 0
        assert worker.ask("decode", 2) > 0
        assert worker.ask("batch", 2, 2) > 0
        assert worker.ask("peak_memory") > model.stat().st_size
        assert len(worker.ask("logits", 4)) == rwkvcpp.Model().n_vocab
    finally:
        worker.close()


def test_a_worker_that_dies_is_reported(tmp_path):
    with pytest.raises(SystemExit, match="rwkvcpp worker ended with exit code 1"):
        vs_llama_cpp.Worker(sys.executable, vs_llama_cpp.OURS, tmp_path / "gone.gguf", 1)


def test_without_llama_cpp_it_says_how_to_install_it():
    if importlib.util.find_spec("llama_cpp") is not None:
        pytest.skip("llama_cpp is installed here")
    model = str(rwkvcpp.bundled_model())
    with pytest.raises(SystemExit, match="--no-binary llama-cpp-python"):
        vs_llama_cpp.main(["--models", model])


def comparison() -> vs_llama_cpp.Comparison:
    decode = vs_llama_cpp.Case("decode", "decode", (10,), 10, bytes_read=10 * 10**9)
    prefill = vs_llama_cpp.Case("prefill 512", "prefill", (512,), 512, int8_ops=512 * 10**9)
    ours = {"engine": "rwkvcpp 1", "cpu": "a processor", "model": "RWKV-7", "is_int8": True}
    return vs_llama_cpp.Comparison(
        model="a.gguf",
        facts={
            "rwkvcpp": {**ours, "load_seconds": 1.0},
            "llama.cpp": {"engine": "llama.cpp 2", "system_info": "AVX2", "load_seconds": 2.0},
        },
        cases=[decode, prefill],
        peak_memory={"rwkvcpp": 2 * 10**9, "llama.cpp": 3 * 10**9},
        similarity=0.999,
        speeds={
            "decode": {"rwkvcpp": [40.0, 50.0, 45.0], "llama.cpp": [9.0, 10.0, 30.0]},
            "prefill 512": {"rwkvcpp": [400.0, 400.0, 400.0], "llama.cpp": [200.0, 200.0, 200.0]},
        },
        read_roof=[90.0, 40.0, 95.0],
        int8_roof=[800.0, 800.0, 900.0],
    )


def test_the_table_holds_medians_shares_and_ratios():
    args = SimpleNamespace(threads=2, rounds=3)
    seen = comparison()
    text = vs_llama_cpp.markdown(
        [vs_llama_cpp.report(seen)], vs_llama_cpp.machine_facts(seen, args)
    )
    assert "a processor, 2 threads" in text
    assert "rwkvcpp 1; llama.cpp 2" in text
    assert "| a.gguf | decode | 45.0 ± 5.0 | 50 % read | 10.0 ± 10.5 | 11 % read | 4.50 |" in text
    assert "| prefill 512 | 400.0 ± 0.0 | 50 % int8 | 200.0 ± 0.0 | 25 % int8 | 2.00 |" in text
    assert "load 1.00 and 2.00 s; peak memory 2.00 and 3.00 GB" in text


def test_similar_logits_have_a_cosine_near_one():
    assert math.isclose(vs_llama_cpp._similarity([1.0, 2.0], [2.0, 4.0]), 1)
    assert math.isclose(vs_llama_cpp._similarity([1.0, 0.0], [0.0, 1.0]), 0)

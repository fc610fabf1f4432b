"""RWKV-Runner's routes: another model, defaults, tuned states by name, and the cache of prompts."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import rwkvcpp
from rwkvcpp.engine import EngineClosedError, Request
from rwkvcpp.server import Settings, create_app
from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.folders import file_in
from tests.python.server import PATIENCE, LiveServer, live_server
from tests.reference.cases import NARROW, Case

OTHER = Case("6", "gguf", "Q8_0", replace(NARROW, n_vocab=256))
GREEDY = {"temperature": 0, "top_p": 0, "frequency_penalty": 0, "max_tokens": 12}


@pytest.fixture
def live() -> Iterator[LiveServer]:
    with live_server(grace=0) as live:
        yield live


@pytest.fixture
def other(model_file) -> Path:
    return model_file(OTHER)


def chat(live: LiveServer, text: str = "Once upon a time", **fields) -> dict:
    body = {"messages": [{"role": "user", "content": text}]} | GREEDY | fields
    reply = live.post("/v1/chat/completions", body)
    assert reply.status == 200, reply.data
    return reply.json


def words(live: LiveServer, **fields) -> str:
    return chat(live, **fields)["choices"][0]["message"]["content"]


def tuned_state(path: Path, scale: float = 1.0, model: rwkvcpp.Model | None = None) -> Path:
    """A tuned state of the bundled model, in web-rwkv's form."""
    model = model or rwkvcpp.Model()
    rng = np.random.default_rng(1)
    shape = (model.n_embd // model.head_size, model.head_size, model.head_size)
    matrices = {
        f"blocks.{layer}.att.time_state": (scale * rng.standard_normal(shape)).astype(np.float32)
        for layer in range(model.n_layer)
    }
    save_file(matrices, path)
    return path


# ---- /switch-model ----------------------------------------------------------------------------


def test_another_model_answers_from_then_on(live, other):
    before = chat(live)["model"]
    reply = live.post("/switch-model", {"model": str(other), "strategy": "cpu fp32"})
    assert (reply.status, reply.json) == (200, "success")
    assert chat(live)["model"] == other.stem != before


def test_a_model_may_be_named_from_the_working_directory_or_the_one_above(
    live, other, tmp_path, monkeypatch
):
    shutil.copy(other, tmp_path / "above.gguf")
    (tmp_path / "here").mkdir()
    shutil.copy(other, tmp_path / "here" / "beside.gguf")
    monkeypatch.chdir(tmp_path / "here")
    for name in ("beside.gguf", "above.gguf"):
        assert live.post("/switch-model", {"model": name}).status == 200
        assert live.service.serving().id == Path(name).stem


@pytest.mark.parametrize("strategy", ["cpu fp32", ""])
def test_no_model_is_none(live, strategy):
    assert live.post("/switch-model", {"model": "", "strategy": strategy}).json == "success"
    assert live.get("/status").json["status"] == 0
    reply = live.post("/chat/completions", {"messages": [{"role": "user", "content": "a"}]})
    assert (reply.status, reply.json["detail"]) == (400, "model not loaded")


def test_a_server_may_begin_without_a_model(other):
    with live_server(no_model=True) as live:
        assert live.get("/status").json["status"] == 0
        assert live.post("/update-config", {"state": "models/", "top_p": 0.1}).status == 200
        assert live.post("/switch-model", {"model": str(other)}).status == 200
        assert live.get("/status").json["status"] == 3
        assert live.service.defaults["top_p"] == 0.1


def cut_off(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes()[:-1000])


def no_model(path: Path, other: Path) -> None:
    path.write_text("no model at all")


def without_vocabulary(path: Path, other: Path) -> None:
    case = Case("7", "bin", "F32", replace(NARROW, n_vocab=300))
    shutil.copy(case.write(path.parent), path)


@pytest.mark.parametrize(
    ("write", "status"),
    [
        (lambda path, other: None, 404),
        (lambda path, other: path.mkdir(), 400),
        (cut_off, 422),
        (no_model, 422),
        (without_vocabulary, 400),
    ],
)
def test_what_cannot_be_loaded_leaves_the_old_model_serving(live, other, tmp_path, write, status):
    before = words(live)
    path = tmp_path / "wrong.gguf"
    write(path, other)
    reply = live.post("/switch-model", {"model": str(path), "strategy": "cpu fp32"})
    assert reply.status == status, reply.data
    assert "wrong" in reply.json["error"]["message"] or status == 400
    assert live.get("/status").json["status"] == 3
    assert words(live) == before


def test_a_file_that_vanishes_while_it_is_loaded_leaves_the_old_model_serving(
    live, other, tmp_path, monkeypatch
):
    path = tmp_path / "gone.gguf"
    shutil.copy(other, path)
    load = rwkvcpp.Model.__init__

    def vanishing(self, name, **options):
        path.unlink()
        load(self, name, **options)

    before = words(live)
    with monkeypatch.context() as patched:
        patched.setattr(rwkvcpp.Model, "__init__", vanishing)
        reply = live.post("/switch-model", {"model": str(path)})
    assert reply.status == 404, reply.data
    assert words(live) == before


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": 3}, "model"),
        ({"model": "a\0b"}, "model"),
        ({"model": "x" * 5000}, "model"),
        ({"model": "/dev/zero"}, "model"),
        ({"model": ".", "tokenizer": "nowhere.txt"}, "tokenizer"),
    ],
)
def test_what_is_wrong_with_the_body_is_said(live, body, param):
    reply = live.post("/switch-model", body)
    assert reply.status in (400, 404)
    assert reply.json["error"]["param"] == param


def test_a_wrong_type_is_refused(live, model_file):
    floats = model_file(Case("7", "gguf", "F32", replace(NARROW, n_vocab=256)))
    reply = live.post("/switch-model", {"model": str(floats), "type": "q9_9"})
    assert reply.status == 400
    reply = live.post("/switch-model", {"model": str(floats), "type": "q8_0"})
    assert reply.status == 200, reply.data
    assert live.service.serving().model.weight_type == "Q8_0"


def test_a_strategy_says_what_floats_become_and_what_this_machine_has_not(live, model_file):
    floats = model_file(Case("7", "gguf", "F32", replace(NARROW, n_vocab=256)))
    reply = live.post("/switch-model", {"model": str(floats), "strategy": "cuda fp16i8"})
    assert reply.status == 200, reply.data
    assert reply.json["message"] == "success"
    assert any("cuda" in warning for warning in reply.json["warnings"])
    assert live.service.serving().model.weight_type == "Q8_0"
    reply = live.post("/switch-model", {"model": str(floats), "strategy": "cpu fp32"})
    assert reply.json == "success"
    reply = live.post("/switch-model", {"model": str(floats), "strategy": "abacus fp99"})
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")
    assert "abacus" in reply.json["detail"]


def test_while_one_is_loaded_another_is_not(live, other, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    load = rwkvcpp.Model.__init__

    def slow(self, *args, **options):
        begun.set()
        assert go_on.wait(PATIENCE)
        load(self, *args, **options)

    monkeypatch.setattr(rwkvcpp.Model, "__init__", slow)
    first = threading.Thread(target=live.post, args=("/switch-model", {"model": str(other)}))
    first.start()
    assert begun.wait(PATIENCE)
    try:
        assert live.get("/status").json["status"] == 2
        for model in (str(other), ""):
            reply = live.post("/switch-model", {"model": model})
            assert (reply.status, reply.data) == (304, b"")
        assert chat(live)["model"] != other.stem  # the old one answers meanwhile
    finally:
        go_on.set()
        first.join(PATIENCE)
    assert chat(live)["model"] == other.stem


def test_requests_that_have_begun_end_with_the_model_that_they_began_with(live, other):
    body = {"messages": [{"role": "user", "content": "Once"}], "stream": True, "n": 3}
    connection = live.connect()
    options = {"max_tokens": 200, "temperature": 1.5, "top_p": 1, "seed": 4}
    alone = live.post("/v1/chat/completions", body | options | {"no_cache": True}).events
    connection.request("POST", "/v1/chat/completions", json.dumps(body | options))
    response = connection.getresponse()
    assert response.readline()  # the stream has begun
    assert live.post("/switch-model", {"model": str(other)}).status == 200
    assert chat(live)["model"] == other.stem
    lines = [line for line in response.read().decode().split("\n\n") if line.startswith("data: {")]
    chunks = [json.loads(line[6:]) for line in lines]
    connection.close()

    def texts(chunks: list) -> list[str]:
        found = ["", "", ""]
        for choice in (choice for chunk in chunks for choice in chunk["choices"]):
            found[choice["index"]] += choice["delta"].get("content", "")
        return found

    assert texts(chunks) == texts(alone[:-1])
    assert {chunk["model"] for chunk in chunks} == {"rwkv7-stories-q8_0"}


def test_a_model_that_nobody_asks_any_more_is_gone(live, other):
    words(live)
    old = weakref.ref(live.service.serving().model)
    live.post("/switch-model", {"model": str(other)})
    for _ in range(int(PATIENCE / 0.05)):
        gc.collect()
        if old() is None:
            break
        threading.Event().wait(0.05)
    assert old() is None


def test_the_end_of_a_server_waits_for_those_whom_an_old_model_serves(other):
    app = create_app(Settings(grace=PATIENCE))
    service = app.extensions["rwkvcpp"]
    old = service.serving()
    generation = old.engine.submit(Request(tokens=[0], max_tokens=300, stop_tokens=[]))
    service.load(other)
    service.close()
    assert len(generation.answer(timeout=PATIENCE).tokens) == 300


def test_in_a_folder_of_models_nothing_else_is_loaded(other, tmp_path):
    folder = tmp_path / "models"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(other, folder / "deep" / "inside.gguf")
    shutil.copy(other, tmp_path / "outside.gguf")
    (folder / "link.gguf").symlink_to(tmp_path / "outside.gguf")
    with live_server(model_folder=[folder]) as live:
        assert live.post("/switch-model", {"model": "deep/inside.gguf"}).status == 200
        for name in ("../outside.gguf", str(tmp_path / "outside.gguf"), "deep/../link.gguf"):
            reply = live.post("/switch-model", {"model": name})
            assert (reply.status, reply.json["error"]["param"]) == (400, "model")
        for name in ("link.gguf", "nothing.gguf"):
            reply = live.post("/switch-model", {"model": name})
            assert reply.status == 404
            assert str(tmp_path) not in reply.json["error"]["message"]


def test_what_has_no_effect_is_told_beside_the_success(live, other):
    reply = live.post("/switch-model", {"model": str(other), "customCuda": True})
    assert reply.status == 200
    assert reply.json["message"] == "success"
    assert any("customCuda" in warning for warning in reply.json["warnings"])


def test_deploy_mode_is_turned_on_and_not_off(live, other):
    assert live.post("/switch-model", {"model": str(other), "deploy": "true"}).status == 200
    reply = live.post("/switch-model", {"model": str(other), "deploy": False})
    assert (reply.status, reply.json["error"]["type"]) == (403, "permission_error")


# ---- /update-config ---------------------------------------------------------------------------


def test_defaults_hold_for_later_requests_and_fields_that_are_sent_win(live):
    def drawn(**fields) -> int:
        body = {"messages": [{"role": "user", "content": "Once upon a time"}]} | fields
        return live.post("/chat/completions", body).json["usage"]["completion_tokens"]

    assert live.post("/update-config", {"max_tokens": 3, "stop": ["x"]}).json == "success"
    assert live.post("/update-config", {"temperature": 0, "max_tokens": None}).json == "success"
    assert drawn() == 3
    assert drawn(max_tokens=5) == 5
    assert drawn() == 3


def test_defaults_change_how_tokens_are_drawn(live):
    body = {"messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": 30}
    greedy = live.post("/chat/completions", body | {"top_p": 0, "frequency_penalty": 0}).json
    live.post("/update-config", {"top_p": 0, "frequency_penalty": 0})
    assert live.post("/chat/completions", body).json["choices"] == greedy["choices"]


def test_defaults_outlive_the_model(live, other):
    live.post("/update-config", {"max_tokens": 2})
    live.post("/switch-model", {"model": str(other)})
    body = {"messages": [{"role": "user", "content": "Once"}], "temperature": 0}
    assert live.post("/chat/completions", body).json["usage"]["completion_tokens"] <= 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_p", 2),
        ("temperature", "hot"),
        ("max_tokens", -1),
        ("max_tokens", 10**8),
        ("penalty_decay", 1.5),
        ("top_k", [1]),
        ("state", "nothing.pth"),
        ("state", "../../etc/passwd"),
        ("state", "/etc/passwd"),
        ("state", "C:\\secret.pth"),
        ("state", {"format": "base64"}),
    ],
)
def test_a_wrong_default_is_refused_and_changes_nothing(live, field, value):
    reply = live.post("/update-config", {"frequency_penalty": 0.5, field: value})
    assert reply.status == 400
    assert reply.json["error"]["param"] == field
    assert live.service.defaults == {}


# ---- tuned states -----------------------------------------------------------------------------


def test_a_tuned_state_is_asked_for_by_name_or_mounted_for_all(tmp_path):
    file = tuned_state(tmp_path / "poet.st")
    with live_server(state=[file]) as live:
        plain, tuned = words(live), words(live, state="poet")
        assert plain != tuned
        assert words(live, state="poet.st") == words(live, state=str(file)) == tuned
        for none in ("", "models/"):
            assert words(live, state=none) == plain
        assert live.post("/update-config", {"state": "poet"}).status == 200
        assert words(live) == tuned
        assert words(live, state="") == plain
        assert live.post("/update-config", {"top_p": 0.5}).status == 200
        assert words(live) == tuned
        for none in ("models/", ""):
            live.post("/update-config", {"state": "poet"})
            assert live.post("/update-config", {"state": none}).status == 200
            assert words(live) == plain


def test_prompts_are_remembered_for_each_state_by_itself(tmp_path):
    with live_server(state=[tuned_state(tmp_path / "poet.st")]) as live:

        def cached(**fields) -> int:
            details = chat(live, **fields)["usage"]["prompt_tokens_details"]
            return details["cached_tokens"]

        assert (cached(), cached(state="poet")) == (0, 0)
        assert cached() > 0
        assert cached(state="poet") > 0


def test_states_in_a_folder_are_found_and_found_again_when_they_change(tmp_path):
    folder = tmp_path / "states"
    (folder / "deep").mkdir(parents=True)
    tuned_state(tmp_path / "outside.st")
    (folder / "link.st").symlink_to(tmp_path / "outside.st")
    tuned_state(folder / "deep" / "poet.st")
    with live_server(state_folder=[folder]) as live:
        first = words(live, state="deep/poet")
        assert words(live, state="deep/poet.st") == first != words(live)
        assert words(live, state="deep") == words(live)  # a folder is no state
        tuned_state(folder / "deep" / "poet.st", scale=-2.0)
        assert words(live, state="deep/poet") != first
        for name in ("link", "../outside.st", str(folder / "deep" / "poet.st"), "nothing"):
            body = {"messages": [{"role": "user", "content": "a"}], "state": name}
            reply = live.post("/v1/chat/completions", body)
            assert (reply.status, reply.json["error"]["param"]) == (400, "state")


def test_files_that_are_no_state_of_this_model_are_refused(tmp_path, model_file):
    save_file({"blocks.0.att.time_state": np.zeros((1, 2, 2), np.float32)}, tmp_path / "small.st")
    (tmp_path / "text.pth").write_text("no state")
    shutil.copy(model_file(OTHER), tmp_path / "model.st")
    with live_server(state_folder=[tmp_path]) as live:
        for name in ("small", "text", "model"):
            reply = live.post("/update-config", {"state": name})
            assert reply.status == 400, name
            assert str(tmp_path) not in reply.json["error"]["message"]


def test_no_more_states_are_kept_than_there_is_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr("rwkvcpp.server.tuned_states.KEPT", 2)
    for name in "abc":
        tuned_state(tmp_path / f"{name}.st", scale=ord(name))
    with live_server(state_folder=[tmp_path]) as live:
        states = live.service.serving().states
        kept = {name: weakref.ref(states.named(name)) for name in "abc"}
        gc.collect()
        assert [name for name in "abc" if kept[name]() is not None] == ["b", "c"]
        assert states.named("b") is kept["b"]()  # not loaded again
        states.named("a")  # and "c" was used longest ago
        gc.collect()
        assert [name for name in "bc" if kept[name]() is not None] == ["b"]


@pytest.mark.parametrize("name", ["C:\\poet", "C:poet", "\\\\there\\poet", "a\\..\\..\\poet"])
def test_names_that_lead_out_on_another_system_lead_nowhere_here(tmp_path, name):
    (tmp_path / name).write_text("no state")
    with pytest.raises(ApiError, match="a folder of this server"):
        file_in([tmp_path], name, param="state")


def test_states_that_do_not_fit_another_model_are_told_and_left_out(tmp_path, other):
    with live_server(state=[tuned_state(tmp_path / "poet.st")]) as live:
        live.post("/update-config", {"state": "poet"})
        reply = live.post("/switch-model", {"model": str(other)})
        assert reply.status == 200
        assert sum("poet" in warning for warning in reply.json["warnings"]) == 2
        assert chat(live)["model"] == other.stem


def test_a_server_does_not_begin_with_a_state_that_does_not_fit(tmp_path, other):
    file = tuned_state(tmp_path / "poet.st")
    with pytest.raises(rwkvcpp.StateError, match="poet"):
        create_app(Settings(model=other, state=[file]))


# ---- /status and the cache --------------------------------------------------------------------


def test_the_status_is_as_runner_has_it(live):
    status = live.get("/status").json
    assert status["status"] == 3
    assert status["device_name"] == "CPU"
    assert isinstance(status["pid"], int)


@pytest.mark.parametrize("reset", ["/reset-state-cache", "/reset-state"])
def test_the_cache_is_turned_off_and_on_and_emptied(live, other, reset):
    def cached() -> int:
        return chat(live)["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert cached() == 0
    assert cached() > 0
    assert live.post(reset).json == "success"
    assert cached() == 0
    assert live.post("/disable-state-cache").json == "success"
    assert (cached(), cached()) == (0, 0)
    live.post("/switch-model", {"model": str(other)})
    assert (cached(), cached()) == (0, 0)  # another model changes nothing about it
    for _ in range(2):
        assert live.post("/enable-state-cache").json == "success"
    assert cached() == 0
    assert cached() > 0


def test_a_cache_that_is_turned_off_while_a_model_loads_stays_off(live, other, monkeypatch):
    load = rwkvcpp.Model.__init__

    def meanwhile(self, *args, **options):
        load(self, *args, **options)
        assert live.post("/disable-state-cache").json == "success"

    monkeypatch.setattr(rwkvcpp.Model, "__init__", meanwhile)
    assert live.post("/switch-model", {"model": str(other)}).status == 200
    assert live.service.serving().engine.cache is None


def test_without_a_model_there_is_nothing_to_forget():
    with live_server(no_model=True) as live:
        for route in ("/reset-state", "/disable-state-cache", "/enable-state-cache"):
            assert live.post(route).json == "success"


def test_engines_of_a_service_are_closed_with_it():
    app = create_app(Settings(grace=0))
    engine = app.extensions["rwkvcpp"].serving().engine
    app.extensions["rwkvcpp"].close()
    with pytest.raises(EngineClosedError):
        engine.submit(Request(tokens=[0]))

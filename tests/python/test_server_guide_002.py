"""Every sample of RWKV-Runner's API guide, and what its deploy mode keeps from strangers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rwkvcpp.server.app import SHAPES
from tests.python.server import LiveServer, live_server

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
MIDI = "p:24:a p:2a:a t14 p:24:0 p:2a:0"
MIDI_FILE = {"midi_path": "midi/sample.mid"}

# The routes of the guide in its order, with a body as it shows them.
ANSWERED = {
    "/chat/completions": {"messages": [{"content": "hello", "role": "user"}]},
    "/v1/chat/completions": {"messages": [{"content": "hello", "role": "user"}]},
    "/completions": {"prompt": "那一天,人们又想起来被暴雨支配的恐惧..."},
    "/v1/completions": {"prompt": "那一天,人们又想起来被暴雨支配的恐惧..."},
    "/embeddings": {"input": "hello"},
    "/v1/embeddings": {"input": "hello"},
    "/update-config": {
        "frequency_penalty": 1,
        "global_penalty": False,
        "max_tokens": 1000,
        "penalty_decay": 0.996,
        "presence_penalty": 0,
        "state": "models/",
        "temperature": 1,
        "top_p": 0.3,
    },
    "/disable-state-cache": None,
    "/enable-state-cache": None,
    "/reset-state-cache": None,
    "/reset-state": None,  # as the program calls it
}
NOT_YET = {
    "/text-to-midi": {"text": MIDI},
    "/midi-to-text": None,
    "/txt-to-midi": MIDI_FILE | {"txt_path": "midi/sample.txt"},
    "/midi-to-wav": MIDI_FILE | {"wav_path": "midi/sample.wav", "sound_font_path": "a.sf2"},
    "/text-to-wav": {"sound_font_path": "a.sf2", "text": MIDI, "wav_name": "sample"},
    "/file-to-text?file_name=233.PDF&file_encoding=utf-8": None,
}
TOUCHES_MACHINE = {
    "/switch-model",
    "/exit",
    "/disable-state-cache",
    "/enable-state-cache",
    "/reset-state-cache",
    "/reset-state",
}

# Every optional field of the guide's tables.
ALL_FIELDS = {
    "max_tokens": 8,
    "temperature": 1.2,
    "top_p": 0.5,
    "presence_penalty": 0.4,
    "frequency_penalty": 0.4,
    "penalty_decay": 0.996,
    "top_k": 25,
    "global_penalty": True,
    "state": "",
    "model": "models/a.pth",
    "stream": False,
    "stop": ["\n\nUser", "\n\nQuestion", "\n\nQ", "\n\nHuman", "\n\nBob"],
    "user_name": "User",
    "assistant_name": "Assistant",
    "system_name": "System",
}


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with live_server(grace=0) as live:
        yield live


@pytest.mark.parametrize("path", [*ANSWERED])
def test_the_samples_are_answered(live, path):
    reply = live.post(path, ANSWERED[path])
    assert reply.status == 200, reply.data


@pytest.mark.parametrize("path", [*NOT_YET])
def test_what_is_not_there_yet_says_so_as_everything_does(live, path):
    reply = live.post(path, NOT_YET[path])
    assert reply.status == 404
    assert reply.json["error"]["type"] == "not_found_error"
    assert reply.json["detail"] == reply.json["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("path", ["/chat/completions", "/completions"])
def test_all_fields_may_be_sent_or_null(live, path, nulls, stream):
    required = HELLO if "chat" in path else {"prompt": "The fox"}
    fields = dict.fromkeys(ALL_FIELDS) | {"max_tokens": 8} if nulls else ALL_FIELDS
    reply = live.post(path, required | fields | {"stream": stream})
    assert reply.status == 200, reply.data
    if stream:
        assert reply.events[-1] == "[DONE]"
    else:
        assert reply.json["usage"]["completion_tokens"] <= 8


def test_what_is_asked_by_get(live):
    assert live.get("/").json == {"Hello": "World!"}
    assert live.get("/docs").status == 200
    assert {*live.get("/status").json} == {"status", "pid", "device_name"}


def test_a_model_is_switched_as_the_guide_says(live, model_file):
    path = live.service.serving().model.path
    body = {"model": str(path), "strategy": "cuda fp16", "customCuda": False, "deploy": False}
    reply = live.post("/switch-model", body)
    assert reply.status == 200, reply.data
    assert live.get("/status").json["status"] == 3


def test_these_are_the_samples_of_the_guide(shared):
    """Those above are its own, but for their lengths."""
    guide = next(Path(shared, "guides").glob("002*")).read_text("utf-8")
    _, *sections = guide.split("API 地址:(post)http://127.0.0.1:8000")
    shown = {}
    for section in sections:
        before, brace, after = section.partition("{")
        if brace and ("请求" in before or "参考" in before):
            body, _ = json.JSONDecoder().raw_decode(brace + after)
            shown[before.split()[0]] = body
    del shown["/midi-to-text"], shown["/exit"]  # these are answers
    assert len(shown) >= 6
    samples = ANSWERED | NOT_YET
    assert {path: {*samples[path]} for path in shown} == {path: {*shown[path]} for path in shown}
    assert shown["/update-config"] == ANSWERED["/update-config"]


def test_deploy_mode_keeps_what_touches_the_machine_and_nothing_else():
    with live_server(deploy=True, grace=0) as live:
        for route in (route for shape in SHAPES for route in shape.all):
            for path in route.paths:
                asked = re.sub("<[^>]*>", "x", path)
                reply = live.ask(route.method, asked, {} if route.method == "POST" else None)
                assert (reply.status == 403) == (path in TOUCHES_MACHINE), path
                if reply.status == 403:
                    assert reply.json["error"]["type"] == "permission_error"
        assert live.get("/health").status == 200  # it still runs

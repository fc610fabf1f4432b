"""What RWKV Chat and rwkv_lightning ask for: batches, their fields, the server's state, to stop."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from rwkvcpp.server.languages import language_of
from rwkvcpp.server.merging import merged
from rwkvcpp.templates import choose_template
from tests.python.server import PATIENCE, LiveServer, live_server

HELLO = [{"role": "user", "content": "Hello"}]
GREEDY = {"temperature": 0, "top_p": 0, "frequency_penalty": 0, "max_tokens": 8}
STORIES = ["Once upon a time", "The fox said", "Lily and Tom", "One day"]
FIRST = "/v1/batch/completions"


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    """A server with fewer slots than a batch has prompts."""
    with live_server(max_batch=3, grace=0) as live:
        yield live


@pytest.fixture(scope="module")
def thinker() -> Iterator[LiveServer]:
    """One whose model knows thoughts and middles, by its template."""
    with live_server(template="g1", grace=0) as live:
        yield live


def ask(live: LiveServer, path: str, **body) -> dict:
    reply = live.post(path, body)
    assert reply.status == 200, reply.data
    return reply.json


def contents(answer: dict) -> list[str]:
    assert [choice["index"] for choice in answer["choices"]] == [*range(len(answer["choices"]))]
    return [choice["message"]["content"] for choice in answer["choices"]]


def joined(events: list, n: int) -> list[str]:
    """The texts of a stream, which ends as it should."""
    assert events[-1] == "[DONE]"
    texts, reasons = [""] * n, [None] * n
    for choice in (choice for chunk in events[:-1] for choice in chunk["choices"]):
        index = choice["index"]
        assert reasons[index] is None
        texts[index] += choice["delta"].get("content", "")
        reasons[index] = choice["finish_reason"]
    assert None not in reasons
    return texts


# ---- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [FIRST, "/v1/chat/completions", "/v2/chat/completions"])
def test_a_batch_answers_each_prompt_as_it_is_answered_alone(live, path):
    alone = [
        ask(live, "/v1/completions", prompt=story, **GREEDY)["choices"][0]["text"]
        for story in STORIES
    ]
    answer = ask(live, path, contents=STORIES, **GREEDY)
    assert answer["object"] == "chat.completion"
    assert contents(answer) == alone
    assert {choice["finish_reason"] for choice in answer["choices"]} <= {"stop", "length"}
    events = live.post(path, {"contents": STORIES, "stream": True} | GREEDY).events
    assert joined(events, len(STORIES)) == alone
    assert {event["object"] for event in events[:-1]} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events[:-1]}) == 1


def test_a_big_batch_is_always_a_stream(live):
    whole = contents(ask(live, FIRST, contents=STORIES, **GREEDY))
    events = live.post("/big_batch/completions", {"contents": STORIES} | GREEDY).events
    assert joined(events, len(STORIES)) == whole


def test_messages_win_over_contents(live):
    answer = ask(live, "/v1/chat/completions", messages=HELLO, contents=STORIES, **GREEDY)
    assert len(answer["choices"]) == 1


def test_slots_of_a_batch_take_turns(live):
    options = {"stream": True, "stop": [], "max_tokens": 20, "temperature": 1, "seed": 1}
    events = live.post(FIRST, {"contents": STORIES[:3]} | options).events
    order = [chunk["choices"][0]["index"] for chunk in events[:-1]]
    assert order != sorted(order)


def test_a_batch_of_many_prompts_lets_others_through(live):
    body = {"contents": ["Once upon a time"] * 100, "stop": [], "max_tokens": 30, "stream": True}
    connection = live.connect()
    connection.request("POST", FIRST, json.dumps(body))
    response = connection.getresponse()
    assert response.readline()
    reply = live.post("/v1/completions", {"prompt": "The fox"} | GREEDY)
    assert reply.status == 200
    status = ask_status(live)
    assert status["active_request"] is not None  # the batch goes on
    assert status["queue"]["waiting"] <= status["queue"]["slots"]
    connection.close()


def test_a_batch_ends_where_the_template_says_unless_it_has_stops(thinker):
    stops = choose_template("g1").stops
    assert stops
    requests = []
    engine = thinker.service.serving().engine
    submit = engine.submit
    engine.submit = lambda request, **rest: (requests.append(request), submit(request, **rest))[1]
    try:
        ask(thinker, FIRST, contents=["User: a\n\nAssistant:"], **GREEDY)
        ask(thinker, FIRST, contents=["User: a\n\nAssistant:"], stop_tokens=[261, "x"], **GREEDY)
        ask(thinker, FIRST, contents=["User: a\n\nAssistant:"], stop=None, **GREEDY)
    finally:
        engine.submit = submit
    assert [tuple(request.stop) for request in requests] == [stops, ("x",), stops]
    assert [tuple(request.stop_tokens) for request in requests] == [(0,), (0, 261), (0,)]


def test_stop_tokens_may_be_tokens_and_texts(live):
    encode = live.service.serving().model.tokenizer.encode
    options = {"prompt": "Once upon a time", **GREEDY, "max_tokens": 30}
    text = ask(live, "/v1/completions", **options)["choices"][0]["text"]
    word = text.split()[2]
    by_text = ask(live, "/v1/completions", **options, stop_tokens=[0, word])["choices"][0]
    assert by_text["text"] == text[: text.index(word)]
    token = encode(text)[3]
    by_token = ask(live, "/v1/completions", **options, stop_tokens=[token, "✿"])["choices"][0]
    assert by_token["text"] == live.service.serving().model.tokenizer.decode(encode(text)[:3])
    assert (by_text["finish_reason"], by_token["finish_reason"]) == ("stop", "stop")


def test_pad_zero_says_whether_token_0_comes_first(thinker):
    n_tokens = [
        ask(thinker, FIRST, contents=["The fox"], **GREEDY, **pad)["usage"]["prompt_tokens"]
        for pad in ({}, {"pad_zero": False}, {"pad_zero": True})
    ]
    assert n_tokens == [n_tokens[0], n_tokens[0], n_tokens[0] + 1]


def test_a_batch_goes_on_from_a_state(live):
    options = {"prompt": "Once upon a time", **GREEDY, "max_tokens": 40}
    options |= {"return_state": True, "state_dtype": "float32"}
    state = ask(live, "/v1/completions", **options, stop=" the")["state"]
    assert state["pending"] == " the"
    text = f"{state['pending']} end."
    alone = ask(live, "/v1/completions", prompt=text, state=state, **GREEDY)
    together = ask(live, FIRST, contents=[text, "."], state=state, **GREEDY, stop=[])
    assert contents(together)[0] == alone["choices"][0]["text"]
    assert contents(together)[1] != contents(ask(live, FIRST, contents=["."], **GREEDY))[0]


def test_use_prefix_cache_begins_from_what_was_read_before_or_not(live):
    def cached(**fields) -> int:
        usage = ask(live, FIRST, contents=["A prompt of its own"], **GREEDY, **fields)["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]

    cached()
    assert cached() > 0
    assert cached(use_prefix_cache=False) == 0


def test_a_client_that_hangs_up_ends_its_batch(live):
    body = {"contents": STORIES, "stop": [], "max_tokens": 100_000, "stream": True}
    connection = live.connect()
    connection.request("POST", FIRST, json.dumps(body))
    response = connection.getresponse()
    assert response.readline()
    response.close()
    connection.close()
    engine = live.service.serving().engine
    wait_until(lambda: engine.status().running == engine.status().waiting == 0)


@pytest.mark.parametrize(
    ("body", "param", "kind"),
    [
        ({}, "contents", "invalid_request_error"),
        ({"contents": []}, "contents", "invalid_request_error"),
        ({"contents": ["a", 3]}, "contents.1", "invalid_request_error"),
        ({"contents": ["a"] * 3000}, "contents", "invalid_request_error"),
        ({"contents": ["a"], "logit_bias": {"70000": 1}}, "logit_bias", "invalid_request_error"),
        ({"contents": ["a"], "chunk_size": 0}, "chunk_size", "invalid_request_error"),
        ({"contents": ["a"], "return_state": True}, "return_state", "not_supported_error"),
        ({"contents": ["a"], "logprobs": True}, "logprobs", "not_supported_error"),
        ({"contents": ["a"], "force_reasoning": True}, "force_reasoning", "not_supported_error"),
    ],
)
def test_what_a_batch_cannot_be_asked_is_said(live, body, param, kind):
    reply = live.post(FIRST, body)
    assert reply.status == 400, reply.data
    assert (reply.json["error"]["param"], reply.json["error"]["type"]) == (param, kind)


def test_tools_are_not_for_batches(live):
    tools = [{"type": "function", "function": {"name": "f"}}]
    reply = live.post("/v1/chat/completions", {"contents": ["a"], "tools": tools})
    assert (reply.status, reply.json["error"]["param"]) == (400, "tools")


# ---- fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "mode"),
    [
        ({"think_type": "fast"}, "fake-think"),
        ({"think_type": "free"}, "think"),
        ({"think_type": "preferChinese"}, "think-zh"),
        ({"think_type": "en"}, "think-medium"),
        ({"think_type": "enShort"}, "think-a-bit"),
        ({"think_type": "enLong"}, "think-a-lot"),
        ({"enable_think": True}, "think"),
        ({"think": True}, "think"),
        ({"think": False}, "fake-think"),
    ],
)
def test_thinking_has_many_names(thinker, field, mode):
    encode = thinker.service.serving().model.tokenizer.encode
    found = ask(thinker, "/tokenize", messages=HELLO, **field)["tokens"]
    assert found == [0, *encode(choose_template("g1").render(HELLO, mode=mode))]


def test_a_template_without_thoughts_answers_without(live):
    plain = ask(live, "/tokenize", messages=HELLO)["tokens"]
    assert ask(live, "/tokenize", messages=HELLO, think_type="free")["tokens"] == plain


def test_the_system_may_stand_beside_the_messages(thinker):
    system = [{"role": "system", "content": "Be a fox."}]
    inside = ask(thinker, "/tokenize", messages=[*system, *HELLO])["tokens"]
    assert ask(thinker, "/tokenize", messages=HELLO, system="Be a fox.")["tokens"] == inside
    both = ask(thinker, "/tokenize", messages=[*system, *HELLO], system="Be a crow.")["tokens"]
    assert both == inside


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", FIRST])
def test_an_event_may_have_several_tokens(live, path):
    body = {"stream": True, "max_tokens": 25, "temperature": 1, "seed": 3, "stop": []}
    body |= {"messages": HELLO, "prompt": "Hello", "contents": ["Hello", "Once"]}
    if "chat" in path:
        del body["contents"]

    def texts(events: list) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for choice in (choice for chunk in events[:-1] for choice in chunk["choices"]):
            text = (choice.get("delta") or choice).get(
                "content" if "chat" in path or path == FIRST else "text", ""
            )
            found.setdefault(choice["index"], []).extend([text] if text else [])
        return found

    single = texts(live.post(path, body).events)
    several = texts(live.post(path, body | {"chunk_size": 10}).events)
    for index, pieces in single.items():
        assert "".join(several[index]) == "".join(pieces)
        assert len(several[index]) <= -(-len(pieces) // 10)


def chunk(index: int = 0, reason: str | None = None, logprobs=None, **delta) -> dict:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return {"id": "a", "choices": [choice]}


def test_merging_keeps_order_kinds_and_logprobs():
    chunks = [
        chunk(role="assistant", content=""),
        chunk(reasoning_content="a"),
        chunk(reasoning_content="b"),
        None,
        chunk(content="c", logprobs={"content": [1], "refusal": None}),
        chunk(1, content="x"),
        chunk(content="d", logprobs={"content": [2], "refusal": None}),
        chunk(reason="stop"),
        chunk(1, content="y"),
        chunk(1, reason="length"),
        {"id": "a", "choices": [], "usage": {}},
    ]
    assert list(merged(iter(chunks), 4)) == [
        chunks[0],
        None,
        chunk(reasoning_content="ab"),
        chunk(content="cd", logprobs={"content": [1, 2], "refusal": None}),
        chunk(1, content="x"),
        chunks[7],
        chunks[8],
        chunks[9],
        chunks[10],
    ]


def test_merging_shows_what_was_held_before_an_error_and_closes_what_it_reads():
    closed = threading.Event()

    def failing() -> Iterator[dict]:
        try:
            yield chunk(content="a")
            raise RuntimeError("a bug")
        finally:
            closed.set()

    found = merged(failing(), 5)
    assert next(found) == chunk(content="a")
    with pytest.raises(RuntimeError):
        next(found)
    assert closed.is_set()

    closed.clear()
    found = merged(failing(), 1)
    next(found)
    found.close()
    assert closed.is_set()


@pytest.mark.parametrize("name", ["metrics", "report_metrics", "include_metrics"])
def test_speeds_are_told_on_request(live, name):
    body = {"messages": [{"role": "user", "content": f"Tell me of {name}"}]} | GREEDY
    metrics = ask(live, "/v1/chat/completions", **body, **{name: True})["metrics"]
    assert metrics["prefill_speed"] > 0
    assert metrics["decode_speed"] > 0
    assert "metrics" not in ask(live, "/v1/chat/completions", **body)
    events = live.post("/v1/chat/completions", body | {name: True, "stream": True}).events
    told = [event for event in events[:-1] if "metrics" in event]
    assert [event["choices"][0]["finish_reason"] is None for event in told] == [False]
    assert ask(live, FIRST, contents=["a", "b"], **GREEDY, **{name: True})["metrics"]


def test_every_event_is_a_write_of_its_own(live):
    """Programs take each piece that comes for one event."""
    body = {"contents": STORIES, "stream": True} | GREEDY
    for path in (FIRST, "/v1/chat/completions"):
        raw = raw_pieces(live, path, body)
        assert raw[-1] == b"data: [DONE]\n\n"
        assert all(piece.startswith(b"data: ") and piece.count(b"\n\n") == 1 for piece in raw)


def test_silence_is_broken_by_comments_and_in_batches_by_nothing(live, monkeypatch):
    monkeypatch.setattr("rwkvcpp.server.sse.SILENCE", 0.01)
    model = live.service.serving().model
    forward_batch = model.forward_batch

    def slow(segments):
        threading.Event().wait(0.05)
        return forward_batch(segments)

    monkeypatch.setattr(model, "forward_batch", slow)
    body = {"stream": True, "use_prefix_cache": False} | GREEDY
    assert b"\n\n: ping\n\n" in live.post("/v1/chat/completions", body | {"messages": HELLO}).data
    for path in (FIRST, "/v1/chat/completions"):
        data = live.post(path, body | {"contents": STORIES}).data
        assert all(line.startswith(b"data: ") for line in data.split(b"\n\n") if line)


def raw_pieces(live: LiveServer, path: str, body: dict) -> list[bytes]:
    """The pieces of a chunked answer."""
    connection = live.connect()
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    assert response.chunked
    response.chunked = False  # as it comes, with lengths
    response.length = None
    pieces = []
    while size := int(response.fp.readline(), 16):
        pieces.append(response.fp.read(size))
        response.fp.readline()
    connection.close()
    return pieces


# ---- the server -------------------------------------------------------------------------------


def ask_status(live: LiveServer) -> dict:
    reply = live.get("/v1/server/status")
    assert reply.status == 200
    return reply.json


def wait_until(is_so) -> None:
    for _ in range(int(PATIENCE / 0.02)):
        if is_so():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it never was so")


def test_the_status_tells_what_is_served_and_possible(live):
    status = ask_status(live)
    assert status["status"] == "running"
    assert status["model"]["id"] == "rwkv7-stories-q8_0"
    assert status["model"]["path"].endswith("rwkv7-stories-q8_0.gguf")
    assert status["capabilities"]["batch_completion"] is True
    assert status["queue"]["slots"] == 3
    with live_server(no_model=True, deploy=True) as empty:
        assert ask_status(empty)["model"] is None


def test_in_deploy_mode_the_status_tells_neither_paths_nor_requests():
    with live_server(deploy=True, grace=0) as live, Streaming(live):
        status = ask_status(live)
        assert status["model"]["path"] == "rwkv7-stories-q8_0.gguf"
        assert (status["active_request"], status["active_requests"]) == (None, [])
        assert status["queue"]["running"] + status["queue"]["waiting"] == 1


class Streaming:
    """A chat that would go on for ever; `id` is its answer's."""

    def __init__(self, live: LiveServer, n: int = 1) -> None:
        self._connection = live.connect()
        options = {"max_tokens": 100_000, "temperature": 1.0, "top_p": 0.9, "n": n}
        body = {"messages": HELLO, "stream": True, "stop_token_ids": [], **options}
        body["logit_bias"] = {0: -100}
        self._connection.request("POST", "/v1/chat/completions", json.dumps(body))
        self._response = self._connection.getresponse()
        line = self._response.readline()
        self.id = json.loads(line.removeprefix(b"data: "))["id"]

    def rest(self) -> list:
        lines = self._response.read().decode().split("\n\n")
        texts = [line.strip().removeprefix("data: ") for line in lines if "data: " in line]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]

    def __enter__(self) -> Streaming:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


@pytest.mark.parametrize("n", [1, 5])
def test_a_stream_that_is_stopped_by_its_id_ends_as_streams_do(live, n):
    with Streaming(live, n) as streaming, Streaming(live) as other:
        wait_until(lambda: len(ask_status(live)["active_requests"]) == 2)
        assert ask_status(live)["active_request"]["request_id"] == streaming.id
        answer = ask(live, "/v1/server/stop", request_id=streaming.id)
        assert (answer["ok"], answer["stopped"]) == (True, True)
        assert answer["active_request"]["request_id"] == other.id
        rest = streaming.rest()
        assert rest[-1] == "[DONE]"
        reasons = [each["choices"][0]["finish_reason"] for each in rest[:-1]]
        assert [reason for reason in reasons if reason] == ["stop"] * n
        assert ask(live, "/v1/server/stop", request_id=streaming.id)["stopped"] is False
        assert ask(live, "/v1/server/stop", request_id=other.id)["active_request"] is None


def test_without_an_id_all_of_an_address_are_stopped(live):
    with Streaming(live) as first, Streaming(live) as second:
        answer = ask(live, "/v1/server/stop")
        assert answer == {"ok": True, "stopped": True, "active_request": None}
        assert (first.rest()[-1], second.rest()[-1]) == ("[DONE]", "[DONE]")
    wait_until(lambda: ask_status(live)["active_request"] is None)
    assert ask(live, "/v1/server/stop")["stopped"] is False


def test_nobody_stops_what_another_address_asked_for(live):
    elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.1"}}
    with Streaming(live) as streaming:
        client = live.app.test_client()
        assert client.get("/v1/server/status", **elsewhere).json["active_requests"] == []
        assert client.post("/v1/server/stop", json={}, **elsewhere).json["stopped"] is False
        assert ask(live, "/v1/server/stop")["stopped"] is True
        assert streaming.rest()[-1] == "[DONE]"


def test_an_answer_that_is_not_streamed_can_be_stopped_and_is_whole(live):
    replies = []
    body = {"messages": HELLO, "max_tokens": 100_000, "logit_bias": {0: -100}}
    asking = threading.Thread(
        target=lambda: replies.append(live.post("/v1/chat/completions", body))
    )
    asking.start()
    engine = live.service.serving().engine
    wait_until(lambda: engine.status().running and ask_status(live)["active_request"])
    ask(live, "/v1/server/stop", request_id=ask_status(live)["active_request"]["request_id"])
    asking.join(PATIENCE)
    assert replies[0].json["choices"][0]["finish_reason"] == "stop"


def test_in_deploy_mode_a_request_is_stopped_by_its_id_alone():
    with live_server(deploy=True, grace=0) as live, Streaming(live) as streaming:
        reply = live.post("/v1/server/stop", {})
        assert (reply.status, reply.json["error"]["param"]) == (400, "request_id")
        assert ask(live, "/v1/server/stop", request_id=streaming.id)["stopped"] is True
        assert streaming.rest()[-1] == "[DONE]"


# ---- middles and translations -----------------------------------------------------------------


def test_middles_are_filled_in_together(thinker):
    prefixes, suffixes = ["Once", "The fox"], ["end", "grapes"]
    answer = ask(thinker, "/FIM/v1/batch-FIM", prefix=prefixes, suffix=suffixes, max_tokens=6)
    assert answer["object"] == "FIM.completion"
    alone = [
        ask(thinker, "/infill", input_prefix=prefix, input_suffix=suffix, n_predict=6)["content"]
        for prefix, suffix in zip(prefixes, suffixes, strict=True)
    ]
    assert contents(answer) == alone
    body = {"prefix": prefixes, "suffix": suffixes, "max_tokens": 6, "stream": True}
    assert joined(thinker.post("/FIM/v1/batch-FIM", body).events, 2) == alone
    reply = thinker.post("/FIM/v1/batch-FIM", {"prefix": ["a"], "suffix": []})
    assert (reply.status, reply.json["error"]["param"]) == (400, "suffix")


def test_a_model_that_has_not_learnt_middles_says_so(live):
    reply = live.post("/FIM/v1/batch-FIM", {"prefix": ["a"], "suffix": ["b"]})
    assert reply.json["error"]["type"] == "not_supported_error"


def test_texts_are_translated_in_their_order(monkeypatch, live):
    monkeypatch.setattr("rwkvcpp.server.routes.lightning.TRANSLATION_TOKENS", 6)
    body = {"target_lang": "zh-CN", "text_list": ["Good morning", "早上好", "Guten Tag"]}
    found = ask(live, "/translate/v1/batch-translate", **body)["translations"]
    assert [each["detected_source_lang"] for each in found] == ["en", "zh", "en"]
    prompt = "English: Good morning\n\nChinese:"
    options = {"max_tokens": 6, "temperature": 0, "top_p": 0, "frequency_penalty": 0}
    alone = ask(live, "/v1/completions", prompt=prompt, **options)["choices"][0]["text"]
    assert found[0]["text"] == alone.strip()
    body |= {"source_lang": "de", "text_list": ["Guten Tag"]}
    found = ask(live, "/translate/v1/batch-translate", **body)["translations"]
    assert found[0]["detected_source_lang"] == "de"
    assert ask(live, "/translate/v1/batch-translate", target_lang="en", text_list=[]) == {
        "translations": []
    }


@pytest.mark.parametrize("field", ["source_lang", "target_lang"])
def test_a_language_that_nobody_knows_is_refused(live, field):
    body = {"target_lang": "en", "text_list": ["a"]} | {field: "klingon"}
    reply = live.post("/translate/v1/batch-translate", body)
    assert (reply.status, reply.json["error"]["param"]) == (400, field)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Good morning", "English"),
        ("", "English"),
        ("12 + 3", "English"),
        ("早上好，我叫 Tom。", "Chinese"),
        ("私は学生です", "Japanese"),
        ("안녕하세요", "Korean"),
        ("Доброе утро", "Russian"),
        ("صباح الخير", "Arabic"),
        ("The word 好 means good in that language, as everyone knows", "English"),
    ],
)
def test_letters_tell_the_language(text, language):
    assert language_of(text) == language


@pytest.mark.parametrize("path", ["/openai/v1/models", "/openai/v1/chat/completions"])
def test_openais_routes_have_another_name(live, path):
    asked = live.get(path) if "models" in path else live.post(path, {"messages": HELLO} | GREEDY)
    assert asked.status == 200

"""Who may ask for what: keys, hosts, the origins of web pages, deploy mode, limits."""

from __future__ import annotations

import hmac
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from rwkvcpp.engine import Request
from rwkvcpp.server import Settings, create_app
from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.limits import check_choices, check_max_tokens, check_prompt
from rwkvcpp.server.routing import Route
from tests.python.server import PATIENCE

PAGE = "http://localhost:3000"
CHAT = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
ENDPOINTS = ("/switch-model", "/exit", "/disable-state-cache", "/enable-state-cache",
             "/reset-state-cache", "/reset-state")  # fmt: skip


def client(**settings: Any) -> FlaskClient:
    """Of a server without a model: who may ask does not depend on it."""
    return create_app(Settings(**{"no_model": True, **settings})).test_client()


def routes_of(app: Flask) -> list[tuple[str, Route]]:
    """Every path, with its route."""
    views = app.view_functions
    return [(rule.rule, views[rule.endpoint].route) for rule in app.url_map.iter_rules()]


def code(response: TestResponse) -> Any:
    """Of an error, if it has the form that all have."""
    body = response.get_json()
    assert set(body) == {"error", "detail"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["detail"] == body["error"]["message"]
    return body["error"]["code"]


@pytest.fixture(scope="module")
def loaded() -> Iterator[FlaskClient]:
    """One with a model, for answers that are more than refusals."""
    app = create_app(max_tokens_limit=50, max_prompt_tokens=40, max_choices=3)
    yield app.test_client()
    app.extensions["rwkvcpp"].close(0)


# Keys


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer second"},
        {"Authorization": "bearer  second"},
        {"X-Api-Key": "second"},
        {"Authorization": "Bearer wrong", "X-Api-Key": "first"},
        {"X-Api-Key": "ключ".encode().decode("latin-1")},
    ],
)
def test_who_has_a_key_may_ask(headers):
    asked = client(api_key=["first", "second", "ключ"]).get("/", headers=headers)
    assert asked.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer secon"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic second"},
        {"Authorization": "second"},
        {"X-Api-Key": ""},
        {"X-Api-Key": "first, second"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/exit", "/metrics", "/no-such-path"])
def test_others_get_401_whatever_they_ask_for(headers, path):
    refused = client(api_key=["first", "second"]).post(path, headers=headers)
    assert refused.status_code == 401
    assert code(refused) == "invalid_api_key"
    assert refused.get_json()["error"]["type"] == "authentication_error"
    assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_health_and_what_browsers_ask_before_need_no_key():
    asked = client(api_key=["secret"])
    assert asked.get("/health").status_code == asked.get("/v1/health").status_code == 200
    assert asked.options(CHAT).status_code == 200


def test_without_keys_any_key_is_good():
    assert client().get("/", headers={"Authorization": "Bearer anything"}).status_code == 200


def test_every_key_is_compared_in_constant_time(monkeypatch):
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    asked = client(api_key=["first", "second", "third"])
    assert asked.get("/", headers={"X-Api-Key": "first"}).status_code == 200
    assert compared == [b"first", b"second", b"third"]  # none is spared when one fits


# Hosts and origins


def of_page(origin: str = PAGE, kind: str = "application/json", **more: str) -> dict[str, str]:
    """What a browser sends for a page."""
    return {"Origin": origin, "Content-Type": kind, **more}


def test_the_routes_that_touch_the_machine_are_those_of_the_contract():
    app = create_app(no_model=True)
    touching = {path for path, route in routes_of(app) if route.touches_machine}
    assert touching == set(ENDPOINTS)


@pytest.mark.parametrize(
    "headers",
    [
        of_page("http://evil.example"),
        of_page("http://evil.example", "text/plain"),
        of_page("null"),
        of_page("http://localhost:8001"),
        of_page("http://localhost"),
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("settings", [{}, {"cors": "*"}, {"cors": ["*", "null"]}, {"cors": PAGE}])
def test_foreign_pages_touch_nothing(headers, settings):
    asked = client(**settings)
    for path in (*ENDPOINTS, "/update-config"):
        refused = asked.post(path, headers=headers, data="{}", base_url="http://localhost:8000")
        assert refused.status_code == 403, path
        assert code(refused) == "foreign_origin", path


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "192.0.2.1", "[2001::1]"],
)
def test_a_foreign_host_touches_nothing(host):
    """A name that its owner had lead here (DNS rebinding), whose pages are at home to a browser."""
    asked = client()
    for path in (*ENDPOINTS, "/update-config"):
        refused = asked.post(path, headers={"Host": host}, json={})
        assert refused.status_code == 403, path
        assert code(refused) == "foreign_host", path


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({}, "localhost"),
        ({}, "LOCALHOST:8000"),
        ({}, "127.0.0.1:8000"),
        ({}, "127.1.2.3"),
        ({}, "[::1]:8000"),
        ({}, socket.gethostname()),
        ({"host": "192.0.2.7"}, "192.0.2.7:8000"),
        ({"host": "0.0.0.0"}, "192.0.2.1:8000"),  # one of its own: no name leads others here
        ({"allow_host": "models.example"}, "Models.Example:8000"),
    ],
)
def test_known_hosts_pass(settings, host):
    passed = client(**settings).post("/update-config", headers={"Host": host}, json={})
    assert passed.status_code == 200


@pytest.mark.parametrize(
    ("origin", "settings"),
    [
        (PAGE, {"cors": ["http://a.example", PAGE]}),
        ("http://localhost:8000", {}),  # its own, such as /docs
        ("chrome-extension://abcdef", {"cors": "chrome-extension://abcdef"}),
    ],
)
def test_pages_that_are_named_and_those_of_the_server_may(origin, settings):
    passed = client(**settings).post(
        "/update-config", headers=of_page(origin), data="{}", base_url="http://localhost:8000"
    )
    assert passed.status_code == 200


def test_programs_that_are_no_browsers_notice_nothing():
    assert client().post("/update-config", data="{}").status_code == 200
    assert client().post("/update-config", data="{}", content_type="text/plain").status_code == 200


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ],
)
def test_what_pages_may_send_without_being_asked_is_refused(loaded, kind):
    refused = loaded.post(CHAT, data=json.dumps(QUESTION), headers=of_page(kind=kind))
    assert refused.status_code == 403
    assert code(refused) == "foreign_origin"


def test_a_page_under_a_name_that_leads_here_is_refused():
    """To its browser it asks its own server, so there is nothing that it may not send."""
    home = {"Host": "evil.example:8000", **of_page("http://evil.example:8000")}
    assert client().post(CHAT, headers=home, json=QUESTION).status_code == 403
    known = client(allow_host="evil.example").post(CHAT, headers=home, json=QUESTION)
    assert code(known) == "model_not_loaded"


def test_a_page_that_is_not_named_reads_nothing(loaded):
    """Its browser asks before it sends JSON; programs that set an Origin are answered."""
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
    for asked in (
        loaded.options(CHAT, headers=of_page() | headers),
        loaded.post(CHAT, headers=of_page(), json=QUESTION),
        loaded.get("/", headers=of_page()),
    ):
        assert asked.status_code == 200
        assert not [name for name in dict(asked.headers) if name.startswith("Access-Control")]
        assert asked.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("cors", "origin", "is_let_in"),
    [
        (PAGE, PAGE, True),
        (PAGE, "http://localhost:3001", False),
        (PAGE, "https://localhost:3000", False),
        (["http://a.example", PAGE], "http://a.example", True),
        ("*", "http://any.example", True),
        ("null", "null", True),
        (PAGE, "null", False),
    ],
)
@pytest.mark.parametrize("path", ["/", "/health", CHAT, "/no-such-path"])
def test_a_page_that_is_named_reads_answers_and_refusals(cors, origin, is_let_in, path):
    answer = client(cors=cors).get(path, headers=of_page(origin))
    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if is_let_in else None)
    assert "Origin" in answer.headers["Vary"]


def test_a_named_page_is_let_send_what_it_asks_about():
    app = create_app(no_model=True, cors=PAGE, api_key="secret")
    for path, route in routes_of(app):
        asked = app.test_client().options(
            path.replace("<path:name>", "x").replace("<path:id>", "x"),
            headers={
                "Origin": PAGE,
                "Access-Control-Request-Method": route.method,
                "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
                "Access-Control-Request-Private-Network": "true",
            },
        )
        headers = asked.headers
        assert asked.status_code == 200, path
        assert headers["Access-Control-Allow-Origin"] == PAGE, path
        assert route.method in headers["Access-Control-Allow-Methods"], path
        assert "x-stainless-os" in headers["Access-Control-Allow-Headers"], path
        assert headers["Access-Control-Allow-Private-Network"] == "true", path


def test_cors_for_all_is_not_for_the_machine():
    app = client(cors="*")
    headers = {**of_page(), "Access-Control-Request-Method": "POST"}
    allowed = {path: "Access-Control-Allow-Origin" in app.options(path, headers=headers).headers
               for path in (CHAT, "/exit", "/update-config")}  # fmt: skip
    assert allowed == {CHAT: True, "/exit": False, "/update-config": False}


# Deploy mode


@pytest.mark.parametrize("path", ENDPOINTS)
def test_deploy_mode_refuses_what_touches_the_machine(path):
    refused = client(deploy=True).post(path, json={"model": "", "strategy": "cpu"})
    assert refused.status_code == 403
    assert code(refused) == "deploy_mode"


def test_deploy_mode_leaves_the_rest_open():
    asked = client(deploy=True)
    assert asked.post("/update-config", json={}).status_code == 200
    assert asked.get("/status").status_code == asked.get("/").status_code == 200


def test_deploy_mode_may_be_turned_on_while_it_serves():
    app = create_app(no_model=True)
    asked = app.test_client()
    assert asked.post("/reset-state").status_code != 403
    app.extensions["rwkvcpp"].deploy = True
    assert asked.post("/reset-state").status_code == 403


# Limits


def test_a_body_that_is_too_long_is_413_and_is_not_read():
    asked = client(max_body_bytes=100)
    body = json.dumps(QUESTION).encode()
    assert code(asked.post(CHAT, data=body.ljust(100))) == "model_not_loaded"
    refused = asked.post(CHAT, data=body.ljust(101))
    assert refused.status_code == 413
    assert code(refused) == "body_too_large"
    assert "at most 100 bytes" in refused.get_json()["detail"]


def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_know(loaded):
    long = {"messages": [{"role": "user", "content": "once upon a time " * 20}]}
    refused = loaded.post(CHAT, json=long)
    assert refused.status_code == 400
    assert code(refused) == "context_length_exceeded"
    assert "expected at most 40" in refused.get_json()["detail"]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_tokens_beyond_the_limit_are_refused_and_the_limit_is_told(loaded, path, name):
    body = {**QUESTION, "prompt": "Hi"}
    del body["max_tokens"]
    assert loaded.post(path, json=body | {name: 50}).status_code == 200
    refused = loaded.post(path, json=body | {name: 51})
    assert refused.status_code == 400
    assert refused.get_json()["detail"] == "max_tokens is 51, expected at most 50"


def test_answers_beyond_the_limit_are_refused(loaded):
    body = {"prompt": ["Hi", "Ho"], "max_tokens": 1}
    assert loaded.post("/v1/completions", json=body).status_code == 200
    refused = loaded.post("/v1/completions", json=body | {"n": 2})
    assert refused.get_json()["detail"] == "2 prompts with n=2 are 4 answers, expected at most 3"


def test_limits_let_through_what_they_name():
    settings = Settings(max_prompt_tokens=3, max_tokens_limit=4, max_choices=6)
    check_prompt(settings, [1, 2, 3])
    check_max_tokens(settings, 4)
    check_choices(settings, 2, 3)
    with pytest.raises(ApiError, match="the prompt has 4 tokens, expected at most 3"):
        check_prompt(settings, [1, 2, 3, 4])
    with pytest.raises(ApiError, match="max_tokens is 5, expected at most 4"):
        check_max_tokens(settings, 5)
    with pytest.raises(ApiError, match="7 prompts with n=1 are 7 answers, expected at most 6"):
        check_choices(settings, 7)


def test_a_full_queue_is_429_with_the_seconds_to_wait():
    app = create_app(max_batch=1, max_waiting=1)
    service = app.extensions["rwkvcpp"]
    asked = app.test_client()
    try:
        engine = service.serving().engine
        long = Request(tokens=[0, 30, 40], max_tokens=100_000)
        with engine.submit(long) as running:
            running.get(PATIENCE)  # so it does not wait
            with engine.submit(long):
                refused = asked.post(CHAT, json=QUESTION)
        assert refused.status_code == 429
        assert code(refused) == "queue_full"
        assert refused.get_json()["error"]["type"] == "rate_limit_error"
        assert int(refused.headers["Retry-After"]) >= 1
        metrics = asked.get("/metrics").get_data(as_text=True)
        assert "rwkvcpp_queue_refusals_total 1.0" in metrics
    finally:
        service.close(0)


# Errors


@pytest.mark.parametrize(
    ("method", "path", "status", "expected"),
    [
        ("GET", "/no-such-path", 404, "not_found"),
        ("POST", "/no/such/path", 404, "not_found"),
        ("GET", "/exit", 405, "method_not_allowed"),
        ("DELETE", CHAT, 405, "method_not_allowed"),
        ("POST", CHAT, 400, "model_not_loaded"),
        ("POST", "/text-to-midi", 404, "not_found"),
    ],
)
def test_every_refusal_has_the_same_form(method, path, status, expected):
    refused = client().open(path, method=method, json=QUESTION)
    assert refused.status_code == status
    assert code(refused) == expected


@pytest.mark.parametrize("path", ["/v1//chat/completions", "/v1/chat///completions/", f"{CHAT}/"])
def test_a_slash_too_many_is_none(path):
    """Bases that end in one are common; a redirection could lead to others' hosts."""
    assert code(client().post(path, json=QUESTION)) == "model_not_loaded"


def test_what_is_allowed_is_told():
    assert {"GET", "HEAD", "OPTIONS"} == set(client().post("/health").allow)


def test_a_bug_of_ours_is_a_500_that_nobody_repeats(monkeypatch, caplog):
    app = create_app(no_model=True)
    monkeypatch.setattr(type(app.extensions["rwkvcpp"].metrics), "text", lambda _: 1 / 0)
    failed = app.test_client().get("/metrics")
    assert failed.status_code == 500
    assert code(failed) == "internal_error"
    assert failed.headers["x-should-retry"] == "false"
    assert "ZeroDivisionError" in caplog.text
    assert "Zero" not in failed.get_data(as_text=True)


# The log


def test_the_log_has_a_line_for_each_request_and_no_body_or_key(caplog):
    caplog.set_level(logging.INFO, "rwkvcpp.server")
    asked = client(api_key="s3cret", max_body_bytes=1000)
    body = {"messages": [{"role": "user", "content": "confidential"}]}
    good, bad = ({"Authorization": f"Bearer {key}"} for key in ("s3cret", "wr0ng"))
    asked.post(f"{CHAT}?token=hidden", json=body, headers=good, buffered=True)
    asked.post(CHAT, json=body, headers=bad, buffered=True)
    asked.get("/a%0Aforged", buffered=True)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" ")[:3] for line in lines] == [
        ["POST", CHAT, "400"],
        ["POST", CHAT, "401"],
        ["GET", "/a%0Aforged", "401"],
    ]
    for secret in ("confidential", "hidden", "s3cret", "wr0ng"):
        assert secret not in caplog.text


def test_bodies_are_logged_when_asked(caplog):
    caplog.set_level(logging.INFO, "rwkvcpp.server")
    asked = client(log_requests=True, api_key="s3cret")
    asked.post(CHAT, data=b'{"a": "line\n\x1b[2Jend \xff"}', headers={"X-Api-Key": "s3cret"})
    logged = caplog.records[0].getMessage()
    assert logged == CHAT + " " + ascii('{"a": "line\n\x1b[2Jend \ufffd"}')
    assert "s3cret" not in caplog.text


def test_an_answer_s_tokens_are_in_the_log_and_in_the_metrics(caplog):
    caplog.set_level(logging.INFO, "rwkvcpp.server")
    app = create_app()
    asked = app.test_client()
    try:
        usage = asked.post(CHAT, json=QUESTION, buffered=True).get_json()["usage"]
        streamed = asked.post(CHAT, json=QUESTION | {"stream": True}, buffered=True)
        assert b"[DONE]" in streamed.data
        tokens = f"{usage['prompt_tokens']}+{usage['completion_tokens']} tokens"
        assert [record.getMessage().split(" ms ")[1] for record in caplog.records] == [tokens] * 2
        numbers = asked.get("/metrics").get_data(as_text=True)
    finally:
        app.extensions["rwkvcpp"].close(0)
    found = dict(line.rsplit(" ", 1) for line in numbers.splitlines() if line[0] != "#")
    assert float(found["rwkvcpp_prompt_tokens_total"]) == 2 * usage["prompt_tokens"]
    assert float(found["rwkvcpp_completion_tokens_total"]) == 2 * usage["completion_tokens"]
    assert float(found["rwkvcpp_cached_tokens_total"]) > 0
    assert float(found["rwkvcpp_first_token_seconds_count"]) == 2
    assert float(found["rwkvcpp_running"]) == float(found["rwkvcpp_waiting"]) == 0
    assert float(found["rwkvcpp_cache_entries"]) > 0
    assert float(found["rwkvcpp_tokens_per_second"]) > 0
    label = f'{{method="POST",route="{CHAT}",status="200"}}'
    assert float(found["rwkvcpp_requests_total" + label]) == 2


def test_paths_that_nobody_has_make_no_new_metrics():
    asked = client()
    for i in range(5):
        asked.get(f"/guess-{i}", buffered=True)
    lines = asked.get("/metrics").get_data(as_text=True).splitlines()
    counted = [line for line in lines if line.startswith("rwkvcpp_requests_total")]
    assert counted == ['rwkvcpp_requests_total{method="",route="",status="404"} 5.0']


# What is there without a model


def test_what_old_clients_ask_for_at_the_start():
    asked = client()
    assert asked.get("/").get_json() == {"Hello": "World!"}
    credit = asked.get("/dashboard/billing/credit_grants").get_json()
    assert credit["object"] == "credit_summary"
    assert (credit["total_granted"], credit["total_used"], credit["total_available"]) == (
        10000, 0, 10000,
    )  # fmt: skip
    (grant,) = credit["grants"]["data"]
    assert grant["grant_amount"] == 10000
    assert (grant["effective_at"], grant["expires_at"]) == (1672531200, 33229440000)


def test_health_is_503_while_the_first_model_is_being_loaded():
    app = create_app(no_model=True)
    asked = app.test_client()
    assert asked.get("/health").get_json() == {"status": "ok"}
    with app.extensions["rwkvcpp"]._changing():
        loading = asked.get("/health")
    assert loading.status_code == 503
    assert code(loading) == "loading"
    assert loading.headers["x-should-retry"] == "false"
    assert asked.get("/v1/health").status_code == 200


def test_where_another_program_serves_the_app_exit_is_not_supported():
    refused = client().post("/exit")
    assert refused.status_code == 400
    assert refused.get_json()["error"]["type"] == "not_supported_error"


def test_at_the_end_requests_are_refused():
    app = create_app(no_model=True)
    app.extensions["rwkvcpp"].is_ending = True
    for path in ("/", "/health", "/metrics"):
        refused = app.test_client().get(path)
        assert refused.status_code == 503
        assert code(refused) == "shutting_down"

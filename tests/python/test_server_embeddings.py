"""Embeddings and the list of models."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from flask.testing import FlaskClient

import rwkvcpp
from rwkvcpp.server import create_app
from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.routes.embeddings import Embedding
from rwkvcpp.server.service import Service

PATHS = [
    "/v1/embeddings",
    "/embeddings",
    "/v1/engines/text-embedding-ada-002/embeddings",
    "/engines/text-embedding-ada-002/embeddings",
]
TEXTS = ["The fox ran.", "A crow sat on a branch.", "好"]


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    app = create_app()
    yield app.test_client()
    app.extensions["rwkvcpp"].close(0)


@pytest.fixture(scope="module")
def service(client: FlaskClient) -> Service:
    found: Service = client.application.extensions["rwkvcpp"]
    return found


@pytest.fixture(scope="module")
def model(service: Service) -> rwkvcpp.Model:
    return service.serving().model


def vectors(client: FlaskClient, path: str = PATHS[0], **body: object) -> np.ndarray:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer = response.get_json()
    assert [each["index"] for each in answer["data"]] == [*range(len(answer["data"]))]
    return np.array([each["embedding"] for each in answer["data"]], np.float32)


@pytest.mark.parametrize("path", PATHS)
def test_each_text_has_a_vector(client, model, path):
    found = vectors(client, path, input=TEXTS, model="text-embedding-ada-002")
    assert np.array_equal(found, model.embed(TEXTS))
    assert np.allclose(np.linalg.norm(found, axis=1), 1)


def test_the_form_is_openais(client, model):
    answer = client.post(PATHS[0], json={"input": "Hi"}).get_json()
    assert (answer["object"], answer["model"]) == ("list", "rwkv7-stories-q8_0")
    assert answer["data"][0]["object"] == "embedding"
    n_tokens = len(model.tokenizer.encode("Hi"))
    assert answer["usage"] == {"prompt_tokens": n_tokens, "total_tokens": n_tokens}


def test_ids_are_the_models_own(client, model):
    ids = model.tokenizer.encode(TEXTS[0])
    expected = vectors(client, input=TEXTS[0])
    assert np.array_equal(vectors(client, input=ids), expected)
    assert np.array_equal(vectors(client, input=[ids]), expected)


def test_base64_holds_the_same_floats(client):
    response = client.post(PATHS[0], json={"input": TEXTS, "encoding_format": "base64"})
    data = [base64.b64decode(each["embedding"]) for each in response.get_json()["data"]]
    found = np.array([np.frombuffer(each, "<f4") for each in data])
    assert np.array_equal(found, vectors(client, input=TEXTS, dimensions=256))


def test_many_texts_keep_their_order(client, model):
    texts = [f"Story number {i}." for i in range(35)]
    assert np.array_equal(vectors(client, input=texts), model.embed(texts))


def test_nobody_works_for_a_client_that_has_left(service):
    work = Embedding(service.serving(), [[1, 2] * 10_000_000])
    threading.Timer(0.3, work.leave).start()
    with pytest.raises(ApiError, match="hung up"):
        work.vectors()


def test_texts_are_embedded_while_others_write(client, model):
    """Both get what they get alone."""
    body = {"prompt": "Once", "max_tokens": 60, "seed": 1}
    alone = client.post("/v1/completions", json=body).get_json()["choices"]
    found: list[object] = []

    def write() -> None:
        other = client.application.test_client()
        found.append(other.post("/v1/completions", json=body).get_json()["choices"])

    thread = threading.Thread(target=write)
    thread.start()
    assert np.array_equal(vectors(client, input=TEXTS * 20), model.embed(TEXTS * 20))
    thread.join(60)
    assert found == [alone]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[1], []]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": [4096]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 3}, "dimensions"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_is_wrong_is_told(client, body, param):
    response = client.post(PATHS[0], json=body)
    assert response.status_code == 400
    error = response.get_json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


# ---- models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
def test_the_model_that_is_served_comes_first(client, model, path):
    answer = client.get(path).get_json()
    assert answer["object"] == "list"
    first, *others = answer["data"]
    assert (first["id"], first["object"], first["owned_by"]) == (
        "rwkv7-stories-q8_0",
        "model",
        "rwkv",
    )
    assert (first["root"], first["parent"]) == (first["id"], None)
    assert first["meta"]["n_vocab"] == model.n_vocab
    assert first["meta"]["chat_template"] == "stories"
    assert [other["id"] for other in others] == ["gpt-3.5-turbo", "text-davinci-003"]
    assert all(isinstance(other["permission"], list) for other in others)


@pytest.mark.parametrize(
    ("id", "found"),
    [
        ("rwkv7-stories-q8_0", "rwkv7-stories-q8_0"),
        ("rwkv", "rwkv7-stories-q8_0"),
        ("RWKV-7/World", "rwkv7-stories-q8_0"),
        ("gpt-3.5-turbo", "gpt-3.5-turbo"),
    ],
)
def test_a_model_is_found_by_its_id(client, id, found):
    for prefix in ("/v1/models/", "/models/"):
        assert client.get(prefix + id).get_json()["id"] == found


def test_others_do_not_exist(client):
    response = client.get("/v1/models/gpt-4")
    assert response.status_code == 404
    error = response.get_json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_without_a_model_there_is_a_name():
    app = create_app(no_model=True)
    client = app.test_client()
    assert client.get("/v1/models").get_json()["data"][0]["id"] == "rwkv"
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        response = client.post(path, json={"input": "a", "messages": [{}]})
        assert response.status_code == 400
        assert response.get_json()["error"]["message"] == "model not loaded"

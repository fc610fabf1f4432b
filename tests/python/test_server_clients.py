"""What programs in use send, in just that form, and what they read of the answers.

One class for each program. Where a program does something with an answer that a small server gets
wrong, its way of doing it stands here in a few lines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import jinja2
import numpy as np
import pytest

from rwkvcpp import Model
from tests.python.answers import CHAT, COMPLETIONS
from tests.python.scripted import saying
from tests.python.server import LiveServer, Reply, live_server

KEY = {"Authorization": "Bearer sk-none"}  # any key is as good as none, where none is wanted
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
            "additionalProperties": False,
        },
        "strict": False,
    },
}
CALL = '```json\n{"name": "get_weather", "arguments": {"location": "Oslo"}}\n```'


@pytest.fixture(scope="module")
def stories() -> Iterator[LiveServer]:
    """The bundled model as it is: it continues texts."""
    with live_server() as live:
        yield live


@pytest.fixture(scope="module")
def g1() -> Iterator[LiveServer]:
    """The same with the manners of a G1 model, which thinks, calls and fills in."""
    with live_server(template="g1") as live:
        yield live


def says(live: LiveServer, text: str) -> Any:
    """Inside of it, the model of `live` writes `text`."""
    return saying(live.service.serving().model.tokenizer, text)


def answered(reply: Reply) -> Any:
    """The JSON of a success."""
    assert reply.status == 200, reply.data
    return reply.json


def streamed(reply: Reply) -> list[dict[str, Any]]:
    """The chunks of a stream that ended well."""
    assert reply.status == 200, reply.data
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    *chunks, done = reply.events
    assert done == "[DONE]"
    return chunks


def deltas(chunks: list[dict[str, Any]], key: str = "content") -> str:
    """The text of one kind, as readers of streams add it up."""
    with_choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    return "".join(choice["delta"].get(key) or "" for choice in with_choices)


class TestLmEval:
    """lm-evaluation-harness: `local-completions` with the server's tokenizer, and the chat form."""

    @pytest.fixture
    def encode(self, stories):
        def encode(text: str) -> list[int]:
            body = {"prompt": text, "add_special_tokens": False}
            return answered(stories.post("/tokenize", body))["tokens"]

        return encode

    def scores(self, live: LiveServer, pairs: list[tuple[list[int], list[int]]]):
        """Sums and whether each was the likeliest, the way in which it reads them."""
        prompts = [context + continuation for context, continuation in pairs]
        body = {
            "model": "rwkv",
            "prompt": prompts,
            "temperature": 0,
            "max_tokens": 1,
            "logprobs": 1,
            "seed": 1234,
            "echo": True,
        }
        choices = sorted(
            answered(live.post(COMPLETIONS, body, **KEY))["choices"], key=lambda c: c["index"]
        )
        for choice, (context, _) in zip(choices, pairs, strict=True):
            logprobs = choice["logprobs"]
            of_tokens = logprobs["token_logprobs"][len(context) : -1]
            tops = logprobs["top_logprobs"][len(context) : -1]
            is_greedy = all(
                found == max(top.values()) for found, top in zip(of_tokens, tops, strict=True)
            )
            yield sum(of_tokens), is_greedy

    def test_the_tokenizer_is_the_servers(self, stories, encode):
        info = answered(stories.get("/tokenizer_info"))
        (end,) = encode(info["eos_token"])
        assert end == 0
        tokens = encode("The fox and the crow.")
        assert answered(stories.post("/detokenize", {"tokens": tokens}))["prompt"] == (
            "The fox and the crow."
        )

    def test_continuations_are_scored_as_the_model_scores_them(self, stories, encode):
        context = encode("Once upon a time there was a")
        pairs = [(context, encode(text)) for text in (" king", " queen who lived", " @#")]
        pairs += [([0], encode("The fox"))]  # an empty context
        found = list(self.scores(stories, pairs))
        model = stories.service.serving().model
        for (score, _), (context, continuation) in zip(found, pairs, strict=True):
            assert score == pytest.approx(logprob(model, context, continuation), abs=1e-4)

    def test_what_is_likeliest_is_greedy_and_nothing_else(self, stories, encode):
        context = encode("Once upon a time there")
        body = {"prompt": context, "temperature": 0, "max_tokens": 4}
        written = encode(answered(stories.post(COMPLETIONS, body))["choices"][0]["text"])
        pairs = [(context, written), (context, encode(" xylophone"))]
        assert [is_greedy for _, is_greedy in self.scores(stories, pairs)] == [True, False]

    def test_texts_are_written_up_to_its_stops_and_the_end(self, stories, encode):
        body = {
            "prompt": encode("The old woman"),
            "model": "rwkv",
            "max_tokens": 20,
            "temperature": 0,
            "stop": ["\n\n", ".", "<|endoftext|>"],
            "seed": 1234,
        }
        (choice,) = answered(stories.post(COMPLETIONS, body))["choices"]
        assert choice["index"] == 0
        assert choice["text"]
        assert not any(stop in choice["text"] for stop in body["stop"])

    def test_messages_have_a_key_of_its_own(self, g1):
        body = {
            "messages": [{"role": "user", "content": "Hello", "type": "text"}],
            "model": "rwkv7-g1-1.5b",
            "max_tokens": 30,
            "temperature": 0,
            "stop": ["a", "b", "c", "d"],
            "seed": 1234,
        }
        with says(g1, "> Goody."):
            (choice,) = answered(g1.post(CHAT, body))["choices"]
        assert choice["message"]["content"] == "Goo"  # None would be scored as ""

    def test_the_chat_template_needs_messages_alone(self, g1):
        text = answered(g1.get("/tokenizer_info"))["chat_template"]
        template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text)
        messages = [{"role": "user", "content": "Hi", "type": "text"}]
        assert template.render(messages=messages, add_generation_prompt=True).startswith("User: Hi")


def logprob(model: Model, context: list[int], continuation: list[int]) -> float:
    """Of a continuation, token by token."""
    state, total = model.initial_state(), 0.0
    logits = model.forward(context, state)
    for token in continuation:
        wide = logits.astype(np.float64)
        total += float(wide[token] - wide.max() - math.log(np.exp(wide - wide.max()).sum()))
        logits = model.forward([token], state)
    return total


class TestOpenWebui:
    """open-webui: a list of models without a key, chats, and titles for them in the background."""

    def test_models_have_names(self, stories):
        found = answered(stories.get("/models"))["data"]
        assert found[0]["id"] == "rwkv7-stories-q8_0"
        assert all(model.get("id") for model in found)
        assert all(model.get("name", "") is not None for model in found)

    def test_what_is_not_found_is_json(self, stories):
        reply = stories.get("/v1/audio/voices", **KEY)
        assert reply.status == 404
        assert reply.json["error"]["message"]
        assert reply.json["detail"]

    def test_a_title_is_asked_for_while_a_chat_goes_on(self, g1):
        task = "### Task:\nGenerate a concise, 3-5 word title with an emoji.\n### Output:\nJSON"
        title = {
            "model": "rwkv",
            "messages": [{"role": "user", "content": task}],
            "stream": False,
            "max_completion_tokens": 1000,
            "metadata": {"task": "title_generation", "chat_id": "c"},
        }
        tags = {**title, "max_completion_tokens": None}
        chat = {"model": "rwkv", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        with says(g1, "> Fine."), ThreadPoolExecutor(3) as threads:
            replies = list(threads.map(lambda body: g1.post(CHAT, body), [chat, title, tags]))
        assert deltas(streamed(replies[0])) == "Fine."
        for reply in replies[1:]:
            assert answered(reply)["choices"][0]["message"]["content"] == "Fine."


class TestCline:
    """Cline: always streamed, always with usage; thoughts and calls are read from deltas."""

    def body(self, **more: Any) -> dict[str, Any]:
        return {
            "model": "rwkv",
            "messages": [
                {"role": "system", "content": "You are Cline.\n\nTools are below."},
                {"role": "user", "content": [{"type": "text", "text": "<task>\nHi\n</task>"},
                                             {"type": "text", "text": "# Time\n12:00"}]},
            ],
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }  # fmt: skip

    def test_text_thoughts_and_usage(self, g1):
        with says(g1, ">\nHm, a task.\n</think>\nDone."):
            chunks = streamed(g1.post(CHAT, self.body(reasoning_effort="medium"), **KEY))
        assert deltas(chunks) == "Done."
        assert deltas(chunks, "reasoning_content").strip() == "Hm, a task."
        last = chunks[-1]
        assert last["choices"] == []
        assert last["usage"]["prompt_tokens"] > 10
        assert last["usage"]["completion_tokens"] > 3
        assert last["usage"]["prompt_tokens_details"]["cached_tokens"] >= 0

    def test_what_was_read_is_not_read_again(self, g1):
        for _ in range(2):
            with says(g1, "> Well."):
                chunks = streamed(g1.post(CHAT, self.body(max_tokens=50), **KEY))
        usage = chunks[-1]["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > usage["prompt_tokens"] / 2

    def test_calls_in_pieces(self, g1):
        body = self.body(tools=[WEATHER], tool_choice="auto")
        with says(g1, CALL):
            chunks = streamed(g1.post(CHAT, body, **KEY))
        pieces = [
            piece
            for chunk in chunks
            for choice in chunk["choices"]
            for piece in choice["delta"].get("tool_calls", [])
        ]
        assert {piece["index"] for piece in pieces} == {0}
        assert pieces[0]["id"]
        assert pieces[0]["function"]["name"] == "get_weather"
        arguments = "".join(piece["function"].get("arguments") or "" for piece in pieces)
        assert json.loads(arguments) == {"location": "Oslo"}
        reasons = [c["finish_reason"] for chunk in chunks for c in chunk["choices"]]
        assert reasons[-1] == "tool_calls"

    def test_ids_like_o1_have_developers(self, g1):
        body = self.body(model="o1-rwkv", reasoning_effort="low")
        body["messages"][0]["role"] = "developer"
        with says(g1, ">\nHm.\n</think>\nFine."):
            assert deltas(streamed(g1.post(CHAT, body, **KEY))) == "Fine."


class TestSimonwLlm:
    """simonw/llm: usage in every answer, and arguments that json.loads takes."""

    def test_usage_is_always_there(self, stories):
        body = {"model": "rwkv", "messages": [{"role": "user", "content": "Once"}], "max_tokens": 3}
        assert answered(stories.post(CHAT, {**body, "stream": False}))["usage"]["total_tokens"]
        options = {"stream": True, "stream_options": {"include_usage": True}}
        assert streamed(stories.post(CHAT, {**body, **options}))[-1]["usage"]["total_tokens"]
        prompt = {"model": "rwkv", "prompt": "Once", "max_tokens": 3, "stream": False}
        assert answered(stories.post(COMPLETIONS, prompt))["usage"]["total_tokens"]

    def test_arguments_are_json_if_there_are_none(self, g1):
        tool = {"type": "function", "function": {"name": "now", "description": "The time."}}
        body = {"messages": [{"role": "user", "content": "When?"}], "tools": [tool]}
        with says(g1, '```json\n{"name": "now"}\n```'):
            (choice,) = answered(g1.post(CHAT, body))["choices"]
        (call,) = choice["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {}

    def test_a_schema_is_refused_and_not_ignored(self, stories):
        schema = {"type": "object", "properties": {"name": {"type": "string"}}}
        form = {"type": "json_schema", "json_schema": {"name": "output", "schema": schema}}
        body = {"messages": [{"role": "user", "content": "x"}], "response_format": form}
        reply = stories.post(CHAT, body)
        assert reply.status == 400
        assert reply.json["error"]["type"] == "not_supported_error"


class TestLlamaIndex:
    """LlamaIndex's OpenAILike: completions of its own rendering; impatient, and so asks again."""

    def test_its_own_rendering_is_continued(self, stories):
        prompt = "system: Be brief.\nuser: Hello\nassistant: "
        body = {"prompt": prompt, "model": "rwkv", "stream": False, "temperature": 0.1,
                "max_tokens": 20}  # fmt: skip
        answer = answered(stories.post("/completions", body, **KEY))
        assert answer["choices"][0]["text"]
        tokens = stories.service.serving().model.tokenizer.encode(prompt)
        assert answer["usage"]["prompt_tokens"] == 1 + len(tokens)  # and no template around it

    def test_a_question_that_is_asked_again_has_been_read(self, stories):
        prompt = "The wolf met a child in the wood. " * 40
        body = {"prompt": prompt, "temperature": 0.1, "max_tokens": 100_000}
        connection = stories.connect()
        connection.request("POST", "/completions", json.dumps({**body, "stream": True}))
        connection.getresponse().readline()  # the prompt was read
        connection.close()
        again = answered(stories.post("/completions", {**body, "max_tokens": 2}))
        usage = again["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]


class TestLangChain:
    """LangChain: streams with and without usage, and embeddings of foreign tokens."""

    BODY: ClassVar[dict[str, Any]] = {
        "messages": [{"content": "Once", "role": "user"}],
        "model": "rwkv",
        "max_tokens": 3,
    }

    def test_no_chunk_is_without_choices_unless_asked_for(self, stories):
        chunks = streamed(stories.post(CHAT, {**self.BODY, "stream": True}))
        assert all(len(chunk["choices"]) == 1 for chunk in chunks)
        assert all("usage" not in chunk or chunk["usage"] is None for chunk in chunks)

    def test_usage_comes_where_it_is_asked_for(self, stories):
        body = {**self.BODY, "stream": True, "stream_options": {"include_usage": True}}
        *chunks, last = streamed(stories.post(CHAT, body))
        assert all(chunk["choices"] for chunk in chunks)
        assert last["usage"]["completion_tokens"] == 3

    def test_embeddings_of_foreign_tokens_are_refused(self, stories):
        # tiktoken's, as long as check_embedding_ctx_length is not False
        body = {"input": [[791, 39935, 323, 279, 97381]], "model": "x", "encoding_format": "base64"}
        reply = stories.post("/v1/embeddings", body)
        assert reply.status == 400
        assert "39935" in reply.json["error"]["message"]

    def test_embeddings_of_texts(self, stories):
        body = {"input": ["The fox", "The crow"], "model": "text-embedding-ada-002"}
        found = answered(stories.post("/v1/embeddings", body))["data"]
        assert [each["index"] for each in found] == [0, 1]
        for each in found:
            assert np.linalg.norm(each["embedding"]) == pytest.approx(1, abs=1e-6)


class TestEditors:
    """Continue, Kilo, TabbyML, minuet: the text between a prefix and a suffix, as it comes."""

    def test_a_suffix_asks_for_the_middle(self, g1):
        body = {"prompt": "def add(a, b):\n", "suffix": "\n\nprint(add(1, 2))", "stream": True,
                "model": "rwkv", "max_tokens": 64, "temperature": 0.01,
                "stop": ["\n\n", "<|fim_prefix|>"]}  # fmt: skip
        with says(g1, "    return a + b✿"):
            chunks = streamed(g1.post(COMPLETIONS, body, **KEY))
        assert "".join(c["text"] for chunk in chunks for c in chunk["choices"]) == (
            "    return a + b"
        )

    def test_a_model_that_cannot_says_so(self, stories):
        for path, body in (
            (COMPLETIONS, {"prompt": "a", "suffix": "b"}),
            ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
        ):
            reply = stories.post(path, body)
            assert reply.status == 400
            assert reply.json["error"]["type"] == "not_supported_error"

    def test_llama_vscode_asks_for_an_infill(self, g1):
        body = {"input_prefix": "a = 1\n", "input_suffix": "\nc = a + b", "prompt": "b = ",
                "input_extra": [{"filename": "x.py", "text": "import os"}], "n_predict": 8,
                "top_k": 40, "top_p": 0.9, "samplers": ["top_k", "top_p", "infill"],
                "cache_prompt": True, "stream": False, "t_max_predict_ms": 1000}  # fmt: skip
        with says(g1, "2✿"):
            assert answered(g1.post("/infill", body))["content"] == "2"

    def test_a_prompt_with_its_own_marks_stays_as_it_is(self, stories):
        prompt = "<fim_prefix>a<fim_suffix>b<fim_middle>"
        answer = answered(stories.post(COMPLETIONS, {"prompt": prompt, "max_tokens": 1}))
        tokens = stories.service.serving().model.tokenizer.encode(prompt)
        assert answer["usage"]["prompt_tokens"] == 1 + len(tokens)


class TestReasoningReaders:
    """Those who read `reasoning_content`, and those who look for the tag in the text."""

    BODY: ClassVar[dict[str, Any]] = {
        "messages": [{"role": "user", "content": "Hi"}],
        "enable_thinking": True,
    }
    SAID = ">\nHm.\n</think>\nHello."

    def test_it_has_a_field_of_its_own(self, g1):
        with says(g1, self.SAID):
            message = answered(g1.post(CHAT, self.BODY))["choices"][0]["message"]
            chunks = streamed(g1.post(CHAT, {**self.BODY, "stream": True}))
        assert message["content"] == deltas(chunks) == "Hello."
        assert message["reasoning_content"] == deltas(chunks, "reasoning_content")
        assert message["reasoning_content"].strip() == "Hm."

    def test_or_stays_in_the_text(self, g1):
        body = {**self.BODY, "reasoning_format": "none"}
        with says(g1, self.SAID):
            message = answered(g1.post(CHAT, body))["choices"][0]["message"]
            chunks = streamed(g1.post(CHAT, {**body, "stream": True}))
        assert message["content"] == deltas(chunks)
        assert message["content"].startswith("<think>")
        assert "Hello." in message["content"].split("</think>")[1]
        assert "reasoning_content" not in message


class TestApacheBench:
    """The load test of RWKV-Runner's guide; test_server_guide_002.py has its other bodies."""

    def test_100_chats_of_20_clients(self, stories):
        """`ab -p body.json -T application/json -c 20 -n 100`, with short answers."""
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        with ThreadPoolExecutor(20) as clients:
            replies = clients.map(lambda _: stories.post("/chat/completions", body), range(100))
        assert [reply.status for reply in replies] == [200] * 100

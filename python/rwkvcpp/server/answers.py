"""What routes answer, as types: the OpenAPI page shows them, and tests hold the routes to it.

Handlers write plain dictionaries; here is what clients may rely on. A field that may be missing has
a default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel


class Error(BaseModel):
    """What is wrong: a sentence for people, a code for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class Failure(BaseModel):
    """The body of every answer that is no success."""

    error: Error
    detail: str


class PromptDetails(BaseModel):
    """What the prompt was spared."""

    cached_tokens: int


class CompletionDetails(BaseModel):
    """What was drawn."""

    reasoning_tokens: int


class Usage(BaseModel):
    """What an answer has cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails | None = None  # of chats


class EmbeddingUsage(BaseModel):
    """What embeddings have cost."""

    prompt_tokens: int
    total_tokens: int


class Function(BaseModel):
    """A call: `arguments` is the text of a JSON object, "{}" at least."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call that the model asks for."""

    id: str
    type: Literal["function"]
    function: Function


class TopLogprob(BaseModel):
    """A token that might have come."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token that came, and those beside it."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Logarithms of probabilities, token by token."""

    content: list[TokenLogprob] | None
    refusal: None = None


class CompletionLogprobs(BaseModel):
    """Logarithms of probabilities in the older form; the first of an echoed prompt is null."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


FinishReason = Literal["stop", "length", "tool_calls"]


class Message(BaseModel):
    """A reply; `content` is text, if only ""."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class StateOut(BaseModel):
    """A state to send back later: the bytes of a state file, or what they say.

    `pending` is the end of what it has read that the answer does not show.
    """

    format: Literal["base64", "json"]
    data: str | dict[str, Any]
    n_tokens: int
    pending: str


class ChatChoice(BaseModel):
    """One reply of n."""

    index: int
    message: Message
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason
    state: StateOut | None = None  # of each, where there are several


class ChatCompletion(BaseModel):
    """A conversation answered."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    state: StateOut | None = None


class FunctionDelta(BaseModel):
    """A piece of a call: the name comes first, arguments add up to JSON."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(BaseModel):
    """A piece of a call."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class Delta(BaseModel):
    """What has come."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(BaseModel):
    """A piece of one reply of n."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None
    state: StateOut | None = None


class ChatChunk(BaseModel):
    """An event of a stream; the last one is `[DONE]`. With usage `choices` is empty."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    state: StateOut | None = None


class CompletionChoice(BaseModel):
    """One continuation of n."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    state: StateOut | None = None


class Completion(BaseModel):
    """A text continued; streamed, each event is one of these."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    state: StateOut | None = None


class Embedding(BaseModel):
    """A vector of length 1; base64 of little-endian float32 where that was asked for."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    """A vector for each input."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ModelFacts(BaseModel):
    """A name that a request may give, which selects nothing."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    """The model that is served, and names that programs expect."""

    object: Literal["list"]
    data: list[ModelFacts]


class RunnerStatus(BaseModel):
    """0: no model, 2: one is being loaded, 3: it works."""

    status: Literal[0, 2, 3]
    pid: int
    device_name: str


class Piece(BaseModel):
    """A token and its text, or its bytes where they are a part of a character."""

    id: int
    piece: str | list[int]


class Tokens(BaseModel):
    """A text as tokens."""

    tokens: list[int] | list[Piece]
    count: int
    max_model_len: int
    token_strs: list[str] | None = None


class Text(BaseModel):
    """A text under the two names that clients know it by."""

    content: str
    prompt: str


class TokenizerFacts(BaseModel):
    """What evaluations ask of a tokenizer; the template is Jinja."""

    tokenizer_class: str
    vocab_size: int
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token: None
    model_max_length: int
    chat_template: str


class Count(BaseModel):
    """How many tokens."""

    tokens: int


class Infill(BaseModel):
    """A middle; streamed, each event is one of these, and the last has its cost."""

    index: int
    content: str
    tokens: list[int]
    stop: bool
    model: str | None = None
    tokens_predicted: int | None = None
    tokens_evaluated: int | None = None
    tokens_cached: int | None = None
    truncated: bool | None = None
    stop_type: Literal["limit", "eos", "word"] | None = None


class ServedModel(BaseModel):
    """What is served."""

    id: str
    name: str
    path: str


class ActiveRequest(BaseModel):
    """An answer that is being written."""

    request_id: str
    created: int | float


class ServerStatus(BaseModel):
    """What the server can do, and what it is busy with."""

    status: Literal["running", "loading", "error"]
    api_version: str
    engine_version: str
    model: ServedModel | None
    capabilities: dict[str, bool]
    queue: dict[str, int]
    active_request: ActiveRequest | None
    active_requests: list[ActiveRequest]


class Stopped(BaseModel):
    """Whether there was something to stop, and what goes on."""

    ok: Literal[True]
    stopped: bool
    active_request: ActiveRequest | None


class Translation(BaseModel):
    """A text in another language."""

    detected_source_lang: str
    text: str


class Translations(BaseModel):
    """Texts in another language."""

    translations: list[Translation]


class Okay(BaseModel):
    """It answers."""

    status: Literal["ok"]


@dataclass(frozen=True)
class Answered:
    """What a route answers when all is well."""

    json: Any = field(default_factory=dict)  # a model or a schema; None: no JSON
    events: Any = None  # of a stream, where there may be one
    others: tuple[str, ...] = ()  # media types that are no JSON
    status: int = 200
    meaning: str = "As asked."
    without_body: Mapping[int, str] = field(default_factory=dict)
    more: tuple[type[BaseModel], ...] = ()  # that a schema names

    @property
    def kinds(self) -> Iterator[type[BaseModel]]:
        """The models that it names."""
        named = (self.json, self.events, *self.more)
        return (kind for kind in named if isinstance(kind, type))


class Warned(BaseModel):
    """Done, and something is otherwise than it may seem."""

    message: Literal["success"]
    warnings: list[str]


SUCCESS = Answered({"type": "string", "const": "success"})

# The first path of a route -> its answer; any JSON where there is none here.
ANSWERS: Mapping[str, Answered] = {
    "/v1/chat/completions": Answered(ChatCompletion, events=ChatChunk),
    "/v1/completions": Answered(Completion, events=Completion),
    "/v1/embeddings": Answered(Embeddings),
    "/v1/models": Answered(Models),
    "/v1/models/<path:id>": Answered(ModelFacts),
    "/tokenize": Answered(Tokens),
    "/detokenize": Answered(Text),
    "/tokenizer_info": Answered(TokenizerFacts),
    "/v1/tokens/count": Answered(Count),
    "/infill": Answered(Infill, events=Infill),
    "/v1/batch/completions": Answered(ChatCompletion, events=ChatChunk),
    "/big_batch/completions": Answered(None, events=ChatChunk),
    "/FIM/v1/batch-FIM": Answered(events={}),
    "/translate/v1/batch-translate": Answered(Translations),
    "/v1/server/status": Answered(ServerStatus),
    "/v1/server/stop": Answered(Stopped),
    "/status": Answered(RunnerStatus),
    "/switch-model": Answered(
        {"anyOf": [SUCCESS.json, {"$ref": "#/components/schemas/Warned"}]},
        more=(Warned,),
        without_body={304: "Another model is being loaded."},
    ),
    "/update-config": SUCCESS,
    "/disable-state-cache": SUCCESS,
    "/enable-state-cache": SUCCESS,
    "/reset-state-cache": SUCCESS,
    "/health": Answered(Okay),
    "/metrics": Answered(None, others=("text/plain",)),
    "/exit": Answered(Okay),
    "/docs": Answered(None, others=("text/html",)),
    "/docs/<name>": Answered(None, others=("text/javascript", "text/css", "image/png")),
    "/redoc": Answered(None, others=("text/html",), status=302),
}

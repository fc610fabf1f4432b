"""Tokens: texts to ids and back, in the shapes of llama.cpp, vLLM, lm-eval and RWKV Chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from rwkvcpp.server.bodies import Body
from rwkvcpp.server.errors import ApiError, refusing
from rwkvcpp.server.fields import TokenId
from rwkvcpp.server.openai.chat_asked import understand
from rwkvcpp.server.openai.chat_body import ChatBody
from rwkvcpp.server.openai.token_names import END_OF_TEXT, TokenNames
from rwkvcpp.server.routing import Answer, Routes
from rwkvcpp.server.service import Service, Serving

routes = Routes("tokens")

Content = str | list[str | TokenId]  # a text, or its parts, some of them tokens already


class TokenizeBody(ChatBody):
    """A text as llama.cpp has it (`content`), as vLLM has it (`prompt`), or a conversation.

    add_special: whether the token that parts texts comes first; without it, `content` is taken as
        it is, and a prompt and a conversation have the tokens that a completion reads.
    """

    content: Content | None = None
    prompt: Content | None = None
    add_special: bool | None = None
    add_special_tokens: bool | None = None
    parse_special: bool = True
    with_pieces: bool = False
    return_token_strs: bool = False
    add_generation_prompt: bool = True


@routes.post("/tokenize", body=TokenizeBody)
def tokenize(service: Service, body: TokenizeBody) -> Answer:
    """The tokens of a text, or of a conversation."""
    serving = service.serving()
    tokens = _tokens(service, serving, body)
    shown: list[Any] = tokens
    if body.with_pieces:
        shown = [{"id": token, "piece": _piece(serving, token)} for token in tokens]
    limit = service.settings.max_prompt_tokens
    answer = {"tokens": shown, "count": len(tokens), "max_model_len": limit}
    if body.return_token_strs:
        names = TokenNames(serving.model.tokenizer)
        answer["token_strs"] = [names.name(token) for token in tokens]
    return answer


def _tokens(service: Service, serving: Serving, body: TokenizeBody) -> list[int]:
    if body.content is not None:
        begins = serving.raw_begin(bool(body.add_special))
        return begins + _encoded(serving, body.content, "content", body.parse_special)
    if body.prompt is not None:
        begins = serving.raw_begin(body.add_special_tokens)
        return begins + _encoded(serving, body.prompt, "prompt", body.parse_special)
    if not body.messages:
        raise ApiError(400, "there is none of content, prompt and messages", code="invalid_value")
    return conversation_tokens(service, body, add_generation_prompt=body.add_generation_prompt)


def conversation_tokens(
    service: Service, body: ChatBody, *, add_generation_prompt: bool = True
) -> list[int]:
    """What a chat completion of the same body reads."""
    asked = understand(service, body)
    read = [int(token) for token in asked.requests[0].tokens]
    if add_generation_prompt or asked.conversation.begun is not None:
        return read
    n_begin = len(read) - len(asked.serving.model.tokenizer.encode(asked.conversation.text()))
    text = asked.conversation.text(add_generation_prompt=False)
    return read[:n_begin] + asked.serving.model.tokenizer.encode(text)


def _encoded(serving: Serving, content: Content, param: str, parse_special: bool) -> list[int]:
    """The tokens of a text, or of parts of one."""
    tokens: list[int] = []
    for part in [content] if isinstance(content, str) else content:
        if isinstance(part, str):
            tokens += _of_text(serving, part, parse_special)
        else:
            with refusing(param):
                serving.model.tokenizer.token_bytes(part)
            tokens.append(part)
    return tokens


def _of_text(serving: Serving, text: str, parse_special: bool) -> list[int]:
    """Its tokens; the name of the token that parts texts is that token, if it is to be parsed.

    Completions never read it so: what a user writes cannot part texts.
    """
    tokenizer = serving.model.tokenizer
    if not (parse_special and serving.end_of_text):
        return tokenizer.encode(text)
    first, *others = text.split(END_OF_TEXT)
    tokens = tokenizer.encode(first)
    for part in others:
        tokens += serving.end_of_text + tokenizer.encode(part)
    return tokens


def _piece(serving: Serving, token: int) -> str | list[int]:
    """A token's text, or its bytes where they are a part of a character."""
    data = _bytes(serving, token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def _bytes(serving: Serving, token: int) -> bytes:
    if [token] == serving.end_of_text:
        return END_OF_TEXT.encode()
    return serving.model.tokenizer.token_bytes(token)


class DetokenizeBody(Body):
    """Tokens."""

    tokens: list[TokenId] = Field(default_factory=list)


@routes.post("/detokenize", body=DetokenizeBody)
def detokenize(service: Service, body: DetokenizeBody) -> Answer:
    """The text of tokens, as llama.cpp calls it and as vLLM does."""
    text = _text(service.serving(), body.tokens)
    return {"content": text, "prompt": text}


def _text(serving: Serving, tokens: Sequence[int]) -> str:
    with refusing("tokens"):
        data = b"".join(_bytes(serving, token) for token in tokens)
    return data.decode("utf-8", "replace")


@routes.get("/tokenizer_info")
def tokenizer_info(service: Service) -> Answer:
    """What evaluations ask of a tokenizer before they begin."""
    serving = service.serving()
    end = END_OF_TEXT if serving.end_of_text else None
    return {
        "tokenizer_class": serving.model.tokenizer.name,
        "vocab_size": serving.model.n_vocab,
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "unk_token": None,
        "model_max_length": service.settings.max_prompt_tokens,
        "chat_template": serving.template.jinja,
    }


class CountBody(ChatBody):
    """One of a text, texts, and a conversation."""

    text: str | None = None


@routes.post("/v1/tokens/count", body=CountBody)
def count(service: Service, body: CountBody) -> Answer:
    """How many tokens a text has, several texts together, or a conversation."""
    encode = service.serving().model.tokenizer.encode
    if body.text is not None:
        return {"tokens": len(encode(body.text))}
    if "contents" in body.model_fields_set:
        return {"tokens": sum(len(encode(text)) for text in body.contents)}
    if not body.messages:
        raise ApiError(400, "there is none of text, contents and messages", code="invalid_value")
    return {"tokens": len(conversation_tokens(service, body))}


class InputBody(Body):
    """A text, in llama-cpp-python's words."""

    input: str


@routes.post("/extras/tokenize", body=InputBody)
def extras_tokenize(service: Service, body: InputBody) -> Answer:
    """The tokens of a text, for clients of llama-cpp-python."""
    return {"tokens": service.serving().model.tokenizer.encode(body.input)}


@routes.post("/extras/tokenize/count", body=InputBody)
def extras_count(service: Service, body: InputBody) -> Answer:
    """How many they are."""
    return {"count": len(service.serving().model.tokenizer.encode(body.input))}


@routes.post("/extras/detokenize", body=DetokenizeBody)
def extras_detokenize(service: Service, body: DetokenizeBody) -> Answer:
    """The text of tokens, for clients of llama-cpp-python."""
    return {"text": _text(service.serving(), body.tokens)}

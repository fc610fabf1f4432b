"""Texts as bodies have them: one or several, each a text or the ids of its tokens.

Ids are those of the model's own vocabulary.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, cast

from pydantic import BeforeValidator

from rwkvcpp.server.errors import ApiError
from rwkvcpp.server.fields import TokenId
from rwkvcpp.server.service import Serving

Text: TypeAlias = "str | list[int]"


def _checked(value: Any) -> Any:
    """Said in a sentence, where a union would say what it is not, four times."""
    rows = _rows(value)
    if not all(isinstance(row, str) or _is_ids(row) for row in rows):
        raise ValueError("expected a text, the ids of its tokens, or a list of such")
    if not (all(isinstance(row, str) for row in rows) or all(map(_is_ids, rows))):
        raise ValueError("expected texts or rows of ids, not both")
    return value


Texts = Annotated[str | list[str] | list[TokenId] | list[list[TokenId]], BeforeValidator(_checked)]


def as_list(value: Any) -> list[Text]:
    """One or more texts; an empty list is one without tokens."""
    return cast("list[Text]", _rows(value))


def check_ids(serving: Serving, ids: list[int], where: str, param: str) -> None:
    """ApiError for a token that the model does not have."""
    n_vocab = serving.model.n_vocab
    for place, token in enumerate(ids):
        if token >= n_vocab:
            message = f"token {place} of {where} is {token}, expected 0 to {n_vocab - 1}"
            raise ApiError(400, message, code="invalid_value", param=param)


def _rows(value: Any) -> list[Any]:
    return value if isinstance(value, list) and not _is_ids(value) else [value]


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)

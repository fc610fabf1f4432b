"""TokenNames: tokens as answers with logprobs spell them, each differently.

A part of a character is `bytes:\\xe4\\xb8`; a token without bytes is the end of text, or a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rwkvcpp.engine import TokenLogprob

if TYPE_CHECKING:
    from rwkvcpp.tokenizer import Tokenizer

END_OF_TEXT = "<|endoftext|>"


class TokenNames:
    """The names of a vocabulary's tokens, and logprobs with them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def name(self, token: int) -> str:
        """Text where it is some."""
        data = self._tokenizer.token_bytes(token)
        if not data:
            return END_OF_TEXT if token == self._tokenizer.end_of_text else f"<|{token}|>"
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def chat(self, found: TokenLogprob) -> dict[str, Any]:
        """As chat completions have it."""
        top = [self._entry(token, logprob) for token, logprob in found.top]
        return self._entry(found.token, found.logprob) | {"top_logprobs": top}

    def top(self, found: TokenLogprob) -> dict[str, float]:
        """As completions have the likeliest ones: by name, with the one that came."""
        return {self.name(token): logprob for token, logprob in found.top} | {
            self.name(found.token): found.logprob
        }

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        data = self._tokenizer.token_bytes(token)
        return {"token": self.name(token), "logprob": logprob, "bytes": list(data)}

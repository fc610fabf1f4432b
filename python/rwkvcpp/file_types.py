"""File types: which tensor of a model gets which weight type under a name such as "q5_1".

The rules are llama-quantize's, in official names: it quantizes the projections of time mixing and
channel mixing, the embedding and the head, and leaves the rest (vectors, norms, low-rank matrices)
as it is. The head gets Q6_K in most types, and rows that do not fill a type's blocks get another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rwkvcpp import _core
from rwkvcpp.errors import UnsupportedError

PROJECTIONS = re.compile(
    r"blocks\.\d+\.(att\.(receptance|key|value|gate|output)|ffn\.(key|value|receptance))\.weight"
)
EMBEDDING = "emb.weight"
HEAD = "head.weight"


@dataclass(frozen=True)
class FileType:
    """The types of the projections, the head and the embedding."""

    name: str
    base: str
    head: str
    embedding: str

    def type_of(self, tensor: str, shape: Sequence[int]) -> str | None:
        """The type of the tensor of that official name; None: the type that it has."""
        if tensor == HEAD:
            wanted = self.head
        elif tensor == EMBEDDING:
            wanted = self.embedding
        elif PROJECTIONS.fullmatch(tensor):
            wanted = self.base
        else:
            return None
        return _fitting(wanted, shape[-1])


# The type for rows that are no multiple of 256; F16 where they are none of 32 either.
FALLBACKS = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    "IQ3_XXS": "IQ4_NL",
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
}
FLOATS = ("F32", "F16", "BF16")


def _fitting(wanted: str, n_inputs: int) -> str:
    if wanted in FLOATS:
        return wanted
    if wanted in FALLBACKS and n_inputs % 256:
        wanted = FALLBACKS[wanted]
    return wanted if n_inputs % 32 == 0 else "F16"


def _float(name: str, type_name: str) -> FileType:
    return FileType(name, type_name, type_name, type_name)


def _blocks(name: str, base: str, head: str = "Q6_K", embedding: str | None = None) -> FileType:
    return FileType(name, base, head, embedding or base)


FILE_TYPES: dict[str, FileType] = {
    file_type.name: file_type
    for file_type in (
        _float("f32", "F32"),
        _float("f16", "F16"),
        _float("bf16", "BF16"),
        _blocks("q4_0", "Q4_0"),
        _blocks("q4_1", "Q4_1"),
        _blocks("q5_0", "Q5_0"),
        _blocks("q5_1", "Q5_1"),
        _blocks("q8_0", "Q8_0", head="Q8_0"),
        _blocks("q2_k", "Q2_K"),
        _blocks("q3_k", "Q3_K"),
        _blocks("q4_k", "Q4_K"),
        _blocks("q5_k", "Q5_K"),
        _blocks("q6_k", "Q6_K"),
        _blocks("iq4_nl", "IQ4_NL"),
        _blocks("iq4_xs", "IQ4_XS"),
        _blocks("iq3_xxs", "IQ3_XXS", head="Q5_K", embedding="IQ3_S"),
        _blocks("iq3_s", "IQ3_S"),
    )
}
# RWKV's tensors have none of the names that these differ in.
ALIASES = {
    "q3_k_s": "q3_k",
    "q3_k_m": "q3_k",
    "q3_k_l": "q3_k",
    "q4_k_s": "q4_k",
    "q4_k_m": "q4_k",
    "q5_k_s": "q5_k",
    "q5_k_m": "q5_k",
    "iq3_xs": "iq3_s",
    "iq3_m": "iq3_s",
}


def file_type(name: str) -> FileType:
    """The file type of that name, in whatever case; ValueError when there is none."""
    own = name.lower()
    found = FILE_TYPES.get(ALIASES.get(own, own))
    if found is None:
        raise ValueError(f"type is {name!r}, expected one of {', '.join(file_type_names())}")
    missing = {found.base, found.head, found.embedding} - _known_types()
    if missing:
        raise UnsupportedError(f"type {name} needs {', '.join(sorted(missing))}, not in this build")
    return found


def file_type_names() -> list[str]:
    """Every name that `file_type` takes, in lower case."""
    return sorted([*FILE_TYPES, *ALIASES])


def _known_types() -> set[str]:
    return {row["name"] for row in _core.weight_formats()}

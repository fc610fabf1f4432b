"""Strategy strings of RWKV programs: which layers compute where, and in which types.

    cuda fp16i8 *10 -> cpu fp32     ten layers, then the others; ln_out and the head are one more
    cuda fp16i8 *10+                ten stay on the device, the others are streamed to it
    fp16i8 layer24 chunk32          WebGPU: 24 layers are quantized, prompts cut to 32 tokens
    vulkan 8192                     llama.cpp, with the length of its context
    albatross workers=1 batch=32

What a build does not have is computed on the CPU, with a warning. Floats stay as the file has them;
i8 makes Q8_0 of a layer's matrices, i4 Q4_K and i3 Q3_K, as far as they are floats.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeAlias

from rwkvcpp.file_types import FLOATS, HEAD, FileType, file_type

# (name, type, shape) of each, by official names
Tensors: TypeAlias = "Sequence[tuple[str, str, tuple[int, ...]]]"

DEVICES = ("cpu", "cuda", "mps", "dml", "vulkan", "webgpu")
HERE = ("cpu",)  # those that this build computes on
FLOAT_TYPES = {"fp16": "F16", "fp32": "F32", "bf16": "BF16"}
QUANTIZED = {
    "i8": "q8_0",
    "int8": "q8_0",
    "i4": "q4_k",
    "int4": "q4_k",
    "nf4": "q4_k",
    "sf4": "q4_k",
    "i3": "q3_k",
}

# What a setting would be for, had it something to do here.
SETTINGS = {
    "context": "a context of {} tokens, of which RWKV needs none",
    "chunk": "chunks of {} tokens, and the model cuts prompts by itself",
    "workers": "{} workers, and one engine answers all requests",
    "batch": "a batch of {}, and the engine has a setting of its own for that",
}


@dataclass(frozen=True)
class Part:
    """Consecutive layers."""

    device: str  # of DEVICES
    index: int | None = None  # of several such devices
    float_type: str | None = None  # "F16", "F32" or "BF16": what they compute in
    quantized: str | None = None  # the file type that their matrices get
    n_layers: int | None = None  # None: shares what the others leave
    streams: bool = False  # layers beyond these come from memory for every token

    @property
    def device_name(self) -> str:
        """ "cpu", "cuda:1"."""
        return self.device if self.index is None else f"{self.device}:{self.index}"


@dataclass(frozen=True)
class Strategy:
    """What a strategy string says."""

    text: str
    parts: tuple[Part, ...]
    with_head: bool = True  # whether ln_out and the head are one more layer
    settings: Mapping[str, int] = field(default_factory=dict)  # by the names in SETTINGS

    @property
    def quantizes(self) -> bool:
        """Whether it has float weights quantized."""
        return any(part.quantized for part in self.parts)

    def layers(self, n_layer: int) -> list[range]:
        """The layers of each part; number `n_layer` is ln_out and the head.

        A part gets as many as it names. The one that streams gets what is left, else those that
        name no number share it. What then is left belongs to none.
        """
        n_left = n_layer + self.with_head
        counts: list[int | None] = []
        for part in self.parts:
            counts.append(None if part.n_layers is None else min(part.n_layers, n_left))
            n_left -= counts[-1] or 0
        streaming = [i for i, part in enumerate(self.parts) if part.streams]
        for i in streaming[-1:]:
            counts[i], n_left = (counts[i] or 0) + n_left, 0
        return list(_consecutive(_shared(counts, n_left)))

    def types(self, tensors: Tensors) -> dict[str, str]:
        """The tensors that are quantized, and to what."""
        return {name: wanted for name, stored, wanted in self._wanted(tensors) if stored in FLOATS}

    def warnings(self, path: Path, tensors: Tensors) -> tuple[str, ...]:
        """What is otherwise than the strategy says, in a sentence each."""
        return tuple([*self._absent(), *self._useless(), *self._quantized(path, tensors)])

    def _wanted(self, tensors: Tensors) -> Iterator[tuple[str, str, str]]:
        """Names, stored types and wanted ones, where they differ."""
        layer_of = {name: _layer(name) for name, _, _ in tensors}
        n_layer = 1 + max((layer for layer in layer_of.values() if layer is not None), default=-1)
        rules = self._rules(n_layer)
        for name, stored, shape in tensors:
            rule = rules.get(n_layer if name == HEAD else layer_of[name])
            wanted = None if rule is None else rule.type_of(name, shape)
            if wanted is not None and wanted != stored:
                yield name, stored, wanted

    def _rules(self, n_layer: int) -> dict[int | None, FileType]:
        rules: dict[int | None, FileType] = {}
        for part, layers in zip(self.parts, self.layers(n_layer), strict=True):
            if part.quantized is not None:
                rules |= dict.fromkeys(layers, file_type(part.quantized))
        return rules

    def _absent(self) -> Iterator[str]:
        devices = [part.device_name for part in self.parts if part.device not in HERE]
        for device in dict.fromkeys(devices):
            yield (
                f"the strategy names {device}, which this build does not have: computing on the CPU"
            )
        if any(part.streams for part in self.parts):
            yield "the strategy streams layers to a device: here all of them stay in memory"

    def _useless(self) -> Iterator[str]:
        for name, value in self.settings.items():
            yield f"the strategy names {SETTINGS[name].format(value)}: it has no effect"

    def _quantized(self, path: Path, tensors: Tensors) -> Iterator[str]:
        kept = [row for row in self._wanted(tensors) if row[1] not in FLOATS]
        if kept:
            found, wanted = (", ".join(sorted({row[i] for row in kept})) for i in (1, 2))
            yield (
                f"{path.name}: {len(kept)} tensors are {found} already and stay so, "
                f"the strategy asks for {wanted}: that needs the F16, BF16 or F32 file"
            )


_LAYER = re.compile(r"blocks\.(\d+)\.")


def _layer(tensor: str) -> int | None:
    found = _LAYER.match(tensor)
    return None if found is None else int(found[1])


def _shared(counts: Iterable[int | None], n_left: int) -> Iterator[int]:
    counts = list(counts)
    n_open = counts.count(None)
    for count in counts:
        if count is None:
            count = n_left // n_open
            n_left, n_open = n_left - count, n_open - 1
        yield count


def _consecutive(counts: Iterable[int]) -> Iterator[range]:
    begin = 0
    for count in counts:
        yield range(begin, begin + count)
        begin += count


# ---- reading ---------------------------------------------------------------------------------

_TYPE = re.compile(f"({'|'.join(FLOAT_TYPES)})?({'|'.join(QUANTIZED)})?")
_DEVICE = re.compile(f"({'|'.join(DEVICES)})(?:(?<=cuda):([0-9]{{1,4}}))?")
_COUNT = re.compile(r"\*([0-9]{1,9})(\+)?")
_NUMBER = re.compile("[1-9][0-9]{0,8}")
_OPTION = re.compile("(layer|chunk)([0-9]{1,9})")
_ARROW = re.compile("->")
_ALBATROSS = re.compile("albatross")
_ASSIGNMENT = re.compile("(workers|batch)=([1-9][0-9]{0,8})")

EXPECTED_TYPE = "fp16, fp32 or bf16, with i8, i4 or i3 behind it where it is quantized"


def parse_strategy(text: str) -> Strategy:
    """What `text` says; ValueError shows the word that is wrong and the form expected."""
    if not isinstance(text, str):
        raise TypeError(f"strategy is {type(text).__name__}, expected a string")
    words = text.lower().replace("->", " -> ").split()
    form = next(form for form in FORMS if form.is_meant(words))
    return form.read(_Words(text, words, form.grammar))


class _Words:
    """The words of a strategy, taken one by one."""

    def __init__(self, text: str, words: Sequence[str], grammar: str) -> None:
        self.text = text
        self._words = words
        self._grammar = grammar
        self._n_taken = 0

    @property
    def next(self) -> str:
        """The one that would be taken; "" at the end."""
        return self._words[self._n_taken] if self else ""

    def __bool__(self) -> bool:
        return self._n_taken < len(self._words)

    def take(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        """The next word, which must match."""
        found = pattern.fullmatch(self.next)
        if found is None or not self.next:
            self.fail(expected)
        self._n_taken += 1
        return found

    def take_if(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The next word, if it matches."""
        found = pattern.fullmatch(self.next)
        self._n_taken += found is not None
        return found

    def take_settings(self, pattern: re.Pattern[str], expected: str) -> dict[str, int]:
        """All words that are left: names and numbers."""
        settings: dict[str, int] = {}
        while self:
            name, number = self.take(pattern, expected).groups()
            if name in settings:
                self._n_taken -= 1
                self.fail(expected)
            settings[name] = int(number)
        return settings

    def fail(self, expected: str) -> NoReturn:
        """ValueError for the next word."""
        if self:
            found = _short(self.next)
        else:
            found = f"nothing behind {_short(self._words[-1])}" if self._words else "nothing"
        raise ValueError(
            f"strategy {_short(self.text)}: found {found}, expected {expected}; "
            f"the form is {self._grammar}"
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


@dataclass(frozen=True)
class Form:
    """One way to write a strategy."""

    grammar: str
    is_meant: Callable[[Sequence[str]], bool]
    read: Callable[[_Words], Strategy]


def _read_albatross(words: _Words) -> Strategy:
    words.take(_ALBATROSS, "albatross")
    settings = words.take_settings(_ASSIGNMENT, "workers=N or batch=N, each once")
    return Strategy(words.text, (Part("cuda"),), settings=settings)


def _read_webgpu(words: _Words) -> Strategy:
    """Only layers are quantized, not the head."""
    float_type, quantized = _types_of(words.take(_TYPE, EXPECTED_TYPE))
    settings = words.take_settings(_OPTION, "layerN or chunkN, each once")
    n_layers = settings.pop("layer", None)
    parts = [Part("webgpu", None, float_type, quantized, n_layers)]
    if n_layers is not None:
        parts.append(Part("webgpu", None, float_type))
    return Strategy(words.text, tuple(parts), with_head=False, settings=settings)


def _read_llama_cpp(words: _Words) -> Strategy:
    device = words.take(_DEVICE, "cpu or vulkan")[1]
    settings: dict[str, int] = {}
    if words:
        settings["context"] = int(words.take(_NUMBER, "the length of a context")[0])
    if words:
        words.fail("nothing more")
    return Strategy(words.text, (Part(device),), settings=settings)


def _read_parts(words: _Words) -> Strategy:
    parts = [_read_part(words)]
    while words:
        words.take(_ARROW, "*N, *N+, or -> and another part")
        parts.append(_read_part(words))
    return Strategy(words.text, tuple(parts))


def _read_part(words: _Words) -> Part:
    device = words.take(_DEVICE, f"a device: {', '.join(DEVICES[:4])} or cuda:N")
    float_type, quantized = _types_of(words.take(_TYPE, EXPECTED_TYPE))
    count = words.take_if(_COUNT)
    return Part(
        device=device[1],
        index=None if device[2] is None else int(device[2]),
        float_type=float_type,
        quantized=quantized,
        n_layers=None if count is None else int(count[1]),
        streams=count is not None and count[2] is not None,
    )


def _types_of(found: re.Match[str]) -> tuple[str | None, str | None]:
    return FLOAT_TYPES.get(found[1] or ""), QUANTIZED.get(found[2] or "")


def _names_a_context(words: Sequence[str]) -> bool:
    return words[:1] in (["cpu"], ["vulkan"]) and (len(words) == 1 or words[1].isdigit())


# The first one that is meant reads; the last one takes everything.
FORMS = (
    Form("albatross [workers=N] [batch=N]", lambda words: words[:1] == ["albatross"],
         _read_albatross),
    Form("TYPE [layerN] [chunkN], as in 'fp16i8 layer24 chunk32'",
         lambda words: bool(words) and _TYPE.fullmatch(words[0]) is not None, _read_webgpu),
    Form("cpu [CONTEXT] or vulkan [CONTEXT], as in 'vulkan 8192'", _names_a_context,
         _read_llama_cpp),
    Form("DEVICE TYPE [*N[+]] [-> DEVICE TYPE ...], as in 'cuda fp16i8 *10 -> cpu fp32'",
         lambda words: True, _read_parts),
)  # fmt: skip

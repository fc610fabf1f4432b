"""Model: the weights of a file, ready to turn tokens into logits."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rwkvcpp import _core
from rwkvcpp.bundled import bundled_model
from rwkvcpp.checkpoints.opening import Opened, TypeArgument, open_model
from rwkvcpp.errors import ApproximateStateWarning, StrategyWarning
from rwkvcpp.fingerprint import ModelIdentity, identity_of
from rwkvcpp.state import State
from rwkvcpp.tokenizer import Tokenizer, load_tokenizer, vocabulary_beside
from rwkvcpp.tuned_state import apply_tuned
from rwkvcpp.zeros import LayerZeros

if TYPE_CHECKING:
    from rwkvcpp.embedding import Text
    from rwkvcpp.session import Session
    from rwkvcpp.templates import Template

PathArgument: TypeAlias = "str | os.PathLike[str]"
Tokens: TypeAlias = "Sequence[int] | NDArray[np.integer[Any]]"

GROUP_NORM_EPS = 64e-5  # of every official RWKV-5, 6 and 7


class MatrixInputs(NamedTuple):
    """What a matrix was multiplied with."""

    squares: NDArray[np.float64]  # [inputs]: their sums
    n_rows: int  # tokens
    sketch: NDArray[np.float32]  # [inputs, columns]: sums of x x^T, times random signs


class Model:
    """An RWKV model, loaded from any of its files; without a path, the bundled one.

    >>> model = Model("rwkv7-0.4b-q8_0.gguf")
    >>> state = model.initial_state()
    >>> logits = model.forward(model.tokenizer.encode("The Eiffel tower is in"), state)

    Several threads may use one Model at once, each with its own states: calls queue for the
    processor cores.
    """

    def __init__(
        self,
        path: PathArgument | None = None,
        *,
        type: TypeArgument = None,
        strategy: str | None = None,
        lora: Sequence[tuple[PathArgument, float | None]] = (),
        threads: int | None = None,
        tokenizer: PathArgument | Tokenizer | None = None,
        activations: str = "int8",
        mmap: bool = False,
        group_norm_eps: float = GROUP_NORM_EPS,
        collect: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Load `path`: GGUF, rwkv.cpp, PyTorch, safetensors, or a Hugging Face folder.

        type: quantize the float weights of the file while they load ("q8_0", "q5_1" ...), or some
            of them: {"blocks.0.ffn.key.weight": "Q4_K"}.
        strategy: the same in the words of other RWKV programs, "cuda fp16i8 *10 -> cpu fp32"; a
            StrategyWarning tells what is otherwise here.
        lora: (file, alpha) of adapters to merge, in this order; None is web-rwkv's alpha, 1.
        threads: None takes the physical cores that this process may use.
        tokenizer: a vocabulary file, or a Tokenizer; None finds the one that belongs to the model.
        activations: what quantized weights meet; "float32" is for measuring quality.
        mmap: leave the weights in the file's pages: starts at once, shared between processes.
        group_norm_eps: 64e-5 is official; some small models were trained with 1e-5.
        collect: add up what importances() tells.
        progress: called with (bytes done, bytes in all) while weights load.
        """
        if mmap and type is not None:
            raise ValueError("mmap leaves weights as the file has them and type changes them")
        opened, told = _open(path, type, strategy, lora)
        if mmap and opened.types:
            raise ValueError("mmap leaves weights as the file has them and strategy changes them")
        self._native = _core.Model(
            opened.file,
            types=dict(opened.types),
            threads=_checked_threads(threads),
            activations=activations,
            mmap=mmap,
            group_norm_eps=group_norm_eps,
            collect=collect,
            progress=progress,
        )
        self._strategy_warnings = told
        for sentence in told:
            warnings.warn(sentence, StrategyWarning, stacklevel=2)
        self._identity = identity_of(self._native, self.path.name)
        self._told: set[str] = set()  # why states continue approximately, each once
        self._tuned_states: dict[str, State] = {}
        self._tuned_state: State | None = None
        if opened.tuned_states:
            self._tuned_state = self._empty_state()
            apply_tuned(self._tuned_state, opened.tuned_states, self.version, self.path)
        self._tokenizer_source = tokenizer
        self._tokenizer_hint = opened.tokenizer_hint
        if tokenizer is not None:
            _ = self.tokenizer  # a wrong vocabulary is better known now than at the first word

    # What it is

    @property
    def path(self) -> Path:
        """The file that the weights came from."""
        return Path(self._native.path)

    @property
    def version(self) -> str:
        """The RWKV version: "4", "5.0", "5.1", "5.2", "6" or "7"."""
        return self._native.version

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary: the length of the logits."""
        return self._native.n_vocab

    @property
    def n_embd(self) -> int:
        """The width: numbers per token between the layers."""
        return self._native.n_embd

    @property
    def n_layer(self) -> int:
        """Layers, each one time mixing and one channel mixing."""
        return self._native.n_layer

    @property
    def n_ffn(self) -> int:
        """Hidden size of channel mixing."""
        return self._native.n_ffn

    @property
    def head_size(self) -> int:
        """Width of a head of time mixing; 0 for version 4, which has none."""
        return self._native.head_size

    @property
    def n_threads(self) -> int:
        """Threads that a forward pass runs on."""
        return self._native.n_threads

    @property
    def activations(self) -> str:
        """ "int8" or "float32": what quantized weights are multiplied with."""
        return self._native.activations

    @property
    def mmap(self) -> bool:
        """Whether the weights stay in the file's pages."""
        return self._native.mmap

    @property
    def weight_type(self) -> str:
        """The type that most weights have, such as "Q8_0"."""
        return self._native.weight_type

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights in memory."""
        return self._native.weight_bytes

    @property
    def token_bytes_read(self) -> int:
        """Bytes of weights that one decoded token reads: every matrix but the embedding."""
        return self._native.token_bytes_read

    @property
    def identity(self) -> ModelIdentity:
        """Two hashes of the weights: what their states fit, and what computes the same logits."""
        return self._identity

    @property
    def strategy_warnings(self) -> tuple[str, ...]:
        """What is otherwise than `strategy` said, in a sentence each."""
        return self._strategy_warnings

    def metadata(self, key: str) -> Any:
        """The value that a GGUF file gives `key`, or None."""
        return self._native.metadata(key)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Turns text into this model's tokens and back; loaded at first use."""
        return load_tokenizer(
            self._tokenizer_source, self.n_vocab, self.metadata, beside=self._tokenizer_hint
        )

    @cached_property
    def chat_template(self) -> Template:
        """The chat template that belongs to the model, by its file and its name."""
        from rwkvcpp.templates import choose_template

        return choose_template(metadata=self.metadata, path=self.path)

    # What it does

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        chat_template: str | None = None,
        **options: Any,
    ) -> list[int] | str:
        """The tokens of `messages`, or their text, as Hugging Face's tokenizers give them.

        chat_template: another template than the model's, by its name, or a file of Jinja text.
        options: tokenize, add_generation_prompt and the others of
            `rwkvcpp.templates.apply_chat_template`.
        """
        from rwkvcpp.templates import apply_chat_template, choose_template

        template = self.chat_template
        if chat_template is not None:
            template = choose_template(chat_template, path=self.path)
        return apply_chat_template(messages, template=template, tokenizer=self.tokenizer, **options)

    def initial_state(self) -> State:
        """A new state, which has seen nothing; a tuned one, if the file has one merged in."""
        if self._tuned_state is not None:
            return self._tuned_state.clone()
        return self._empty_state()

    def _empty_state(self) -> State:
        return State(self._native.initial_state(), self._identity)

    def load_state(self, path: PathArgument) -> State:
        """The state that `State.save` wrote, or that a saved session ends with.

        StateError for any other file, and for a state of other weights. An
        ApproximateStateWarning tells, once, when the weights are the same in other types.
        """
        from rwkvcpp.state_container import read_file
        from rwkvcpp.state_file import read_state

        return read_state(read_file(path), self)

    def state_from_bytes(self, data: bytes) -> State:
        """The state that `State.to_bytes` gave; bytes from anywhere are safe to try."""
        from rwkvcpp.state_container import read_bytes
        from rwkvcpp.state_file import read_state

        return read_state(read_bytes(data, "the state"), self)

    def load_session(self, path: PathArgument) -> Session:
        """The session that `Session.save` wrote: it continues with the tokens it would have had."""
        from rwkvcpp.session import Session

        return Session.load(self, path)

    def session_from_bytes(self, data: bytes) -> Session:
        """The session that `Session.to_bytes` gave; bytes from anywhere are safe to try."""
        from rwkvcpp.session import Session

        return Session.from_bytes(self, data)

    def state_from_rwkv_cpp(self, values: ArrayLike) -> State:
        """The state with rwkv.cpp's raw floats, as `State.to_rwkv_cpp` gives them.

        They do not say which weights they belong to, or how many tokens led there: only their
        number is checked.
        """
        from rwkvcpp.rwkv_cpp_state import from_rwkv_cpp

        return from_rwkv_cpp(values, self)

    def load_tuned_state(self, path: PathArgument, *, name: str | None = None) -> State:
        """A tuned state, to begin sessions with: .pth, or web-rwkv's .safetensors, .st and .state.

        It is kept, and `model.session(name)` begins one with it; without a name, the file's
        without its suffix. Several may be kept, and switching between them costs nothing.
        StateError when it is of another size than the model.
        """
        from rwkvcpp.tuned_state import load_tuned

        state = load_tuned(Path(path), self)
        self._tuned_states[Path(path).stem if name is None else name] = state
        return state.clone()

    @property
    def tuned_states(self) -> Mapping[str, State]:
        """The tuned states that were loaded, by name; the model's own: clone one to change it."""
        return MappingProxyType(self._tuned_states)

    def _tell_approximate(self, where: str, why: str, reason: str) -> None:
        """Once for each `why`."""
        if why not in self._told:
            self._told.add(why)
            warnings.warn(
                f"{where}: continues approximately: {reason}",
                ApproximateStateWarning,
                stacklevel=4,
            )

    def session(self, state: State | str | None = None) -> Session:
        """A new Session: a state with the tokens it consumed and the logits it predicts next.

        It begins with a copy of `state`, with the tuned state of that name, or with nothing.
        """
        from rwkvcpp.session import Session

        return Session(self, self._named_state(state) if isinstance(state, str) else state)

    def session_from(self, path: PathArgument) -> Session:
        """A session that goes on from a file, whatever it is: its first bytes tell.

        A saved session, a saved state, or a tuned one, which is not kept.
        """
        from rwkvcpp.session_file import open_session

        return open_session(Path(path), self)

    def _named_state(self, name: str) -> State:
        if name in self._tuned_states:
            return self._tuned_states[name]
        known = ", ".join(map(repr, self._tuned_states)) or "none: load_tuned_state loads one"
        raise ValueError(f"the tuned state {name!r} is not loaded; those that are: {known}")

    def forward(
        self, tokens: Tokens, state: State, *, all_logits: bool = False
    ) -> NDArray[np.float32]:
        """The logits after the last of `tokens`, float32 [n_vocab]; `state` has consumed them all.

        `tokens` are integers in a list, a tuple or an array of one dimension; encode text first.
        With all_logits, the logits after each token, [n_tokens, n_vocab]. An error, or Ctrl-C
        between the chunks of a long prompt, leaves the state as it was. The result is the same to
        the last bit however a text is cut up.
        """
        results: list[NDArray[np.float32]] = []
        self.forward_into(results, tokens, state, all_logits=all_logits)
        return results[0] if all_logits else results[0][0]

    def forward_into(
        self,
        results: list[NDArray[np.float32]],
        tokens: Tokens,
        state: State,
        *,
        all_logits: bool = False,
    ) -> None:
        """Append the logits, [1, n_vocab] or of all tokens, to `results` as soon as there are any.

        Ctrl-C may strike after the state has moved and before the caller sees what `forward`
        returns; here the logits are safe by then, and a session can go on from them.
        """
        segments = [(tokens, self._native_state(state))]
        # extend() and map() are C, like what they call: no signal is looked at in between.
        results.extend(map(self._native.forward, (segments,), (all_logits,)))

    def forward_batch(self, segments: Iterable[tuple[Tokens, State]]) -> NDArray[np.float32]:
        """The logits after each segment's last token, float32 [n_segments, n_vocab].

        A segment is (tokens, state): any number of tokens, each with a state of its own. One call
        reads the weights once for all of them, and gives what one call for each would have.
        """
        native = [(tokens, self._native_state(state)) for tokens, state in segments]
        return self._native.forward(native, False)

    def embed(self, text: Text | Sequence[Text]) -> NDArray[np.float32]:
        """What a text is about as a vector of length 1, float32 [n_embd]; of a list, [n, n_embd].

        A text is a string, bytes, or its token ids: read from an initial state, with nothing put
        before it. The dot product of two vectors says how alike the texts are. A list reads the
        weights once for several texts, and gives each the vector, to the last bit, that it has
        alone. Others who compute on the model meanwhile take turns with it, 0.2 s or so each.
        """
        from rwkvcpp.embedding import embed, is_one, token_row

        if is_one(text):
            vector: NDArray[np.float32]
            [vector] = embed(self, [token_row(self, cast("Text", text), "the text")])
            return vector
        return embed(self, [token_row(self, row, f"text {i}") for i, row in enumerate(text)])

    def _native_state(self, state: State) -> _core.State:
        if not isinstance(state, State):
            raise TypeError(f"expected a rwkvcpp.State, got {type(state).__name__}")
        if state.identity is not self._identity and state.identity.is_near(self._identity):
            state._is_exact = False
        return state._native

    def zeros(self) -> list[LayerZeros]:
        """What each layer's `ffn.value` has met since the model was loaded, first layer first.

        Only tokens that were decoded one by one count. RWKVCPP_SPARSE=off, auto (as long as it is
        faster: the default) or on says whether zeros are skipped; the logits are the same.
        """
        return [LayerZeros(*layer) for layer in self._native.zeros()]

    def importances(self) -> dict[str, MatrixInputs]:
        """What each matrix was multiplied with since the model was loaded, by its tensor's name.

        ValueError unless the model was loaded with collect=True.
        """
        found = self._native.importances()
        return {name: MatrixInputs(*inputs) for name, inputs in found.items()}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Model cannot be pickled: send its path and load it there")

    def __repr__(self) -> str:
        head = f", head size {self.head_size}" if self.head_size else ""
        return (
            f"<rwkvcpp.Model {self.path.name}: RWKV-{self.version}, n_layer {self.n_layer}, "
            f"n_embd {self.n_embd}, n_ffn {self.n_ffn}{head}, n_vocab {self.n_vocab}, "
            f"{self.weight_type} weights ({self.weight_bytes / 2**20:.1f} MiB), "
            f"{self.activations} activations, {self.n_threads} threads>"
        )


def model_info(
    path: PathArgument | None = None,
    *,
    type: TypeArgument = None,
    strategy: str | None = None,
    lora: Sequence[tuple[PathArgument, float | None]] = (),
) -> dict[str, Any]:
    """What a model file says about itself, without loading its weights.

    With `type`, `strategy` and `lora`, as Model() takes them: what it would be once it is loaded.

    Keys: path, container, architecture, version, n_vocab, n_embd, n_layer, n_ffn, head_size,
    n_head, file_bytes, weight_bytes, state_bytes, tensors (name, type, shape and bytes of each),
    metadata (long arrays as their length) and tokenizer_file (in a folder, or None).
    """
    opened, told = _open(path, type, strategy, lora)
    for sentence in told:
        warnings.warn(sentence, StrategyWarning, stacklevel=2)
    facts = _core.file_info(opened.file, dict(opened.types))
    beside = vocabulary_beside(opened.tokenizer_hint, facts["n_vocab"])
    return facts | {"tokenizer_file": None if beside is None else str(beside)}


def _open(
    path: PathArgument | None,
    type: TypeArgument,
    strategy: str | None,
    lora: Sequence[tuple[PathArgument, float | None]],
) -> tuple[Opened, tuple[str, ...]]:
    """The model with the types that it gets, and what is otherwise than the strategy says."""
    path = bundled_model() if path is None else path
    if strategy is None:
        return open_model(path, type=type, lora=lora), ()
    if type is not None:
        raise ValueError("type and strategy both say what weights become, expected one of them")
    from rwkvcpp.strategy import parse_strategy

    parsed = parse_strategy(strategy)
    opened = open_model(path, type=parsed, lora=lora)
    return opened, parsed.warnings(Path(path), opened.file.tensors)


def _checked_threads(threads: int | None) -> int:
    """The native module's way to say it: 0 for "as many as there are cores"."""
    if threads is None:
        return 0
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads must be an integer or None, got {threads!r}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads

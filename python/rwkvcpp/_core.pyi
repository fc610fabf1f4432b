"""The native core. Everything public is re-exported, with manners, by `rwkvcpp`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

def instruction_sets() -> list[str]:
    """Names of the kernel tables that this CPU can run, slowest first ("scalar", "avx2", …)."""

def active_instruction_set() -> str:
    """The table in use; RWKVCPP_ISA forces one."""

def cpu_features() -> list[str]: ...
def read_roof(n_bytes: int, threads: int) -> float:
    """GB/s of reading a buffer of n_bytes, all threads (0: default) together, measured now."""

def int8_roof(threads: int) -> float:
    """Gop/s of int8 multiply-adds from registers, all threads (0: default), measured now."""

def default_threads() -> int:
    """Physical cores that this process may use (affinity mask and cgroup quota respected)."""

class ModelFile:
    """A model's tensors, none of them read yet."""

    def __init__(self, path: str) -> None:
        """A GGUF or rwkv.cpp file."""
    @staticmethod
    def from_tensors(
        path: str,
        container: str,
        tensors: Sequence[
            tuple[str, str, str, Sequence[int], str, int, Callable[[memoryview], None] | None]
        ],
        *,
        layer_norm_eps: float = 1e-5,
    ) -> ModelFile:
        """Tensors that were found elsewhere, in the core's names and orientations.

        Each is (name, name in messages, type, shape, file, offset, fill): bytes at an offset of a
        file, or, with `fill`, bytes that a function writes into a buffer for all of them.
        """
    @property
    def path(self) -> str: ...
    @property
    def container(self) -> str:
        """ "GGUF v3", "rwkv.cpp 101", or what from_tensors was told."""
    @property
    def architecture(self) -> str:
        """GGUF's general.architecture; "" elsewhere."""
    @property
    def version(self) -> str:
        """The RWKV version; UnsupportedError when it is none of ours."""
    @property
    def head_size(self) -> int | None:
        """Where metadata or a shape tells it."""
    @property
    def decay_applied(self) -> bool:
        """rwkv.cpp's version 4 has decays after -exp(), version 5 after exp(-exp())."""
    @property
    def tensors(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """(name, type, shape) in the core's convention: matrices are [outputs, inputs]."""
    @property
    def metadata(self) -> dict[str, Any]:
        """All GGUF keys."""
    def read(self, name: str, begin: int, n: int) -> bytes:
        """The stored bytes of n entries of a tensor's first dimension."""

def file_info(file: ModelFile, types: dict[str, str] = ...) -> dict[str, Any]:
    """What `rwkvcpp info` prints, without loading weights.

    Keys: path, container, architecture, version ("7"), n_vocab, n_embd, n_layer, n_ffn, head_size,
    n_head, file_bytes, weight_bytes (packed, in memory), state_bytes, tensors (list of dicts: name,
    type, shape, bytes), metadata (dict; long arrays as their length).
    """

def hash_tokens(tokens: Sequence[int], start: int = ...) -> int:
    """The tokens_hash of a state of `start` (that of an initial one) after these tokens."""

class State:
    """Recurrent state of one sequence."""

    @property
    def nbytes(self) -> int: ...
    @property
    def n_tokens(self) -> int:
        """Tokens consumed since the initial state."""
    @property
    def tokens_hash(self) -> int:
        """Of the tokens consumed, and of the values it began with."""
    @property
    def layout(self) -> list[tuple[str, list[int]]]:
        """(name, shape) of the arrays, in the order of values()."""
    def values(self) -> NDArray[np.float32]:
        """All arrays one behind the other; StateError unless every value is finite."""
    def restore(self, values: NDArray[np.float32], n_tokens: int, tokens_hash: int) -> None:
        """The reverse of values(); StateError, and nothing changed, unless they fit."""
    def clone(self) -> State: ...
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies by name: "blocks.0.att.x", "blocks.0.att.wkv", "blocks.0.ffn.x"; v4 has aa, bb
        and pp in the place of wkv."""
    def assign(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        """The reverse of arrays(); StateError on a missing, unknown or wrongly shaped array."""

class Model:
    def __init__(
        self,
        file: ModelFile,
        *,
        types: dict[str, str] = ...,
        threads: int = 0,
        activations: str = "int8",
        mmap: bool = False,
        group_norm_eps: float = 64e-5,
        collect: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def version(self) -> str:
        """ "4", "5.0", "5.1", "5.2", "6" or "7"."""
    @property
    def n_vocab(self) -> int: ...
    @property
    def n_embd(self) -> int: ...
    @property
    def n_layer(self) -> int: ...
    @property
    def n_ffn(self) -> int: ...
    @property
    def head_size(self) -> int:
        """0 for version 4."""
    @property
    def n_threads(self) -> int: ...
    @property
    def activations(self) -> str: ...
    @property
    def mmap(self) -> bool: ...
    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights in memory."""
    @property
    def token_bytes_read(self) -> int:
        """Bytes of weights that one decoded token reads: every matrix but the embedding."""
    @property
    def weight_type(self) -> str:
        """The type that most weights have ("Q5_1")."""
    def metadata(self, key: str) -> Any:
        """A GGUF metadata value (str, int, float, bool or a list), or None."""
    def zeros(self) -> list[tuple[int, int, int, bool]]:
        """What each layer's ffn.value has met, a token at a time: inputs, of them not zero, and the
        bytes that it would not read if all were zero."""
    def importances(self) -> dict[str, tuple[NDArray[np.float64], int, NDArray[np.float32]]]:
        """For each matrix by its tensor's name: the squares of its inputs added up, [n_in], of how
        many rows, and their second moments times sketch_signs, [n_in, columns]. ValueError unless
        the model was loaded with collect=True."""
    @property
    def identity(self) -> bytes:
        """What models of the same weights share, however these are stored."""
    @property
    def exact_identity(self) -> bytes:
        """What models of the same logits share, to the last bit."""
    @property
    def description(self) -> str:
        """ "RWKV 7, 12 layers of 768", for messages."""
    def initial_state(self) -> State: ...
    def forward(
        self,
        segments: Sequence[tuple[Sequence[int] | NDArray[np.integer[Any]], State]],
        all_logits: bool = False,
    ) -> NDArray[np.float32]:
        """Advance every state over its tokens in one call.

        Returns [len(segments), n_vocab], the logits after each segment's last token, or with
        all_logits [total tokens, n_vocab]. Raises IndexError for a token out of range, ValueError
        for an empty segment or no segment, StateError for a state of other weights, given twice or
        in use by another thread; nothing has changed then. KeyboardInterrupt leaves the states as
        they were.
        """
    def hidden(
        self, segments: Sequence[tuple[Sequence[int] | NDArray[np.integer[Any]], State]]
    ) -> NDArray[np.float32]:
        """The same without the head: what it would meet, [total tokens, n_embd], after ln_out."""

class WorldTokenizer:
    """Greedy longest match over bytes."""

    @staticmethod
    def from_tokens(tokens: Sequence[bytes]) -> WorldTokenizer:
        """tokens[id] is the byte string of id; b"" for ids that encode never emits."""
    @staticmethod
    def bytes_only() -> WorldTokenizer:
        """256 tokens; id = byte."""
    @property
    def n_vocab(self) -> int: ...
    def encode(self, data: bytes) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> bytes:
        """IndexError for an id out of range."""
    def token_bytes(self, id: int) -> bytes: ...

class Sampler:
    """Draws tokens; keeps the random generator and the penalty counts of one sequence."""

    def __init__(
        self,
        *,
        temperature: float,
        top_p: float,
        top_k: int,
        presence_penalty: float,
        frequency_penalty: float,
        penalty_decay: float,
        logit_bias: dict[int, float],
        banned_tokens: Sequence[int],
        order: str,
        seed: int,
    ) -> None: ...
    def sample(self, logits: NDArray[np.float32]) -> int:
        """One token from float32 [n_vocab]; the logits are not changed. Updates the counts."""
    def observe(self, token: int) -> None:
        """Count a token that was not sampled (a prompt's), as sample() would have."""
    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The distribution that sample() would draw from, [n_vocab], summing to 1."""
    def memory(self) -> tuple[int, list[int], list[float]]:
        """(state of the random generator, tokens counted, their counts)."""
    def restore(self, memory: tuple[int, Sequence[int], Sequence[float]]) -> None:
        """The reverse of memory(); ValueError for one that no sampler could have."""
    def clone(self) -> Sampler: ...

def read_imatrix(path: str) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """The tensors of a GGUF file of importances, under their own names, and its metadata."""

def sketch_signs(n_inputs: int) -> NDArray[np.float32]:
    """What importances() multiplies second moments with: +1 or -1, [n_inputs, columns]."""

# Weight formats, for tests and tools.
def weight_formats() -> list[dict[str, Any]]:
    """name, gguf_id, ggmf_code, block_inputs, block_bytes, tile_bytes, is_float for each."""

def quantize(
    name: str,
    weights: NDArray[np.float32],
    importances: NDArray[np.float32] | None = None,
    closest: bool = False,
    common: NDArray[np.float32] | None = None,
) -> bytes:
    """Rows of float32 [rows, inputs] to the format's blocks, ggml's reference rounding; with
    importances [inputs], its rounding with an importance matrix; with closest, too, the least
    squares of errors that importances alone weigh; with common [directions, inputs], errors of a
    row cancel in the directions that its inputs have in common.
    """

def dequantize(name: str, blocks: bytes, n_inputs: int) -> NDArray[np.float32]:
    """Blocks to float32 [rows, n_inputs]."""

def gguf_tensor_name(architecture: str, name: str) -> str | None:
    """The name that GGUF files of "rwkv7" have for an official tensor, or None."""

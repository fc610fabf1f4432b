"""RWKV language models on ordinary CPUs.

>>> import rwkvcpp
>>> session = rwkvcpp.Model().session()  # the bundled model; or Model("model.gguf")
>>> for text in session.generate("Once upon a time", max_tokens=100):
...     print(text, end="", flush=True)
"""

from rwkvcpp._core import (
    __version__,
    active_instruction_set,
    cpu_features,
    default_threads,
    instruction_sets,
)
from rwkvcpp.bundled import bundled_model
from rwkvcpp.errors import (
    ApproximateStateWarning,
    ModelFormatError,
    RwkvError,
    StateError,
    StrategyWarning,
    UnsupportedError,
)
from rwkvcpp.fingerprint import ModelIdentity
from rwkvcpp.model import GROUP_NORM_EPS, Model, model_info
from rwkvcpp.prefix_cache import PrefixCache, PrefixCacheStats
from rwkvcpp.prefix_key import PrefixKey
from rwkvcpp.sampling import Sampler, SamplingParams, sample
from rwkvcpp.session import Checkpoint, Session
from rwkvcpp.snapshots import Snapshot
from rwkvcpp.state import State
from rwkvcpp.stream import TextStream
from rwkvcpp.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "GROUP_NORM_EPS",
    "ApproximateStateWarning",
    "Checkpoint",
    "Model",
    "ModelFormatError",
    "ModelIdentity",
    "PrefixCache",
    "PrefixCacheStats",
    "PrefixKey",
    "RwkvError",
    "Sampler",
    "SamplingParams",
    "Session",
    "Snapshot",
    "State",
    "StateError",
    "StrategyWarning",
    "TextStream",
    "Tokenizer",
    "UnsupportedError",
    "__version__",
    "active_instruction_set",
    "bundled_model",
    "cpu_features",
    "default_threads",
    "instruction_sets",
    "load_tokenizer",
    "model_info",
    "sample",
]

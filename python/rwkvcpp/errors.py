"""What can go wrong, as four classes; the native core raises the same four.

A message is one sentence: the object, the value found, the value expected. Wrong arguments are
Python's own ValueError, IndexError and TypeError; files that cannot be opened are OSError.
"""


class RwkvError(Exception):
    """Anything that rwkvcpp itself refuses: the base of the three below."""


class ModelFormatError(RwkvError):
    """A file that is damaged, or is not what its name promises."""


class UnsupportedError(RwkvError):
    """A file or request that is well formed and that this build cannot serve."""


class ApproximateStateWarning(UserWarning):
    """A state goes on, and not exactly as it would have where it comes from."""


class StrategyWarning(UserWarning):
    """A model was loaded, and not exactly as its strategy says."""


class StateError(RwkvError):
    """A state that does not fit the model, or that is in use elsewhere."""

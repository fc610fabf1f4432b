"""Warnings of the library as a command shows them: a line each, without a place in the source."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def warning_lines(category: type[Warning], *, shown: bool = True) -> Iterator[None]:
    """Every warning of this kind goes to standard error at the end, or nowhere."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category)
        yield
    for warning in caught:
        if not issubclass(warning.category, category):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif shown:
            print(f"rwkvcpp: {warning.message}", file=sys.stderr)

"""The C allocator of a process that serves: what is large goes back to the system when it is freed.

glibc maps large blocks, and gives them back, but from a size on that rises to that of the largest
block which was ever freed. A state comes and goes with each prompt, in threads that have heaps of
their own, and these keep their peaks for ever: ten times what is in use.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rwkvcpp.server.service import Serving

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LEAST = 256 * 1024  # bytes
MOST = 32 * 2**20  # that glibc takes
FLOAT_BYTES = 4


def return_large_blocks(serving: Serving) -> None:
    """From now on, in this process, unless its environment says otherwise.

    The logits of a step are no large block: they come with every step, and to map them anew would
    take as long as some of the steps of a small model.
    """
    logits = serving.engine.max_batch * serving.model.n_vocab * FLOAT_BYTES
    return_blocks_above(min(MOST, max(LEAST, logits + 4096)))


def return_blocks_above(n_bytes: int) -> None:
    """Those of more than so many bytes; other C libraries than glibc do as they do."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt(M_MMAP_THRESHOLD, n_bytes)
        mallopt(M_TRIM_THRESHOLD, 2 * n_bytes)  # as glibc itself would have it then

"""A server gives the memory back that it has freed."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
import numpy as np
from rwkvcpp.server.allocator import return_blocks_above

class Facts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Facts
if "return" in sys.argv:
    return_blocks_above(256 * 1024)
del (large := [np.empty(20 << 20, np.uint8)])[:]  # from now on glibc would keep what is smaller
before = libc.mallinfo2().hblks
blocks = [np.empty(1 << 20, np.uint8) for _ in range(50)]
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="needs glibc 2.33 or newer",
)
def test_large_blocks_are_mapped_each_by_itself_however_large_one_was():
    def n_mapped(*args: str) -> int:
        command = [sys.executable, "-c", PROGRAM, *args]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert n_mapped() == 0  # as glibc has it
    assert n_mapped("return") == 50

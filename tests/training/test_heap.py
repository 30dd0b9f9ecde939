import os
import sys
from pathlib import Path

import numpy as np

from transformer.training import heap


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


GLIBC = sys.platform == "linux" and "glibc" in os.confstr("CS_GNU_LIBC_VERSION")


def test_what_was_freed_between_what_is_used_goes_back():
    """Of pieces in a row malloc gives none back by itself while the last is in use."""
    pieces = [np.ones(100_000, np.uint8) for _ in range(2000)]
    used = [pieces[number] for number in range(99, len(pieces), 100)]
    if not GLIBC:
        assert not heap.trim()
        return
    before = resident()
    del pieces
    assert before - resident() < 50e6
    assert heap.trim()
    assert before - resident() > 150e6
    assert all((piece == 1).all() for piece in used)

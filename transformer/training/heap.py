"""Memory that the C library keeps for later, given back to the system."""

import ctypes
import sys


def trim() -> bool:
    """Gives back what malloc has kept of memory that was freed; whether there was any. Only glibc on Linux can.

    Worth it after compiling, which needs hundreds of megabytes in pieces that nothing else fits into.
    """
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except AttributeError:  # another C library
        return False

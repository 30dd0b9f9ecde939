"""How many processor cores there are for this process."""

import os


def cores() -> int:
    """Those it may run on; of the machine where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

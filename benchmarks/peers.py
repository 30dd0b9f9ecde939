"""What programs that measure peers share. They run under the peers' Python: nothing but the standard library here."""

import importlib.metadata
import os
from collections.abc import Iterable


def threads() -> int:
    """As many as this process may use cores: what JAX takes by itself, and peers are given."""
    return len(os.sched_getaffinity(0))


def versions(names: Iterable[str]) -> dict[str, str]:
    """Of each package; empty where it is not installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found

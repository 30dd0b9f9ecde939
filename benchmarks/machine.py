"""What a benchmark ran on."""

import os
import platform
from importlib import metadata
from pathlib import Path


def machine() -> str:
    """Processor, cores and versions, in one line."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "numpy"))
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux; platform.processor() is empty there
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    return platform.processor() or platform.machine()

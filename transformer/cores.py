"""The processor cores of this machine: how many there are for this process, and what they can do."""

import functools
import os
import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_WITH_BFLOAT16 = {"avx512_bf16", "amx_bf16"}


def cores() -> int:
    """Those it may run on; of the machine where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def have_bfloat16(cpu_info: Path = _CPU_INFO) -> bool:
    """Whether they have instructions that multiply bfloat16: supposed where it is not looked up, see `_have`."""
    return _have(_WITH_BFLOAT16, cpu_info)


@functools.cache
def have_512_bits(cpu_info: Path = _CPU_INFO) -> bool:
    """Whether their instructions take 16 numbers of float32 at once: supposed where it is not looked up."""
    return _have({"avx512f"}, cpu_info)


def _have(flags: set[str], cpu_info: Path) -> bool:
    """Whether one of them is listed. Looked up for x86 on Linux alone."""
    if platform.machine() != "x86_64" or not cpu_info.is_file():
        return True
    return bool(flags & set(cpu_info.read_text().split()))

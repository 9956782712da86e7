"""What a process of a model may use of the machine: set by itself, before it loads anything."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Sequence
from pathlib import Path

__all__ = ["limit", "thread_variables"]

# What the frameworks' thread pools are told by.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


def thread_variables(cpus: int) -> dict[str, str]:
    """The environment that tells frameworks of so many CPUs; nothing for 0."""
    return dict.fromkeys(_THREADS, str(cpus)) if cpus else {}


def limit(memory_bytes: int, cpus: Sequence[int]) -> None:
    """Leave no core files, keep to the CPUs, and get no more memory than somewhat more than ``memory_bytes``.

    What is asked for and never touched counts here: stacks of threads, arenas. So there is some room above the limit,
    which the keeper holds by looking at what is really in use.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        # Where the machine is out of memory, this process is to go, and not the one that serves others.
        Path("/proc/self/oom_score_adj").write_text("500")
    if cpus:
        with contextlib.suppress(OSError):  # some of them are no longer ours
            os.sched_setaffinity(0, cpus)
    if memory_bytes:
        most = memory_bytes + memory_bytes // 4 + (256 << 20)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))

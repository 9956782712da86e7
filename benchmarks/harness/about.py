"""Where and of what figures are: they mean little without it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["ROOT", "about"]

ROOT = Path(__file__).resolve().parents[2]


def about(packages: Sequence[str] = ()) -> dict[str, str]:
    """The machine, its load, the commit (with a + if files differ from it) and the versions of ``packages`` here."""
    found = {
        "machine": f"{len(os.sched_getaffinity(0))} CPUs, {platform.machine()}, {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "kernel": platform.release().partition("-")[0],
        "load average": f"{os.getloadavg()[0]:.1f}",
        "commit": _commit(),
        "python": platform.python_version(),
    }
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not here"
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    return commit + (
        "+" if git("status", "--porcelain", "--", "graphpipe", "benchmarks/*.py", "benchmarks/peering") else ""
    )

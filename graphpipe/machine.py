"""What this process may use of the machine: CPUs and memory, by the machine itself and by every cgroup around it.

A container's limits stand in its cgroup, and in those that it is nested in: a pod's, a slice's. Where they are depends on
the version of cgroups (both may be there), on where they are mounted, and on whether the container sees its own cgroup as
the root. The kernel says all of it in /proc/self/cgroup and /proc/self/mountinfo.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["descriptors", "memory_bytes", "resident_bytes", "usable_cpus"]

_ROOT = Path("/")


def usable_cpus(root: Path = _ROOT) -> int:
    """The CPUs that this process may use, at least one; a quota of one and a half is two. ``root`` is where /proc is."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _cgroups(root, "cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        # "max" and -1 are none.
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            cpus = min(cpus, -(-int(quota) // int(period)))
    return max(1, cpus)


def memory_bytes(root: Path = _ROOT) -> int:
    """The memory that this process may use: the machine's, or the least that a cgroup around it allows."""
    limits = [str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for folder in _cgroups(root, "memory"):
        limits += [_text(folder / "memory.max"), _text(folder / "memory.limit_in_bytes")]
        # Version 1 says here what the groups around allow, even where a container does not see them.
        limits += re.findall(r"^hierarchical_memory_limit (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
    return min(int(limit) for limit in limits if limit.isdigit() and int(limit))


def resident_bytes() -> int:
    """The memory that this process holds now; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def descriptors() -> tuple[int, int]:
    """How many descriptors this process may have open, and how many are; (1024, 0) where nobody says."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return 1 << 20 if limit == resource.RLIM_INFINITY else limit, len(os.listdir("/proc/self/fd"))
    except (ImportError, OSError):
        return 1024, 0


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroups that may limit it: its own, and those around it as far as they are seen."""
    ours = _our_cgroups(root, controller)
    for version, top, mounted_at in _mounts(root, controller):
        path = ours.get(version, PurePosixPath("/"))
        # A mount whose top is not around our cgroup is seen from another namespace: it shows our cgroup itself.
        inside = path.relative_to(top).parts if path.is_relative_to(top) and ".." not in path.parts else ()
        for depth in range(len(inside), -1, -1):
            yield mounted_at.joinpath(*inside[:depth])


def _our_cgroups(root: Path, controller: str) -> dict[int, PurePosixPath]:
    """Our cgroup in either version."""
    found = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found[2] = PurePosixPath(path)
        elif controller in controllers.split(","):
            found[1] = PurePosixPath(path)
    return found


def _mounts(root: Path, controller: str) -> Iterator[tuple[int, PurePosixPath, Path]]:
    """Where cgroups are mounted: the version, the cgroup that is on top there, and the folder."""
    # Where they are by custom, for sandboxes that do not list them.
    yield 2, PurePosixPath("/"), root / "sys/fs/cgroup"
    yield 1, PurePosixPath("/"), root / "sys/fs/cgroup" / controller
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        folder = root / _unescaped(fields[4]).lstrip("/")
        if kind[0] == "cgroup2":
            yield 2, PurePosixPath(_unescaped(fields[3])), folder
        elif kind[0] == "cgroup" and controller in kind[2].split(","):
            yield 1, PurePosixPath(_unescaped(fields[3])), folder


def _unescaped(path: str) -> str:
    """A path of mountinfo, where blanks are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""

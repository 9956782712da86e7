"""A process and all below it, as the kernel sees them: what servers of several processes cost."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["Family", "is_running"]


class Family:
    """The process ``pid`` and its children, and theirs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        found, left = [], [self.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    left += map(int, (task / "children").read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """What the scheduler has given to all threads that are there."""
        total = 0
        for pid in self.pids():
            for account in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    total += int(account.read_text().split()[0])
        return total / 1e9

    def megabytes(self) -> float:
        """Resident memory in 10^6 bytes: what each has to itself, and what they share once, as much as the one has that
        shares most. (Pss would share it out among strangers, too, who have the same libraries open.)
        """
        own, shared = 0, 0
        for pid in self.pids():
            said = _kilobytes(pid, "smaps_rollup")
            private = said.get("Private_Clean", 0) + said.get("Private_Dirty", 0)
            own += private
            shared = max(shared, said.get("Rss", 0) - private)
        return (own + shared) * 1024 / 1e6

    def peak_megabytes(self) -> float:
        """The sum of their resident peaks, since they began or ``forget_peak`` was called."""
        return sum(_kilobytes(pid, "status").get("VmHWM", 0) for pid in self.pids()) * 1024 / 1e6

    def forget_peak(self) -> None:
        for pid in self.pids():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended: one whose end nobody has asked for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _kilobytes(pid: int, file: str) -> dict[str, int]:
    """What a file of /proc says in kB, by its names; nothing of a process that has ended."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            name, _, value = line.partition(":")
            if value.endswith(" kB"):
                found[name] = int(value.split()[0])
    return found

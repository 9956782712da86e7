"""A server process, as the kernel sees it: its port, its CPU time, its memory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["Running"]


class Running:
    """A process that listens on ``port`` of this machine."""

    def __init__(self, process: subprocess.Popen[Any], port: int, log: Path | None = None) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def cpu_seconds(self) -> float:
        """What the scheduler has given to all threads so far; those that have ended are not in it."""
        return sum(self.cpu_seconds_by_thread().values())

    def cpu_seconds_by_thread(self) -> dict[int, float]:
        """The same by the thread's number; the main thread, where the event loop runs, has the process's own."""
        found = {}
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
            except FileNotFoundError:  # it ended, or this kernel keeps no such account
                fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
                return {self.process.pid: (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")}
        return found

    def memory(self, what: str) -> int:
        """Bytes of VmRSS (now) or VmHWM (the peak). Raises KeyError if the process has ended."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024
        raise KeyError(what)

    def forget_peak(self) -> None:
        """VmHWM is from now on."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def log_bytes(self) -> int:
        """How much it has logged."""
        return self.log.stat().st_size if self.log is not None else 0

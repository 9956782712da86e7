"""A server with all the processes that it makes, however far they go: found, held up and ended as one.

Some make sessions and groups of their own, and some leave children behind: what they cannot leave is the environment that
they were started with.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["Household"]

MARK = "BENCHMARK_HOUSEHOLD"


class Household:
    """Runs ``command`` in ``folder``; what it says goes to a file there. Leaving it ends every process of it."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = folder / "log"
        self._mark = f"{MARK}={uuid.uuid4().hex}".encode()
        name, _, value = self._mark.decode().partition("=")
        with self.log.open("wb") as written:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**(os.environ if environment is None else environment), name: value},
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                start_new_session=True,
            )

    def members(self) -> list[int]:
        """The process ids of all that are alive."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self._mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def hold(self) -> None:
        """Nobody of it runs until ``go_on``: even a server that nobody asks takes time from its neighbours."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def megabytes(self) -> float:
        """The memory of all of it, what several share divided among them (PSS)."""
        total = 0
        for member in self.members():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total / 1e6

    def said(self) -> str:
        """The last of what it wrote, in one line."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " ".join(line.strip() for line in lines[-3:])[-400:]

    def end(self, patience_s: float = 1.0) -> None:
        """SIGTERM to the first of it, and SIGKILL to whoever is there when the patience is over."""
        self.go_on()
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        limit = time.monotonic() + patience_s
        while self.members() and time.monotonic() < limit:
            self.process.poll()  # the dead that are not waited for have no environment, but a number
            time.sleep(0.05)
        for _ in range(40):  # one that is being killed may be making another
            if not self.members():
                break
            self._signal(signal.SIGKILL)
            self.process.poll()
            time.sleep(0.05)
        self.process.wait()

    def __enter__(self) -> Household:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _signal(self, what: signal.Signals) -> None:
        for member in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, what)

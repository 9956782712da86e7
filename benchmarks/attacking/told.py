"""A process that is no server: it does what it is told on its standard input, and says in a line what came of it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.harness.process import Running

__all__ = ["Told", "telling"]


class Told(Running):
    """Such a process. It has no port."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(process, 0)

    def tell(self, what: str) -> str:
        """What came of it. Raises RuntimeError if the process has ended."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{what}\n")
        stdin.flush()
        if not (line := stdout.readline()):
            raise RuntimeError(f"the process has ended at {what}")
        return str(line).strip()


@contextlib.contextmanager
def telling(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Told]:
    """The process of a command, in a folder, until it is left."""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            yield Told(process)
        finally:
            process.kill()

"""How the cost of a stretch is counted: instructions by valgrind where it is installed, otherwise seconds of CPU.

Instructions of a stretch are the same, to a part in a thousand, whoever else uses the machine, but those of the kernel
are not among them. Seconds of CPU have everything in them, the neighbours' caches too, so they take many more batches,
from several lives of each process: where its memory happens to lie makes a difference of its own.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["METHODS", "Instructions", "Method", "Times", "usual"]


class Method:
    """``lives`` of each process, ``batches`` in each life, of about ``batch_cost`` of the method's unit. Of fewer lives than
    ``lives_min`` nothing is said to have grown. While they do not tell, there are up to ``batches_max``.
    """

    name: str
    says: str
    lives_min: int
    lives: int
    batches: int
    batches_max: int
    batch_cost: float

    def under(self, folder: Path) -> list[str]:
        """What is put before the command of a process; ``folder`` is its own."""
        raise NotImplementedError

    def begin(self, pid: int) -> None:
        """Start to count, now that the process is ready."""

    def cost(self, folder: Path, marks: Sequence[float]) -> float:
        """Of the stretch between the last two marks."""
        raise NotImplementedError


class Instructions(Method):
    """valgrind's callgrind, which writes a part of its account at each mark."""

    name = "instructions"
    says = "instructions counted by valgrind (the kernel's are not in it)"
    lives_min, lives, batches, batches_max, batch_cost = 1, 1, 5, 25, 2e6

    def under(self, folder: Path) -> list[str]:
        out = folder / "part"
        return [
            "valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--dump-before=getpriority",
            f"--callgrind-out-file={out}",
        ]  # fmt: skip

    def begin(self, pid: int) -> None:
        # Not from the start: a server would take half a minute for its imports.
        told = subprocess.run(
            ["vgdb", f"--pid={pid}", "instrumentation", "on"], capture_output=True, text=True, timeout=60
        )
        if told.returncode:
            raise RuntimeError(f"valgrind cannot be told to count, so use --method times: {told.stderr.strip()}")

    def cost(self, folder: Path, marks: Sequence[float]) -> float:
        parts = sorted(folder.glob("part.*"), key=lambda path: int(path.suffix[1:]))
        for part in parts[:-1]:
            part.unlink()
        with parts[-1].open() as lines:
            for line in lines:
                if line.startswith("summary: "):
                    return float(line.split()[1])
        raise RuntimeError(f"valgrind wrote no summary in {parts[-1]}")


class Times(Method):
    """The CPU seconds that the process itself sees at its marks."""

    name = "times"
    says = "seconds of CPU, in turn"
    lives_min, lives, batches, batches_max, batch_cost = 4, 6, 12, 12, 0.005

    def under(self, folder: Path) -> list[str]:
        return []

    def cost(self, folder: Path, marks: Sequence[float]) -> float:
        return marks[-1] - marks[-2]


METHODS: dict[str, type[Method]] = {each.name: each for each in (Instructions, Times)}


def usual() -> str:
    """The best method that this machine has."""
    return Instructions.name if shutil.which("valgrind") else Times.name

"""The differential fuzzer of the clients, conformance/fuzz.py: all languages that are here, and the official library."""

from __future__ import annotations

import re
import sys
import time

from scripts.fuzz.fuzzer import FOLDER, Outcome, failed, run

__all__ = ["Clients"]

_PROGRESS = re.compile(r"^([\d,]+) messages: (\d+) differences; .*?([\d,]+) read", re.MULTILINE)


class Clients:
    """Damaged messages, read in every language."""

    name = "clients"

    def missing(self) -> str:
        return ""

    def fuzz(self, seconds: int) -> Outcome:
        """Each run damages in ways of its own: the seed is the time, and stands in the log."""
        log = FOLDER / self.name / "log"
        seed = str(int(time.time()))
        status, said, took = run(
            [sys.executable, "conformance/fuzz.py", "--seconds", str(seconds), "--seed", seed], log
        )
        progress = _PROGRESS.findall(said)
        if not progress:
            return failed(self.name, said, log)
        messages, bad, read = progress[-1]
        found = [line for line in said.splitlines() if line.startswith("{")][:5] if status else []
        return Outcome(self.name, int(messages.replace(",", "")), took, "", f"{read} ok", found or ["?"] * int(bad))

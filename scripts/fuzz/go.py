"""Go's own fuzzer. What it finds it writes into clients/go/testdata itself, where `go test` reads it from then on."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from scripts.fuzz.fuzzer import FOLDER, ROOT, Outcome, failed, run
from scripts.run_tests import environment
from tests.fuzz import decoder
from tests.fuzz.corpus import inputs

__all__ = ["Go"]

_PROGRESS = re.compile(r"execs: (\d+) .*?new interesting: (\d+) \(total: (\d+)\)")
_FINDING = re.compile(r"Failing input written to (\S+)")
_PREFIX = 4


@dataclass(frozen=True)
class Go:
    """One target of one package: its function, its folder below clients/go, and how its package is called."""

    name: str
    function: str
    below: str = "."

    def missing(self) -> str:
        return "" if shutil.which("go") else "go not found"

    def fuzz(self, seconds: int) -> Outcome:
        """Go on from testdata, from what every language shares, and from what runs before this one reached."""
        folder, log = ROOT / "clients" / "go" / self.below, FOLDER / self.name / "log"
        self._share(folder)
        command = ["go", "test", "-run=^$", f"-fuzz=^{self.function}$", f"-fuzztime={seconds}s", "."]
        status, said, took = run(command, log, folder)
        progress = _PROGRESS.findall(said)
        found = _FINDING.findall(said)
        if (status and not found) or not progress:
            return failed(self.name, said, log)
        executions, new, total = progress[-1]
        findings = [f"{(folder / path).relative_to(ROOT)}, as {log.relative_to(ROOT)} tells" for path in found]
        return Outcome(self.name, int(executions), took, f"{new} new", total, findings)

    def _share(self, folder: Path) -> None:
        """Give it the inputs of tests/fuzz/corpus/decoder.json, in the place and the form in which it keeps its own."""

        def told(*command: str) -> str:
            done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
            return done.stdout.strip()

        place = Path(told("go", "env", "GOCACHE")) / "fuzz" / told("go", "list", ".") / self.function
        place.mkdir(parents=True, exist_ok=True)
        for content in {each[_PREFIX:] for each in (*decoder.seeds(), *inputs("decoder"))}:
            quoted = "".join(f"\\x{byte:02x}" for byte in content)
            text = f'go test fuzz v1\n[]byte("{quoted}")\n'
            (place / hashlib.sha256(text.encode()).hexdigest()[:16]).write_text(text)

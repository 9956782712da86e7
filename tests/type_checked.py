"""What `mypy --strict` says of a user's program, knowing nothing of this repository's own settings.

The checker's cache is one for all such programs, and no other's: one who asks with other settings begins it anew.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT

_CACHE = ROOT / ".build" / "mypy-of-users"


def mypy_errors(folder: Path, *programs: str) -> set[tuple[str, int]]:
    """The file and line of each error that it finds in these programs of a folder."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={_CACHE}", *programs]
    with (_CACHE / "lock").open("w") as lock:
        # Who waits finds all that the programs import in the cache.
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 1), f"{done.stdout}{done.stderr}"
    return {(name, int(line)) for name, line in re.findall(r"^([\w.]+):(\d+): error:", done.stdout, re.MULTILINE)}

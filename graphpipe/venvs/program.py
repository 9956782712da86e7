"""Another program, run to its end within limits: with all that it starts, it is gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphpipe.errors import LoadError
from graphpipe.words import visible

__all__ = ["Ended", "run_program"]

_LINES_KEPT = 12
_LINE_BYTES_MAX = 1 << 20

# What this interpreter was told, and is none of another's business.
_OURS_ALONE = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "VIRTUAL_ENV", "CONDA_PREFIX"})


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended, and the last lines of what it said on both its outputs, without escapes for a terminal."""

    status: int
    last: Sequence[str]
    is_late: bool


def run_program(
    command: Sequence[str], limit_s: float, said_bytes_max: int, say: Callable[[str], None] = lambda line: None
) -> Ended:
    """Run it for so many seconds at most, and until it has said so much. ``say`` is told each line as it comes.

    Raises LoadError where it cannot be started.
    """
    variables = {name: value for name, value in os.environ.items() if name not in _OURS_ALONE}
    try:
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise LoadError(f"{visible(command[0])} does not run: {error.strerror or error}") from None
    assert process.stdout is not None
    late: list[bool] = []

    def end() -> None:
        late.append(True)
        _kill(process)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    last: deque[str] = deque(maxlen=_LINES_KEPT)
    try:
        with process.stdout as output:
            while said_bytes_max > 0 and (piece := output.readline(_LINE_BYTES_MAX)):
                said_bytes_max -= len(piece)
                if line := visible(piece.decode(errors="replace").rstrip()):
                    last.append(line)
                    say(line)
        if said_bytes_max <= 0:
            _kill(process)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    finally:
        timer.cancel()
        timer.join()
        _kill(process)  # what it has started and left, while its number is still its own
        status = process.wait()
    return Ended(status, list(last), bool(late))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it has started, which may outlive it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)

"""The self-test of a package in a process of its own: nothing that this process has loaded helps it.

A package that works where it was made may lack a file, a module or a library that happened to be there. A fresh
interpreter has none of these; it looks the package through, loads it, runs its tests and says how that went.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphpipe.backends.failure import in_words
from graphpipe.errors import GraphPipeError, PackageError
from graphpipe.words import WORDS_MAX, counted

__all__ = ["Trial", "try_out"]

_SAID_BYTES_MAX = 1 << 20
# What its framework wrote last may say why it is gone.
_TAIL_BYTES = 2000
_PIECE_BYTES = 1 << 16
_ROOT = Path(__file__).resolve().parent.parent.parent
# At the end of the path: what is installed comes first, and graphpipe itself may be a folder that was not.
_PROGRAM = f"import sys; sys.path.append({str(_ROOT)!r}); from graphpipe.package.trial import main; main()"


@dataclass(frozen=True, slots=True)
class Trial:
    """How a self-test went: how many tests there were, and what computed the answers. It did well, or it was an error."""

    tests: int
    runtime: str = ""


def try_out(source: str | Path, options: Mapping[str, Any], timeout_s: float = 600.0) -> Trial:
    """Load a package in a fresh process, with these options, and run its tests there.

    Raises PackageError with what is different, what was raised, or how the process ended.
    """
    told = json.dumps({"source": str(source), "options": dict(options)})
    with tempfile.TemporaryFile() as answered:
        process = subprocess.Popen(
            # Without this folder on its path: the package has to bring what it imports.
            [sys.executable, "-P", "-c", _PROGRAM, told, str(answered.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[answered.fileno()],
            start_new_session=True,
        )
        try:
            printed = _printed_until_its_end(process, timeout_s)
        finally:
            _end(process)
        if printed is None:
            raise PackageError(f"{source}: its self-test was not over in {timeout_s:g} s")
        answered.seek(0)
        said = answered.read(_SAID_BYTES_MAX)
    try:
        answer = json.loads(said)
        error = answer["error"]
        trial = Trial(answer["tests"], answer["runtime"])
    except (ValueError, KeyError, TypeError):
        raise PackageError(f"{source}: {_ended(process.returncode)}{_tail(printed)}") from None
    if error:
        raise PackageError(f"{source} fails its self-test: {error}")
    return trial


def _printed_until_its_end(process: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
    """The last of what it prints; None if it is not over in time.

    Its own end is waited for, not that of what it prints: what it has started may print on.
    """
    assert process.stdout is not None
    pipe, ended = process.stdout.fileno(), os.pidfd_open(process.pid)
    tail, until = b"", time.monotonic() + timeout_s
    try:
        waiting = select.poll()
        for each in (pipe, ended):
            waiting.register(each, select.POLLIN)
        while True:
            ready = [each for each, _ in waiting.poll(max(until - time.monotonic(), 0) * 1000)]
            if pipe in ready:
                piece = os.read(pipe, _PIECE_BYTES)
                tail = (tail + piece)[-_TAIL_BYTES:]
                if not piece:
                    waiting.unregister(pipe)
            elif ended in ready:
                return tail
            if time.monotonic() >= until:
                return None
    finally:
        os.close(ended)


def main() -> None:
    """The fresh process: told in its arguments what to try, it writes how that went to the descriptor that is named."""
    told, descriptor = sys.argv[1:]
    with open(int(descriptor), "w", encoding="utf-8") as out:
        out.write(json.dumps(_tried(**json.loads(told))))
    sys.stdout.flush()
    # Threads of a framework, or of a model, may never end by themselves.
    os._exit(0)


def _tried(source: str, options: dict[str, Any]) -> dict[str, Any]:
    from graphpipe.backends.find import load

    said: dict[str, Any] = {"error": "", "tests": 0, "runtime": ""}
    try:
        with load(source, backend="package", **options) as model:
            test: Any = model.model
            said |= {"tests": test.tests, "runtime": str(getattr(test, "runtime", ""))}
            test.self_test()
    except GraphPipeError as error:
        said["error"] = str(error)[: 10 * WORDS_MAX]
    except BaseException as error:  # sys.exit in a model's code, a panic of an extension
        said["error"] = in_words(error)
    return said


def _ended(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"its self-test was ended by {signal.Signals(-status).name}"
    return f"its self-test ended with status {status}, and said nothing"


def _tail(printed: bytes) -> str:
    lines = printed[-_TAIL_BYTES:].decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1][:WORDS_MAX]} (of {counted(len(lines), 'line')} that it wrote)" if lines else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have the process end, and whatever it started in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()

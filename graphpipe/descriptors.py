"""The standard descriptors of a process: input, output and errors are there, and a lost reader is nobody's failure.

Where whoever started us had closed some, the next files and sockets that are opened would get their numbers: log lines
would go to callers, and a caller's bytes would be read as commands. Where nobody reads standard output any more
(``| head -1``), or its disk is full, a print would fail in the middle of a request.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO, cast

__all__ = ["fill", "forgive"]


def fill() -> None:
    """Open what is closed of 0, 1 and 2, on the null device."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, hence this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Python itself has None for what was closed when it started.
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def forgive() -> None:
    """Have what cannot be written to standard output and errors be lost, for the rest of this process's life."""
    sys.stdout = _forgiving(sys.stdout, 1)
    sys.stderr = _forgiving(sys.stderr, 2)


def _forgiving(stream: TextIO, number: int) -> TextIO:
    if getattr(stream, "fileno", lambda: -1)() != number:
        return stream  # somebody else's
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(cast(io.RawIOBase, _Forgiving(number, "w", closefd=False))),
        stream.encoding,
        "backslashreplace",
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )


class _Forgiving(io.FileIO):
    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)

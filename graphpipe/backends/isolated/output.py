"""What the processes of a model print: lines for our log, as many as somebody can read."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque

from graphpipe.words import visible

__all__ = ["Output"]

log = logging.getLogger("graphpipe.model")

_LINE_MAX = 2000
# In a second; the others are counted.
_LINES_PER_S = 50
_LAST_LINES = 20
_AT_ONCE = 64 * 1024


class Output:
    """One process's standard output and errors, which are one pipe: whole lines go to the log as they come."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self._name = name
        self._begun = b""
        self._left = _LINES_PER_S
        self._more = 0
        self._last: deque[bytes] = deque(maxlen=_LAST_LINES)
        os.set_blocking(descriptor, False)

    def read(self) -> bool:
        """Take what has come, up to a limit. False when there is no more to come."""
        try:
            data = os.read(self.descriptor, _AT_ONCE)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self._take(b"\n" if self._begun else b"")
            return False
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        *lines, rest = (self._begun + data).split(b"\n")
        self._begun = rest[:_LINE_MAX]
        lines = [line for line in lines if line.strip()]
        self._last.extend(lines[-_LAST_LINES:])
        told = lines[: self._left]
        self._left -= len(told)
        self._more += len(lines) - len(told)
        for line in told:
            log.warning("model %r: %s", self._name, _shown(line))

    def next_second(self) -> None:
        """A new second begins: say how many lines were left out in the last one."""
        more, self._more, self._left = self._more, 0, _LINES_PER_S
        if more:
            log.warning("model %r: and %s more lines in the last second", self._name, f"{more:,}")

    def last_lines(self) -> list[str]:
        """The last that was printed, the latest line last."""
        return [_shown(line) for line in self._last]

    def close(self) -> None:
        """Take what is still there, and close the pipe."""
        for _ in range(16):  # a pipe holds no more; who holds its other end may go on for ever
            before = self._begun, self._more, len(self._last)
            if not self.read() or before == (self._begun, self._more, len(self._last)):
                break
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


def _shown(line: bytes) -> str:
    return visible(line[:_LINE_MAX].decode("utf-8", "replace"))

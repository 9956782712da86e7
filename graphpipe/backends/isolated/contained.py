"""A process of an isolated model that is in a container, seen from outside.

What is a child of ours is the engine; the process is one of the container's. So it is ended by the end of its socket,
which the container's first process waits for: an engine that is killed leaves its container behind.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from time import monotonic

from graphpipe.backends.isolated.container import Container
from graphpipe.backends.isolated.hello import Order
from graphpipe.backends.isolated.process import Process

__all__ = ["Contained"]

# After so long an engine that has been told does not end by itself.
_ENGINE_S = 10.0
# It failed itself, or what it calls did; there is no such program in the image.
_ENGINES_OWN = (125, 126)
_NOT_FOUND = 127
_BY_SIGNAL = 128


class Contained(Process):
    """The engine has to clear away before it ends, which is heard of later than the container's end.

    Its memory is looked at by the kernel alone, as the limit of its container.
    """

    epitaph_s = 5.0

    def __init__(self, number: int, container: Container, order: Order, name: str, load_timeout_s: float) -> None:
        self._container = container
        self._told_at = 0.0
        super().__init__(number, container.command, order, container.variables(), name, load_timeout_s)

    def kill(self, why: str) -> None:
        """End the container; and the engine too, where that has been of no use."""
        if self.over.is_set():
            return
        if not self._has_ended():
            self.why_killed = self.why_killed or why
        with contextlib.suppress(OSError):
            self.control.socket.shutdown(socket.SHUT_RDWR)
        self._told_at = self._told_at or monotonic()
        if monotonic() - self._told_at >= _ENGINE_S:
            super().kill(why)

    def private_bytes(self) -> int:
        return 0

    def _how(self, status: int) -> str:
        if status in _ENGINES_OWN:
            return f"ended with status {status}: podman could not run its container"
        if status == _NOT_FOUND:
            return (
                f"ended with status {status}: its image has no {self._container.python} (--python names a path there)"
            )
        most = self._container.options.isolate_memory_bytes
        if most and status == _BY_SIGNAL + signal.SIGKILL:
            return f"ended by signal 9 (SIGKILL); where nobody sent that, it held more than {most:,} bytes"
        return super()._how(_BY_SIGNAL - status if status > _BY_SIGNAL else status)

"""How long a download may take: as a whole, and for each minute.

A wait for the next byte is bounded by the socket. A server that sends one now and then is never waited for too long, and
never done; it is cut here, from a thread beside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

__all__ = ["Pace"]

_WINDOW_S = 60.0
_BYTES_PER_S_MIN = 1024


class Pace:
    """Calls ``cut`` when less than 1 KiB a second has come over a minute, or ``until`` (of time.monotonic) has passed.

    ``done`` is how many bytes have come; ``said`` why it was cut, empty if it was not.
    """

    def __init__(self, cut: Callable[[], None], until: float) -> None:
        self.done = 0
        self.said = ""
        self.is_over = False
        self._cut, self._until = cut, until
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="graphpipe-download-pace", daemon=True)

    def __enter__(self) -> Pace:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        before = self.done
        while True:
            left = self._until - time.monotonic()
            if self._ended.wait(min(_WINDOW_S, max(left, 0))):
                return
            if time.monotonic() >= self._until:
                self.is_over = True
                self.said = "it was not whole in time (--download-timeout-s)"
            elif self.done - before < _WINDOW_S * _BYTES_PER_S_MIN:
                self.said = f"the server sent less than {_BYTES_PER_S_MIN} bytes a second"
            if self.said:
                self._cut()
                return
            before = self.done

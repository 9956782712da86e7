"""Wakes an event loop at a moment, to some ten microseconds where the system can.

Timers of asyncio and of uvloop wake on whole milliseconds: ten times what a small request takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Alarm"]

_MONOTONIC, _NONBLOCK, _CLOEXEC, _ABSOLUTE = 1, 0o4000, 0o2000000, 1


class _Moments(ctypes.Structure):
    """struct itimerspec: how often, and when first."""

    _fields_ = (
        ("every_s", ctypes.c_long), ("every_ns", ctypes.c_long), ("first_s", ctypes.c_long), ("first_ns", ctypes.c_long),
    )  # fmt: skip


class Alarm:
    """Calls ``act`` on the running loop at the moments that are set with ``at``, in seconds of ``time.perf_counter``."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._libc: Any = None
        self._fd = -1
        # On Linux perf_counter is CLOCK_MONOTONIC.
        if sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):
                self._libc = ctypes.CDLL(None, use_errno=True)
                self._fd = self._libc.timerfd_create(_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._ring)

    def at(self, moment: float) -> None:
        """Ring then, or as soon as may be if that is past; what was set before is forgotten."""
        if self._fd < 0:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(0.0, moment - time.perf_counter()), self._act)
            return
        seconds, rest = divmod(max(moment, 1e-9), 1)  # all zeros would unset it
        moments = _Moments(0, 0, int(seconds), int(rest * 1e9))
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(moments), None)

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
            self._act()

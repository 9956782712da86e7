"""The end of a process in which a model may still be running.

A thread cannot be told to stop in the middle of a model's run. When the interpreter shuts down around it, the thread is torn
out of the runtime's C++ code, and that ends in an abort. So a process whose drain is over, and in which a run is not, leaves
at once.

A program may serve in a thread of its own, and end. Its server has to end before the interpreter does: uvloop's timers call
Python from C, and where that is gone this is a segmentation fault.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator

from graphpipe.signals import WATCH

__all__ = ["cut_at_exit", "leave_if_a_model_runs"]


# Threads of ours that wait in Python, where being stopped does no harm.
_HARMLESS = {"log", WATCH}


def leave_if_a_model_runs(status: int) -> None:
    """End the process now, with this status, if a daemon thread is still at work; else do nothing."""
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if any(thread.daemon and thread.name not in _HARMLESS for thread in others):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


# How long the end of a program waits for the servers in it.
_PATIENCE_S = 5.0
_serving: dict[threading.Thread, Callable[[], object]] = {}


@contextlib.contextmanager
def cut_at_exit(cut: Callable[[], None]) -> Iterator[None]:
    """Until this ends, the end of the program calls ``cut`` on this thread's event loop first, and waits for the thread."""
    thread, loop = threading.current_thread(), asyncio.get_running_loop()
    if thread is threading.main_thread():
        yield  # whose end is the program's
        return
    _serving[thread] = lambda: loop.call_soon_threadsafe(cut)
    try:
        yield
    finally:
        del _serving[thread]


def _cut_all() -> None:
    threads = dict(_serving)
    for cut in threads.values():
        with contextlib.suppress(RuntimeError):  # its loop is closed by now
            cut()
    for thread in threads:
        thread.join(_PATIENCE_S)


atexit.register(_cut_all)

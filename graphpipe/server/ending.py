"""The end of a process in which a model may still be running.

A thread cannot be told to stop in the middle of a model's run. When the interpreter shuts down around it, the thread is torn
out of the runtime's C++ code, and that ends in an abort. So a process whose drain is over, and in which a run is not, leaves
at once.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

from graphpipe.signals import WATCH

__all__ = ["leave_if_a_model_runs"]


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

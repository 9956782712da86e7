"""Where a measured stretch begins and ends."""

from __future__ import annotations

import os
import time

__all__ = ["mark"]


def mark() -> float:
    """Seconds of CPU that this process has had.

    The call of getpriority is for valgrind, which is told to write down its counts when that function begins: nothing
    else here calls it.
    """
    os.getpriority(os.PRIO_PROCESS, 0)
    return time.process_time()

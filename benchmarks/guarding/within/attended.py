"""A thread in a server, which marks where a stretch begins and ends when a line on standard input asks for it.

It sleeps in a read meanwhile, and costs the server nothing.
"""

from __future__ import annotations

import json
import sys
import threading

from marks import mark
from yardstick import Yardstick

__all__ = ["start"]


def start() -> None:
    """Attend to standard input until it ends."""
    threading.Thread(target=_attend, daemon=True).start()


def _attend() -> None:
    work = Yardstick()
    for line in sys.stdin:
        what, _, times = line.rstrip("\n").partition("\t")
        marks = [mark()]
        if what == "yardstick":
            for _ in range(int(times)):
                work()
            marks.append(mark())
        print(json.dumps({"marks": marks}), flush=True)

"""A stage of pure Python that says which process it is in, and waits there for others, or dies."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np


class Meeting:
    """``folder`` is where those who are inside leave their numbers; ``what`` is what each is to do."""

    def __call__(self, folder, what):
        place, said = Path(folder.item().decode()), what.item().decode()
        if said == "die":
            os.kill(os.getpid(), 9)
        (place / f"inside-{os.getpid()}").touch()
        if said == "meet":
            wait(lambda: len(list(place.glob("inside-*"))) == 2)
        elif said == "stay":
            wait((place / "go").exists)
        return {"pid": np.array(os.getpid())}


def wait(condition):
    """Python's own code all the while, which holds the interpreter's lock."""
    until = time.monotonic() + 30
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("nobody came")
        sum(range(1000))


def both(pid):
    return {"pid": pid}

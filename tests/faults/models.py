"""A model that misbehaves as it is told: ``config`` says how."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

import graphpipe

_leaked: list[Any] = []


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
def double(x: Any, config: str = "") -> Any:
    """Twice its input; or what ``config`` says."""
    what, _, how = config.partition(" ")
    if what == "sleep":
        time.sleep(float(how))
    elif what == "hang":
        time.sleep(3600)
    elif what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "leak":
        _leaked.append(np.ones(int(how), np.uint8))
    elif what == "raise":
        raise RuntimeError("a secret cause")
    elif what == "nothing":
        return {}
    elif what == "text":
        return "not an array"
    elif what == "complex":
        return x * 1j
    elif what == "pid":
        return np.array([os.getpid()], np.float32)
    return x * np.float32(2)

"""A model that misbehaves as it is told: ``config`` says how."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

import graphpipe

_HOLD = Path(os.environ.get("TEST_HOLD", "/nowhere"))
_warm: list[bool] = []
_leaked: list[Any] = []


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
def double(x: Any, config: str = "") -> Any:
    """Twice its input; or what ``config`` says. Its first call lasts as long as there is a file that holds it up."""
    while not _warm and _HOLD.exists():
        time.sleep(0.005)
    _warm[:] = [True]
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
    elif what == "short":
        return x[:-1] * np.float32(2)
    return x * np.float32(2)


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
def forgetful(x: Any) -> Any:
    """Twice its input, but of several rows it forgets the last."""
    return (x if len(x) < 2 else x[:-1]) * np.float32(2)

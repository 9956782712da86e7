"""What models do in containers, in tests."""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np


def act(what, x):
    """Do what a text says, and say what came of it."""
    return np.array(str(deeds[what.item().decode()](x)).encode(), object), x


def _writes(x):
    done = []
    for folder in (Path(__file__).parent, Path("/"), Path("/usr"), Path("/tmp")):
        with contextlib.suppress(OSError):
            (folder / "written").write_text("x")
            done.append(str(folder))
    return done


def _reaches(x):
    try:
        socket.create_connection(("127.0.0.1", int(x.ravel()[0])), 1)
    except OSError as error:
        return type(error).__name__
    return "reached"


def _kill_the_first(x):
    os.kill(1, signal.SIGKILL)
    os.kill(1, signal.SIGSTOP)
    return ctypes.CDLL(None).ptrace(16, 1, 0, 0)  # PTRACE_ATTACH


def _grow(x):
    held = []
    while True:
        held.append(np.ones(1 << 20))


def _hold(x):
    ctypes.PyDLL(None).sleep(1000)


deeds = {
    "nothing": lambda x: "",
    "see": lambda x: sorted(os.listdir(x.tobytes().decode())),
    "environment": lambda x: sorted(os.environ),
    "rights": lambda x: [
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd")
    ],
    "writes": _writes,
    "reaches": _reaches,
    "kill the first": _kill_the_first,
    "abort": lambda x: os.abort(),
    "leave": lambda x: os._exit(3),
    "exit": lambda x: sys.exit(4),
    "sleep": lambda x: time.sleep(60),
    "hold": _hold,
    "grow": _grow,
}

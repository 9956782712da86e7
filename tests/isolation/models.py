"""What isolated models do in tests: everything that a model may do, and more. They run in processes of their own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import graphpipe
from graphpipe.errors import InvalidRequest

kept = []


class Odd(BaseException):
    pass


@graphpipe.model(inputs={"what": "string", "x": "any"}, outputs={"pid": "int64", "x": "any"})
def act(what, x):
    """Do what a text says; give the number of this process, and x."""
    word = what.item().decode()
    if word:
        deeds[word](x)
    return {"pid": np.array(os.getpid()), "x": x}


def _raise(error):
    raise error


def _hold_the_interpreter(x):
    ctypes.PyDLL(None).sleep(int(x.ravel()[0]))


def _fork(x):
    for own_session in (False, False):
        subprocess.Popen(["sleep", "1000"], start_new_session=own_session)


def _flood(x):
    line = "x" * 200
    for number in range(20_000):
        print(number, line, file=sys.stderr if number % 2 else sys.stdout)


def _grow(x):
    held = []
    while True:
        held.append(np.ones(1 << 20))
        time.sleep(0.002)


def _scribble(x):
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(number, b"\xff" * 100)
    time.sleep(30)


def _fork_itself(x):
    ctypes.CDLL(None).fork()  # as native code does it, of which Python hears nothing


def _ask_for_rooms(x):
    from graphpipe.backends.isolated.inside import _open

    lane = next(iter(_open))
    for _ in range(2):
        lane.sendall(struct.pack("<BBHIIQIIQQ", 9, int(x[0]), 1, 0, 0, 0, 2**32 - 1, 0, 0, 1 << 20))
        lane.recv(1000)
    time.sleep(30)


deeds = {
    "fork itself": _fork_itself,
    "python forks": lambda x: os.fork(),
    "rooms": _ask_for_rooms,
    "scribble": _scribble,
    "segfault": lambda x: ctypes.string_at(0),
    "abort": lambda x: os.abort(),
    "leave": lambda x: os._exit(3),
    "kill": lambda x: os.kill(os.getpid(), signal.SIGKILL),
    "close": lambda x: os.closerange(3, 256),
    "exit": lambda x: sys.exit(4),
    "odd": lambda x: _raise(Odd("an odd one")),
    "interrupt": lambda x: _raise(KeyboardInterrupt),
    "error": lambda x: _raise(ValueError(f"it is {x.ravel()[0]}")),
    "refuse": lambda x: _raise(InvalidRequest("not this one")),
    "sleep": lambda x: time.sleep(float(x.ravel()[0])),
    "hold": _hold_the_interpreter,
    "fork": _fork,
    "flood": _flood,
    "bomb": lambda x: np.ones(1 << 40),
    "grow": _grow,
    "write": lambda x: x.__setitem__(0, 1),
}


def keep(x):
    """Keep every input, and give the first element of each."""
    kept.append(x)
    return np.array([float(each.ravel()[0]) for each in kept])


def together(folder):
    """Wait until two calls are here at the same time."""
    place = Path(folder.item().decode())
    (place / str(os.getpid())).touch()
    until = time.monotonic() + 20
    while len(list(place.iterdir())) < 2:
        if time.monotonic() > until:
            raise TimeoutError("nobody else came")
        sum(range(1000))
    return np.array(len(list(place.iterdir())))


def several(x):
    """Outputs of several types and sizes, and names that nobody declared."""
    return {
        "half": x[: len(x) // 2],
        "flags": x > 0,
        "sum": x.sum(keepdims=True),
        "words": np.array(["a", "b\u00e9"], object),
        "turned": np.arange(40_000, dtype=np.int64).reshape(200, 200).T,
        "empty": np.empty((0, 3), np.float32),
    }


def double(x):
    return x * 2


def strange(x):
    return np.ones(3, np.complex64)


@graphpipe.model(inputs={"x": "float32[n, 3]"}, outputs={"y": "float32[n, 3]"})
def rows(x):
    return x + 1


def total(x):
    return x.sum()

"""Models for the tests of operation: they say what they were asked, wait, leak, print, or fail in their callers' words."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import graphpipe

_FOLDER = Path(os.environ.get("TEST_FOLDER", "."))
_calls: list[str] = []


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
def double(x: Any, config: str = "") -> Any:
    """Twice its input; or what ``config`` says."""
    what, _, how = config.partition(" ")
    if what == "wait":  # until there is a file of that name
        (_FOLDER / f"{how}.begun").touch()
        while not (_FOLDER / how).exists():
            time.sleep(0.005)
    elif what == "print":
        print(how * 100_000, flush=True)
    return x * np.float32(2)


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
def slow_to_start(x: Any) -> Any:
    """Twice its input; its first call takes until there is a file ``go``."""
    if not _calls:
        _calls.append("warm-up")
        (_FOLDER / f"warming.{os.getpid()}").touch()
        while not (_FOLDER / "go").exists():
            time.sleep(0.005)
    return x * np.float32(2)


@graphpipe.model(inputs={"text": "string[n]", "ids": "int64[1,4]", "flag": "bool[]"}, outputs={"y": "float32[n]"})
def witness(text: Any, ids: Any, flag: Any) -> Any:
    """Writes down what it is asked."""
    with (_FOLDER / "witness").open("a") as file:
        file.write(f"{text.shape} {text.tolist()!r} {ids.shape} {ids.dtype} {flag.shape} {flag.dtype}\n")
    return np.zeros(text.shape, np.float32)


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
def refuses_zeros(x: Any) -> Any:
    """Has its own idea of what is an input."""
    if not x.any():
        raise ValueError("all zeros make no sense to me")
    return x * np.float32(2)


def any_shape(x: Any) -> Any:
    """Says nothing of its inputs, so nobody can make one up."""
    (_FOLDER / "called").touch()
    return x


@graphpipe.model(inputs={"text": "string[n]"}, outputs={"y": "float32[n]"})
def quotes(text: Any, config: str = "") -> Any:
    """Fails in its callers' words."""
    if config == "chained":
        try:
            return np.array([float(item) for item in text])
        except ValueError as error:
            raise LookupError(f"what is {text[0]!r} and {config}?") from error
    return np.array([float(item) for item in text])


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
def quotes_numbers(x: Any) -> Any:
    """The same for numbers."""
    raise ValueError(f"{x} of shape {x.shape}: {x[0]:.3f} is out of range, as is {int(x[1])}")


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
def slow_restart(x: Any) -> Any:
    """Twice its input; does not get warm while there is a file ``hold``."""
    while not _calls and (_FOLDER / "hold").exists():
        time.sleep(0.005)
    _calls.append("warm-up")
    return x * np.float32(2)


@graphpipe.model(inputs={"x": "float32[n]"}, outputs={"objects": "int64[1]"})
def left_to_the_collector(x: Any) -> Any:
    """How many objects a full garbage collection looks at."""
    return np.array([len(gc.get_objects())])

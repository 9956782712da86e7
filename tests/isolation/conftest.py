"""Isolated models, and a look at what they leave behind."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpipe

MODELS = Path(__file__).with_name("models.py")


def source(function: str) -> str:
    return f"{MODELS}:{function}"


def word(text: str) -> Any:
    return np.array(text.encode(), object)


def eventually(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found.update(map(int, (task / "children").read_text().split()))
    return found


def held() -> dict[str, object]:
    """The descriptors, segments and children of this process."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(re.sub(r"\[\d+\]", "", os.readlink(f"/proc/self/fd/{name}")))
    segments = Path("/proc/self/maps").read_text().count("memfd:graphpipe")
    return {"descriptors": sorted(links), "segments": segments, "children": children()}


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No descriptor, segment or process is left by the test, which runs without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        before = held()
        yield
        eventually(lambda: held() == before, f"left: {held()}, before: {before}")
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def actor() -> Iterator[graphpipe.LoadedModel]:
    """One that does what it is told, in one process; what it prints goes nowhere."""
    with graphpipe.load(source("act"), isolate=1, name="actor") as model:
        yield model


@pytest.fixture(scope="session")
def echo() -> Iterator[graphpipe.LoadedModel]:
    with graphpipe.load("echo", isolate=1) as model:
        yield model


@pytest.fixture(scope="session")
def doubles() -> Iterator[graphpipe.LoadedModel]:
    """In two processes."""
    with graphpipe.load(source("double"), isolate=2) as model:
        yield model

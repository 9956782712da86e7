"""Tensors copied to where another process sees them."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.machine import usable_cpus

__all__ = ["copy"]

Array = NDArray[Any]

# Larger tensors are copied by two threads: to start one takes about as long as to copy 1 MiB.
_IN_TWO_FROM = 8 << 20


@functools.cache
def _cpus() -> int:
    return usable_cpus()


def copy(array: Array, target: Array) -> None:
    """Copy a tensor into one of the same shape and kind, whose bytes may be in another order; bool becomes 0 and 1."""
    if target.nbytes < _IN_TWO_FROM or _cpus() < 2:
        _copy_part(array, target)
        return
    if array.flags.c_contiguous:
        array, target = array.reshape(-1), target.reshape(-1)
    # Memory that can be shown has small pages, which makes a copy half as long again: two copy at once.
    half = len(target) // 2
    copied = False

    def copy_rest() -> None:
        nonlocal copied
        _copy_part(array[half:], target[half:])
        copied = True

    thread = threading.Thread(target=copy_rest)
    try:
        thread.start()
    except RuntimeError:  # no thread can be had
        _copy_part(array, target)
        return
    _copy_part(array[:half], target[:half])
    thread.join()
    if not copied:
        copy_rest()


def _copy_part(array: Array, target: Array) -> None:
    if array.dtype == np.bool_:
        np.not_equal(array.view(np.uint8), 0, out=target)
    else:
        np.copyto(target, array)

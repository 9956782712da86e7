"""Tensors as JSON has them, lists in lists: to arrays, exactly or not at all, and what an array can say in JSON.

A number becomes a number of the tensor's type without a change that anybody could have meant otherwise: nothing wraps,
is cut, or becomes infinite; true is no 1, and 1.0 no whole number. Floating point is rounded, as everywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import InvalidRequest
from graphpipe.server.protocols.room import UNLIMITED, Room
from graphpipe.wire.dtypes import NDIM_MAX, dtype_name

__all__ = ["NotSayable", "array_of", "flattened", "sayable", "texts_of"]

Array = NDArray[Any]


class NotSayable(InvalidRequest):
    """JSON has no form for what a model answered: it can be had in another one."""


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
# By numpy's kind of a type: what its elements may be, and what they are called.
_TAKEN: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset((bool,)), "true and false"),
    "i": (frozenset((int,)), "whole numbers"),
    "u": (frozenset((int,)), "whole numbers"),
    "f": (frozenset((int, float)), "numbers"),
    "O": (frozenset((str,)), "strings"),
}
_AT_ONCE = 1 << 14


def flattened(data: Sequence[Any], what: str) -> tuple[Sequence[Any], tuple[int, ...]]:
    """The elements of lists in lists, row after row, and the shape that they are nested in.

    Raises InvalidRequest where lists of one level differ in length, or stand beside other values.
    """
    shape: tuple[int, ...] = (len(data),)
    while data and type(data[0]) is list:
        if set(map(type, data)) != {list}:
            raise InvalidRequest(f"{what} has lists and other values side by side")
        lengths = set(map(len, data))
        if len(lengths) > 1:
            raise InvalidRequest(f"{what} has rows of different lengths: {min(lengths)} and {max(lengths)}")
        if len(shape) == NDIM_MAX:
            raise InvalidRequest(f"{what} is nested more than {NDIM_MAX} times")
        shape += (lengths.pop(),)
        data = list(chain.from_iterable(data))
    return data, shape


def array_of(elements: Sequence[Any], dtype: np.dtype[Any], what: str, room: Room = UNLIMITED) -> Array:
    """Values of JSON as a vector of a type; strings as bytes. They take ``room``.

    Raises InvalidRequest for a value that has no place in it, Overloaded.
    """
    is_text = dtype.kind == "O"
    array = room.strings(len(elements)) if is_text else room.numbers(len(elements), dtype, what)
    octets = 0
    of_run = {"O": _octets, "f": _floats}.get(dtype.kind, _wholes)
    for at in range(0, len(elements), _AT_ONCE):  # in runs, so that other threads have their turn
        run = elements[at : at + _AT_ONCE]
        try:
            array[at : at + _AT_ONCE] = of_run(run, dtype)
        except _Odd as odd:
            called = _TAKEN[dtype.kind][1]
            raise InvalidRequest(f"{what} is {dtype_name(dtype)}, which takes {called}; {odd} came") from None
        except OverflowError:
            raise InvalidRequest(f"{what} has a number that {dtype_name(dtype)} cannot hold") from None
        if is_text:
            octets += sum(map(len, array[at : at + _AT_ONCE].tolist()))
    if is_text:
        room.hold(array, 0, octets)
    return array


def sayable(array: Array, what: str, how: str) -> Array:
    """Numbers as JSON can say them: in one piece, at a boundary of their type. ``how`` tells what else could be asked for.

    Raises NotSayable for NaN and infinities.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise NotSayable(f"{what} holds NaN or infinities, for which JSON has no numbers; {how}")
    return np.require(array, requirements=("C", "A"))


def texts_of(array: Array, what: str, how: str) -> list[str]:
    """Strings as JSON can say them, in one list. Raises NotSayable for one that is no UTF-8."""
    texts: list[str] = []
    flat = array.reshape(-1)
    try:
        for at in range(0, len(flat), _AT_ONCE):
            texts += [item if type(item) is str else item.decode() for item in flat[at : at + _AT_ONCE].tolist()]
    except UnicodeDecodeError:
        raise NotSayable(f"{what} holds bytes that are no text in UTF-8, which JSON cannot say; {how}") from None
    return texts


class _Odd(Exception):
    """A value has no place in a tensor of this type; the text says what it is."""


def _check(values: Iterable[Any], dtype: np.dtype[Any]) -> None:
    """Raises _Odd."""
    for other in set(map(type, values)) - _TAKEN[dtype.kind][0]:
        raise _Odd(_WORDS[other])


def _octets(run: Sequence[Any], dtype: np.dtype[Any]) -> list[bytes]:
    """Raises _Odd."""
    _check(run, dtype)
    return [text.encode() for text in run]


def _wholes(run: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    """Whole numbers, or true and false. Raises _Odd, and OverflowError for a number that the type does not reach."""
    _check(run, dtype)
    return np.array(run, dtype)


def _floats(run: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    """Raises _Odd, and OverflowError for a number that the type does not reach."""
    try:
        # Twice as fast as numpy, and refuses all but numbers, true and false.
        doubles = np.frombuffer(struct.pack(f"{len(run)}d", *run))
    except struct.error:
        _check(run, dtype)
        raise
    maybe = np.flatnonzero((doubles == 0) | (doubles == 1))  # true or false
    _check(run if len(maybe) > len(run) // 8 else map(run.__getitem__, maybe.tolist()), dtype)
    with np.errstate(over="ignore"):
        array = doubles.astype(dtype)
    if not np.isfinite(array).all():
        raise OverflowError
    return array

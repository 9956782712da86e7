"""Documents of JSON: read within limits, written with arrays in them. By orjson, which the extra ``json`` brings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import MalformedMessage, TooLarge, Unsupported
from graphpipe.words import first_line

with suppress(ImportError):  # said when a document comes, and to whoever turns a protocol on
    import orjson

__all__ = ["ASIDE_FROM", "JSON", "NEEDS_EXTRA", "aside", "in_runs", "numbers", "read", "write"]

T = TypeVar("T")

NEEDS_EXTRA = "JSON needs an extra: pip install 'graphpipe-rpc[json]'"

# What the head of an answer says of a document.
JSON = (("Content-Type", "application/json"),)

# Reading or writing so many bytes takes a tenth of a millisecond: more is work for a thread.
ASIDE_FROM = 32 * 1024

# A document is in memory as objects, which take up to 20 times its bytes, and nobody else runs while it is read.
_BYTES_MAX = 64 * 1024 * 1024
_VALUES_MAX = 1 << 22
_BLOCK_BYTES = 256 * 1024
# Several documents at once would only hold each other's memory. Of one thread's work the next begins when the last is over,
# also where whoever wanted it has left meanwhile.
_READER = ThreadPoolExecutor(1, "json")
_NUMBERS_AT_ONCE = 1 << 16
# What stands before a value: a number, a list, an object. And for how many values each counts, by its memory and time.
_BEFORE_VALUES = {ord(","): 1, ord("["): 3, ord("{"): 8}


def read(text: memoryview | bytes) -> Any:
    """The value that a document is. What it has no numbers for, NaN and infinities, is no document. A
    whole number beyond 64 bits is one of floating point.

    Raises MalformedMessage for what is no JSON, or is nested a thousand times; TooLarge for one that is too much for this
    form; Unsupported (501) without the library.
    """
    if len(text) > _BYTES_MAX:
        raise TooLarge(f"JSON of {len(text):,} bytes came, and at most {_BYTES_MAX:,} are taken; {_BINARY}")
    # An object takes three bytes at least.
    if len(text) > _VALUES_MAX // 4 and (values := _values_in(text)) > _VALUES_MAX:
        raise TooLarge(f"JSON of some {values:,} values came, and at most {_VALUES_MAX:,} are taken; {_BINARY}")
    try:
        return orjson.loads(text)
    except NameError:
        raise Unsupported(NEEDS_EXTRA, 501) from None
    except orjson.JSONDecodeError as error:
        raise MalformedMessage(f"this is no JSON: {first_line(error)}") from None


async def aside(work: Callable[..., T], *given: object) -> T:
    """What ``work`` makes of a document that is long: in a thread, where one is read after another."""
    return await asyncio.get_running_loop().run_in_executor(_READER, work, *given)


def write(value: object) -> bytes:
    """A document of a value that may hold arrays: native, in one piece, and of what JSON has numbers for."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except NameError:
        raise Unsupported(NEEDS_EXTRA, 501) from None


def numbers(array: NDArray[Any]) -> object:
    """An array of numbers for a document to hold, lists in lists as deep as it has dimensions, like the array itself; one of
    many is written in runs of rows, so that other threads have their turn.
    """
    if array.size <= _NUMBERS_AT_ONCE:
        return array
    return in_runs(array, max(1, _NUMBERS_AT_ONCE * len(array) // array.size))


def in_runs(items: Sequence[object] | NDArray[Any], at_once: int) -> object:
    """A list for a document to hold, written so many items at a time."""
    runs = [write(items[at : at + at_once])[1:-1] for at in range(0, len(items), at_once)]
    return orjson.Fragment(b"[" + b",".join(runs) + b"]")


_BINARY = "send large tensors in a binary form, or fewer rows at once"


def _values_in(text: memoryview | bytes) -> int:
    """How many values a document has, or more, where a list counts as several, and an object as many."""
    octets = np.frombuffer(text, np.uint8)
    return 1 + sum(
        weight * int(np.count_nonzero(octets[at : at + _BLOCK_BYTES] == character))
        for at in range(0, len(octets), _BLOCK_BYTES)
        for character, weight in _BEFORE_VALUES.items()
    )

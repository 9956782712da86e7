"""From arrays to what a scripted function takes, and from what it gives to what an array is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.backends.matx.spec import Takes
from graphpipe.errors import InvalidRequest
from graphpipe.words import quoted

__all__ = ["given", "taken"]

_INTEGER_MAX = 2**63 - 1
_PLAIN = {int, float, str, bytes}


def taken(matx: Any, name: str, array: NDArray[Any], takes: Takes, as_str: bool) -> Any:
    """One input as the function takes it: a text as ``bytes``, or ``str`` where it asks for that; a single number as
    Python's; a list, where it is said to take one; else an NDArray, and of texts a list.

    Raises InvalidRequest for what cannot be handed over. What cannot comes to nobody: MATXScript ends the process on some
    of it.
    """
    if array.dtype == object:
        return _texts(name, array.tolist(), takes is Takes.STR or as_str)
    if array.dtype == np.uint64 and array.size and int(array.max()) > _INTEGER_MAX:
        raise InvalidRequest(f"input {quoted(name)}: MATXScript's integers end at {_INTEGER_MAX}; {array.max()} came")
    if takes in (Takes.BYTES, Takes.STR):
        raise InvalidRequest(f"input {quoted(name)} is a text; {array.dtype} came")
    if takes is Takes.LIST or not array.ndim:
        return array.tolist()
    if array.dtype in (np.uint32, np.uint64):  # which an NDArray has not
        array = array.astype(np.int64)
    return matx.array.from_numpy(array)


def _texts(name: str, value: Any, as_str: bool) -> Any:
    if isinstance(value, list):
        return [_texts(name, each, as_str) for each in value]
    try:
        return value.decode() if as_str else value
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input {quoted(name)}: its function takes a str, and this is no UTF-8: {error}") from None


def given(matx: Any, value: Any) -> Any:
    """What a function gave with containers and numbers of Python's and arrays of numpy's. Raises TypeError for the rest."""
    runtime = matx.runtime
    if isinstance(value, runtime.NDArray):
        return value.asnumpy()
    if isinstance(value, (runtime.List, list)):
        values = list(value)
        # Mostly that is all: a look at each element one by one takes 2 us.
        return values if _PLAIN.issuperset(map(type, values)) else [given(matx, each) for each in values]
    if isinstance(value, (runtime.Tuple, tuple)):
        return tuple([given(matx, each) for each in value])
    if isinstance(value, (runtime.Dict, Mapping)):
        return {_key(key): given(matx, each) for key, each in value.items()}
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    raise TypeError(f"the module gave a {type(value).__name__}; numbers, texts, arrays, and lists of them travel")


def _key(key: Any) -> str:
    if isinstance(key, bytes):
        return key.decode()
    if isinstance(key, str):
        return key
    raise TypeError(f"the module gave a dictionary with a {type(key).__name__} for a key; keys are names of outputs")

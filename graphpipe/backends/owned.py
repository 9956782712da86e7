"""Whose memory an answer is, and who may write into an input.

An answer never changes later, and writing to it changes nothing else; an input is left as it was. What a model gives is
taken as it is where its memory is surely nobody else's: an array that this call made, which nobody refers to any more
but the answer (Python counts references, and every view, buffer and closure over an array has one). Whatever else it
gives is copied before the model's thread goes on: an array that the model keeps, an input or a part of one, memory
that something other than numpy owns. A backend that knows more about its framework's memory sees to all this itself,
and says so: ``shares_memory = False``.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import getrefcount
from typing import Any
from weakref import getweakrefcount

import numpy as np
from numpy.typing import NDArray

from graphpipe.arrays import array_of
from graphpipe.errors import InvalidRequest

__all__ = ["SURE_ABOVE_BYTES", "apart", "own", "read_only", "refuse_to_write"]

Array = NDArray[Any]

# To copy less than this takes no longer than to find out who else holds it.
SURE_ABOVE_BYTES = 4096

_COMPARED_MAX = 64

# numpy's flags: the array frees its memory itself, and the memory may be written to.
_OWN_AND_WRITABLE = 0x4 | 0x400
_CONTIGUOUS = 0x1 | 0x2


def _references(outputs: Mapping[str, Array], name: str) -> int:
    array = outputs[name]
    return getrefcount(array)


# What Python counts for an array that nobody but a dict refers to, looked at as below.
_ALONE = _references({"": np.empty(1)}, "")


def own(outputs: Mapping[str, Any], inputs: Mapping[str, Array], *, inputs_are_ours: bool) -> dict[str, Array]:
    """The outputs of a call, in arrays that nobody else holds.

    ``inputs_are_ours`` says that nobody will write to the inputs or use their memory for something else: then one that
    is read-only may be an output as it is.

    The caller must hold no reference to ``outputs`` or to an array in it. Raises ValueError for what is no array.
    """
    # A dict that the model keeps would hold each array a second time.
    outputs = dict(outputs)
    for name in outputs:
        array = outputs[name]
        if type(array) is np.ndarray and getrefcount(array) == _ALONE and not getweakrefcount(array):
            base = array.base
            if base is None:
                if array.flags.num & _OWN_AND_WRITABLE == _OWN_AND_WRITABLE:
                    if array.dtype.hasobject:
                        _own_items(array)
                    continue
            elif (
                # numpy shortens chains of views: what a plain view has as its base owns the memory.
                type(base) is np.ndarray
                and getrefcount(base) == _ALONE
                and not getweakrefcount(base)
                and base.flags.num & _OWN_AND_WRITABLE == _OWN_AND_WRITABLE
                # Elements of other views may lie on top of each other.
                and array.flags.num & _CONTIGUOUS
                and array.flags.writeable
                and not array.dtype.hasobject
            ):
                continue
        if inputs_are_ours and any(array is each for each in inputs.values()) and not array.flags.writeable:
            continue
        outputs[name] = _copied(array, name)
    return outputs


def _copied(value: Any, name: str) -> Array:
    if isinstance(value, np.ndarray):
        array = value.copy()
    else:
        try:
            array = array_of(value, f"output {name!r}").copy()
        except InvalidRequest as error:
            raise ValueError(error.message) from error
    if array.dtype.hasobject:
        _own_items(array)
    return array


def _own_items(array: Array) -> None:
    """Text that may be written to becomes bytes."""
    if not {bytes, str}.issuperset(map(type, array.ravel().tolist())):
        for i, item in enumerate(array.flat):
            if isinstance(item, bytearray | memoryview):
                array.flat[i] = bytes(item)


def read_only(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """The inputs, for a model that might write into them: the attempt fails."""
    for array in inputs.values():
        if array.flags.writeable:
            return {name: _read_only(array) for name, array in inputs.items()}
    return inputs


def refuse_to_write(error: ValueError) -> None:
    """Raise what helps whoever wrote the model, if this is how numpy says that it wrote into an input."""
    if "read-only" in str(error):
        raise ValueError(
            "the model wrote to a read-only array; inputs are read-only: have it write to a copy, x = x.copy()"
        ) from error


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def apart(outputs: dict[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a call to a framework that may have given one memory twice, or that of an input: no two of them
    share memory afterwards, nor does one with an input.
    """
    # What owns its memory was made for the caller alone. To compare each of very many with all others would take long.
    views = {name: array for name, array in outputs.items() if array.base is not None}
    held = [array for array in inputs.values() if array.nbytes]
    for name, array in views.items():
        if len(views) > _COMPARED_MAX or any(np.may_share_memory(array, each) for each in held):
            outputs[name] = array.copy()
        else:
            held.append(array)
    return outputs

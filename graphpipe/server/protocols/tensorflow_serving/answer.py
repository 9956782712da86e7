"""Good answers as JSON: in the form in which the inputs came, rows for rows and columns for columns; classes; values."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.errors import ModelFailed
from graphpipe.server.protocols.inference import Named
from graphpipe.server.protocols.jsons import in_runs, numbers, write
from graphpipe.server.protocols.lists import NotSayable, sayable, texts_of
from graphpipe.wire import Segment
from graphpipe.wire.dtypes import to_bytes, to_sendable
from graphpipe.words import quoted

__all__ = ["classes", "columns", "rows", "values"]

Array = NDArray[Any]

_ELSEWHERE = "gRPC and GraphPipe's own protocol can"
_BYTES = "_bytes"
_AS_BYTES = f"an output whose name ends in {_BYTES} comes as base64"
_VALUES_AT_ONCE = 1 << 14


def rows(outputs: Named) -> list[Segment]:
    """A prediction for each row: the value of the one output, or an object with those of all."""
    for name, array in outputs:
        if not array.ndim or array.shape[0] != outputs[0][1].shape[0]:
            raise NotSayable(
                f"output {quoted(name)} has shape {list(array.shape)}, which is not a row for each prediction; send "
                '"inputs" instead of "instances", and outputs come whole'
            )
    if len(outputs) == 1:
        return [write({"predictions": _said(*outputs[0])})]
    names = [name for name, _ in outputs]
    listed = [dict(zip(names, row, strict=True)) for row in zip(*(_items(*each) for each in outputs), strict=True)]
    wide = max(1, sum(array.size for _, array in outputs) // max(1, len(listed)))
    return [write({"predictions": in_runs(listed, max(1, _VALUES_AT_ONCE // wide))})]


def columns(outputs: Named) -> list[Segment]:
    """The value of the one output, or an object with those of all."""
    if len(outputs) == 1:
        return [write({"outputs": _said(*outputs[0])})]
    return [write({"outputs": {name: _said(name, array) for name, array in outputs}})]


def classes(outputs: Named) -> list[Segment]:
    """For each example a list of its classes, each with its score. A model gives both, or one of them."""
    found = dict(outputs)
    labels, scores = found.get("classes"), found.get("scores")
    for name, array in (("classes", labels), ("scores", scores)):
        if array is not None and array.ndim != 2:
            raise ModelFailed(f"output {name!r} has shape {list(array.shape)}: classes are said as [examples, classes]")
    if labels is None and scores is None:
        raise ModelFailed("there is no output 'classes' and no output 'scores'")
    # A label that there is not is an empty one.
    if labels is None:
        assert scores is not None
        labels = np.full(scores.shape, b"", object)
    if scores is None:
        scores = np.zeros(labels.shape, np.float32)
    if labels.shape != scores.shape:
        raise ModelFailed(f"outputs 'classes' and 'scores' have shapes {list(labels.shape)} and {list(scores.shape)}")
    said = zip(_items("classes", labels), _items("scores", scores), strict=True)
    pairs = [list(map(list, zip(*each, strict=True))) for each in said]
    return [write({"results": pairs})]


def values(outputs: Named) -> list[Segment]:
    """For each example its value."""
    array = dict(outputs).get("outputs")
    if array is None:
        raise ModelFailed("there is no output 'outputs'")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ModelFailed(f"output 'outputs' has shape {list(array.shape)}: values are said as [examples]")
    return [write({"results": _said("outputs", array)})]


def _said(name: str, value: Array) -> Any:
    """An output as a value for a document to hold."""
    what = f"output {quoted(name)}"
    _, array = to_sendable(value, what)
    if array.dtype.kind == "O":
        said = np.empty(array.size, object)
        if name.endswith(_BYTES):
            octets = [to_bytes(item, what) for item in array.reshape(-1).tolist()]
            said[:] = [{"b64": binascii.b2a_base64(each, newline=False).decode()} for each in octets]
        else:
            said[:] = texts_of(array, what, _AS_BYTES)
        return said.reshape(array.shape).tolist()
    array = sayable(array, what, _ELSEWHERE)
    if not array.ndim:
        return array[()]
    return numbers(array)


def _items(name: str, value: Array) -> Sequence[Any]:
    """What an output says of each row."""
    what = f"output {quoted(name)}"
    _, array = to_sendable(value, what)
    return _said(name, array) if array.dtype.kind == "O" else list(sayable(array, what, _ELSEWHERE))

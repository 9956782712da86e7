"""What the official FlatBuffers library reads in a message that ours take, in the words that adapters answer in.

It checks nothing, and is asked only where all others have read a message. In one thing docs/wire.md has a reader do
otherwise: errors that are malformed do not count beside outputs, so where ours have seen none, it is not asked for them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from graphpipe.wire import Type
from tests.generated import graphpipe_generated as fbs

__all__ = ["difference"]

Value = dict[str, Any]


def difference(kind: str, message: bytes, ours: Value) -> Value | None:
    """What the official library reads, where that is something else than what all of ours do."""
    try:
        theirs = _READERS[kind](message)
    except Exception as error:  # whatever it is, ours have read the message
        theirs = {"broke": f"{type(error).__name__}: {error}"}
    if kind == "infer_response" and ours["outputs"] and not ours["errors"]:
        try:
            theirs = {**_outputs(message), "errors": []}
        except Exception as error:
            theirs = {"broke": f"{type(error).__name__}: {error}"}
    return None if theirs == ours else theirs


def _request(message: bytes) -> Value:
    request = fbs.Request.GetRootAs(message)
    if request.ReqType() == fbs.Req.MetadataRequest:
        return {"type": "metadata"}
    member: Any = request.Req()
    infer = fbs.InferRequest()
    infer.Init(member.Bytes, member.Pos)
    return {
        "type": "infer",
        "config": _text(infer.Config()),
        "inputs": [_tensor(each) for each in _each(infer.InputTensors, infer.InputTensorsLength())],
        "input_names": [_text(each) for each in _each(infer.InputNames, infer.InputNamesLength())],
        "output_names": [_text(each) for each in _each(infer.OutputNames, infer.OutputNamesLength())],
    }


def _outputs(message: bytes) -> Value:
    response = fbs.InferResponse.GetRootAs(message)
    return {"outputs": [_tensor(each) for each in _each(response.OutputTensors, response.OutputTensorsLength())]}


def _infer_response(message: bytes) -> Value:
    response = fbs.InferResponse.GetRootAs(message)
    errors = [
        {"code": str(each.Code()), "message": _text(each.Message())}
        for each in _each(response.Errors, response.ErrorsLength())
    ]
    return {**_outputs(message), "errors": errors}


def _metadata_response(message: bytes) -> Value:
    meta = fbs.MetadataResponse.GetRootAs(message)
    return {
        "name": _text(meta.Name()),
        "version": _text(meta.Version()),
        "server": _text(meta.Server()),
        "description": _text(meta.Description()),
        "inputs": [_io(each) for each in _each(meta.Inputs, meta.InputsLength())],
        "outputs": [_io(each) for each in _each(meta.Outputs, meta.OutputsLength())],
    }


_READERS: dict[str, Callable[[bytes], Value]] = {
    "request": _request,
    "infer_response": _infer_response,
    "metadata_response": _metadata_response,
}


def _each(item: Callable[[int], Any], count: int) -> list[Any]:
    return [item(i) for i in range(count)]


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode()


def _tensor(tensor: Any) -> Value:
    number = tensor.Type()
    head = {"type": Type(number).name.lower(), "shape": [str(dim) for dim in _each(tensor.Shape, tensor.ShapeLength())]}
    if number == Type.STRING:
        strings = _each(tensor.StringVal, tensor.StringValLength())
        return {**head, "strings": [base64.b64encode(each).decode() for each in strings]}
    data = b"" if tensor.DataIsNone() else tensor.DataAsNumpy().tobytes()
    return {**head, "data": base64.b64encode(data).decode()}


def _io(io: Any) -> Value:
    number = io.Type()
    known = number in Type.__members__.values()
    value = {
        "name": _text(io.Name()),
        "description": _text(io.Description()),
        "shape": [str(dim) for dim in _each(io.Shape, io.ShapeLength())],
        "type": Type(number).name.lower() if known else "null",
    }
    return value if known else {**value, "type_number": number}

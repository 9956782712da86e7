"""The conformance adapter of the Python package: cases as JSON lines on stdin, results as JSON lines on stdout.

Every language has such an adapter and all speak the same lines; docs/new-client.md has them.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

# A program in a folder of its own: the checkout that it lies in comes first.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import graphpipe
from graphpipe import wire
from graphpipe.errors import (
    GraphPipeError,
    InvalidRequest,
    MalformedMessage,
    NoAnswer,
    ServiceError,
    TooLarge,
    Unsupported,
)
from graphpipe.wire.dtypes import DTYPES, type_of
from graphpipe.wire.messages import encode_metadata_request

Value = dict[str, Any]


def main() -> None:
    for line in sys.stdin:
        if line.strip():
            case = json.loads(line)
            print(json.dumps({"id": case["id"], **OPS[case["op"]](case)}), flush=True)


# --- the codec --------------------------------------------------------------------------------------------------------


def decode(case: Value) -> Value:
    message = base64.b64decode(case["bytes"])
    answers = []
    for _ in range(2):  # the second time the layout may be one that is remembered
        try:
            answers.append({"ok": True, "value": read(case["message"], message)})
        except MalformedMessage:
            answers.append({"ok": False, "error": "malformed"})
        except Unsupported:
            answers.append({"ok": False, "error": "unsupported"})
    return answers[0] if answers[0] == answers[1] else {"ok": False, "error": f"read in two ways: {answers}"}


def read(kind: str, message: bytes) -> Value:
    """What the bytes say. Raises MalformedMessage or Unsupported."""
    if kind == "metadata_response":
        meta = wire.decode_metadata_response(message)
        texts = {name: getattr(meta, name) for name in ("name", "version", "server", "description")}
        return {**texts, "inputs": _ios(meta.inputs), "outputs": _ios(meta.outputs)}
    if kind == "infer_response":
        response = wire.decode_infer_response(message)
        return _answer(response.outputs, response.errors)
    request = wire.decode_request(message)
    if isinstance(request, wire.MetadataRequest):
        return {"type": "metadata"}
    head = request.head
    names = {"input_names": list(head.input_names), "output_names": list(head.output_names)}
    return {"type": "infer", "config": head.config, "inputs": list(map(_tensor, request.inputs)), **names}


def _answer(outputs: Sequence[Any], errors: Sequence[wire.ErrorInfo] = ()) -> Value:
    failures = [{"code": str(error.code), "message": error.message} for error in errors]
    return {"outputs": list(map(_tensor, outputs)), "errors": failures}


def _tensor(array: Any) -> Value:
    kind = type_of(array.dtype)
    head = {"type": kind.name.lower(), "shape": [*map(str, array.shape)]}
    if kind is wire.Type.STRING:
        return {**head, "strings": [base64.b64encode(item).decode() for item in array.reshape(-1).tolist()]}
    return {**head, "data": base64.b64encode(array.tobytes()).decode()}


def _ios(ios: Sequence[wire.IOMetadata]) -> list[Value]:
    return list(map(_io, ios))


def _io(io: wire.IOMetadata) -> Value:
    value = {
        "name": io.name,
        "description": io.description,
        "shape": [*map(str, io.shape)],
        "type": io.type.name.lower(),
    }
    return {**value, "type_number": io.type_number} if io.type_number else value


def encode(case: Value) -> Value:
    try:
        message = write(case["message"], case["value"])
    except (InvalidRequest, TooLarge) as error:
        return {"ok": False, "error": "invalid", "message": error.message}
    return {"ok": True, "bytes": base64.b64encode(message).decode()}


def write(kind: str, value: Value) -> bytes:
    """The value as our own writer lays it out. Raises InvalidRequest or TooLarge."""
    if kind == "metadata_response":
        texts = [value[name] for name in ("name", "version", "server", "description")]
        sides = [tuple(map(_io_of, value[side])) for side in ("inputs", "outputs")]
        return wire.encode_metadata_response(wire.MetadataResponse(*texts, *sides))
    if kind == "infer_response":
        errors = [wire.ErrorInfo(int(error["code"]), error["message"]) for error in value["errors"]]
        return b"".join(wire.encode_infer_response(list(map(_array, value["outputs"])), errors))
    if value["type"] == "metadata":
        return encode_metadata_request()
    inputs = list(map(_array, value["inputs"]))
    return b"".join(wire.encode_request(inputs, value["input_names"], value["output_names"], value["config"]))


def _array(tensor: Value) -> Any:
    """An array has no other way to contradict itself than not to be made."""
    kind = wire.Type.__members__.get(tensor["type"].upper(), wire.Type.NULL)
    dtype = DTYPES[kind]
    if dtype is None or ("data" if kind is wire.Type.STRING else "strings") in tensor:
        raise InvalidRequest(f"no array has type {tensor['type']} and {', '.join(tensor)}")
    shape = [*map(int, tensor["shape"])]
    try:
        if any(dim < 0 for dim in shape):
            raise ValueError("a negative dimension")  # which reshape would work out
        if kind is not wire.Type.STRING:
            return np.frombuffer(base64.b64decode(tensor["data"]), dtype).reshape(shape)
        strings = np.empty(len(tensor["strings"]), object)
        strings[:] = [base64.b64decode(item) for item in tensor["strings"]]
        return strings.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"no array has shape {shape}: {error}") from None


def _io_of(io: Value) -> wire.IOMetadata:
    if io["type"].upper() not in wire.Type.__members__:
        raise InvalidRequest(f"there is no type {io['type']}")
    return wire.IOMetadata(io["name"], io["description"], tuple(map(int, io["shape"])), wire.Type[io["type"].upper()])


# --- calls ------------------------------------------------------------------------------------------------------------


def call(case: Value) -> Value:
    return _called(lambda: _asked(_client(case), case["value"]))


def calls(case: Value) -> Value:
    """One call after another through one client."""
    client = _client(case)
    return {"ok": True, "results": [_called(partial(_asked, client, each)) for each in case["values"]]}


def _asked(client: graphpipe.Client, value: Value) -> Value:
    return _answer(_infer(client, value))


def metadata(case: Value) -> Value:
    def ask() -> Value:
        meta = _client(case).metadata()
        return read("metadata_response", wire.encode_metadata_response(meta))

    return _called(ask)


def loops(case: Value) -> Value:
    """Loops of equal calls, all at once and through one client: one loop for each value."""
    client = _client(case)
    answers: list[Any] = [None] * len(case["values"])

    def loop(place: int, value: Value) -> None:
        try:
            first = _answer(_infer(client, value))
            for _ in range(case["calls"] - 1):
                if _answer(_infer(client, value)) != first:
                    raise NoAnswer("the answers to equal calls differ")
            answers[place] = first
        except GraphPipeError as error:
            answers[place] = error

    threads = [threading.Thread(target=loop, args=each) for each in enumerate(case["values"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        if isinstance(answer, GraphPipeError):
            return _failed(answer)
    return {"ok": True, "values": answers}


def _client(case: Value) -> graphpipe.Client:
    return graphpipe.Client(case["url"], case["timeout_ms"] / 1000 if case.get("timeout_ms") else 60.0)


def _infer(client: graphpipe.Client, value: Value) -> list[Any]:
    arrays = [_array(tensor) for tensor in value["inputs"]]
    return client.execute_multi(arrays, value["input_names"], value["output_names"], config=value["config"])


def _called(ask: Callable[[], Value]) -> Value:
    try:
        return {"ok": True, "value": ask()}
    except GraphPipeError as error:
        return _failed(error)


def _failed(error: GraphPipeError) -> Value:
    if isinstance(error, ServiceError):
        told = {"error": "server", "code": str(error.code), "status": error.http_status, "message": error.message}
        return {"ok": False, **told}
    return {"ok": False, "error": "no_answer", "message": str(error)}


OPS = {"decode": decode, "encode": encode, "call": call, "calls": calls, "metadata": metadata, "loops": loops}

if __name__ == "__main__":
    main()

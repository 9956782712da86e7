"""Callers repeat themselves: what is remembered of their calls changes no answer."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from graphpipe.server.models.service import Service
from graphpipe.server.protocols.recall import Recall
from graphpipe.server.stages.runner import ModelRunner
from graphpipe.signature import Signature, TensorSpec
from tests.faults.callers import until
from tests.front.servers import InProcess, in_process
from tests.grpc.official import Caller, caller
from tests.protocols.official import message_class
from tests.protocols.test_tensorflow_serving_messages import expected

DTYPES = {"FP32": "<f4", "INT64": "<i8", "UINT8": "u1", "BOOL": "?"}
NUMBERS = {"FP32": 1, "INT64": 9, "UINT8": 4, "BOOL": 10}


def some(rng: random.Random, datatype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    size = int(np.prod(shape)) * np.dtype(DTYPES[datatype]).itemsize
    octets = np.frombuffer(rng.randbytes(size), np.uint8)
    return (
        (octets & 1).astype(bool).reshape(shape) if datatype == "BOOL" else octets.view(DTYPES[datatype]).reshape(shape)
    )


LAYOUTS = [
    [("a", "FP32", (2, 3))],
    [("b", "FP32", (2, 3))],  # as long, under another name
    [("a", "FP32", (3, 2))],  # as long, of another shape
    [("a", "FP32", (2, 3)), ("c", "INT64", (4,))],
    [("a", "INT64", (3,)), ("c", "FP32", (8,))],
    [("a", "UINT8", (24,))],
    [("a", "BOOL", (24,))],
    [("a", "FP32", (0, 3)), ("c", "UINT8", ())],
    [("a", "FP32", (0, 7)), ("c", "UINT8", ())],
]


def test_calls_of_all_layouts_by_turns_are_answered_each_with_its_own(call: Caller):
    rng = random.Random(11)
    for _ in range(150):
        tensors = [(name, datatype, some(rng, datatype, shape)) for name, datatype, shape in rng.choice(LAYOUTS)]
        answer = call.infer("echo", *tensors, id=rng.choice(["", "", "one"]))
        assert [(o.name, o.datatype, tuple(o.shape)) for o in answer.outputs] == [
            (name, datatype, array.shape) for name, datatype, array in tensors
        ]
        assert list(answer.raw_output_contents) == [array.tobytes() for _, _, array in tensors]
        assert answer.model_name == "echo"


def test_predictions_of_all_layouts_by_turns_are_answered_each_with_its_own(call: Caller):
    rng = random.Random(12)
    for _ in range(150):
        inputs, arrays = {}, {}
        for name, datatype, shape in rng.choice(LAYOUTS):
            arrays[name] = array = some(rng, datatype, shape)
            proto = message_class("tensorflow.serving.TensorProto")(dtype=NUMBERS[datatype])
            for size in shape:
                proto.tensor_shape.dim.add(size=size)
            if datatype == "FP32" and rng.random() < 0.3:
                proto.float_val.extend(np.nan_to_num(array, posinf=0, neginf=0).ravel().tolist())
                arrays[name] = np.nan_to_num(array, posinf=0, neginf=0)
            elif datatype == "INT64" and rng.random() < 0.3:
                proto.int64_val.extend(array.ravel().tolist())
            else:
                proto.tensor_content = array.tobytes()
            inputs[name] = proto
        answer = call("Predict", model_spec={"name": "echo"}, inputs=inputs)
        back = {name: expected(proto) for name, proto in answer.outputs.items()}
        assert {name: array.tobytes() for name, array in back.items()} == {  # type: ignore[union-attr]
            name: array.tobytes() for name, array in arrays.items()
        }


def test_what_does_not_fit_the_model_is_refused_each_time(call: Caller):
    for _ in range(3):
        with pytest.raises(Exception, match="there is no input"):
            call.infer("simple", ("x", "INT32", np.zeros((1, 4), "<i4")))


class Adds:
    """Adds a number."""

    signature = Signature((TensorSpec("x", np.dtype("f4"), ("n",)),), (TensorSpec("y", np.dtype("f4"), ("n",)),))

    def __init__(self, number: float) -> None:
        self.number = number
        self.closed = False

    def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
        return {"y": inputs["x"] + np.float32(self.number)}

    def close(self) -> None:
        self.closed = True


def test_a_model_that_was_put_in_place_of_another_answers_the_calls_that_are_remembered():
    old = Adds(1)
    proto = message_class("tensorflow.serving.TensorProto")(dtype=1, tensor_content=bytes(8))
    proto.tensor_shape.dim.add(size=2)

    def answers(call: Caller) -> list[Any]:
        infer = call.infer("m", ("x", "FP32", np.zeros(2, "<f4")))
        predict = call("Predict", model_spec={"name": "m"}, inputs={"x": proto})
        return [np.frombuffer(infer.raw_output_contents[0], "<f4").tolist(), expected(predict.outputs["y"]).tolist()]  # type: ignore[union-attr]

    with in_process({"m": old}) as server, caller(server) as call:
        assert answers(call) == answers(call) == [[1, 1], [1, 1]]
        _swap(server, Adds(2))
        assert answers(call) == [[2, 2], [2, 2]]
        until(lambda: old.closed)


def _swap(server: InProcess, new: Any) -> None:
    directory = server.app.directory

    def swap() -> None:
        directory.put(Service("m", new, ModelRunner(new, "m", 1), directory.find("m").meter))

    server.ask(swap)


def test_only_views_of_a_message_are_remembered():
    message = memoryview(bytes(range(100)))
    inside = np.ndarray((2, 3), "<f4", message, 17)
    for others in ([np.zeros(3, "<f4")], [np.zeros(6, "<f4").reshape(2, 3)], [inside, np.ones(3, "<i8")[:2]], []):
        recall: Recall[str] = Recall()
        recall.keep(message, "said", others)
        assert recall.find(message) is None
    recall = Recall()
    recall.keep(message, "said", [inside])
    other = bytearray(message)
    other[17:41] = bytes(24)
    found = recall.find(memoryview(bytes(other)))
    assert found is not None
    assert found[0] == "said"
    assert found[1][0].tolist() == [[0, 0, 0], [0, 0, 0]]
    other[16] = 0
    assert recall.find(memoryview(bytes(other))) is None
    recall.forget()
    assert recall.find(message) is None

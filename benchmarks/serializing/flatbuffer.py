"""The official FlatBuffers library with the classes that its compiler makes of our schema.

It writes into a buffer that has the right size from the start, and takes the array's bytes in one piece; it reads with
the classes, which check nothing.
"""

from __future__ import annotations

import flatbuffers
import numpy as np

from benchmarks.codec import official_decode, official_encode
from benchmarks.serializing.codec import Array, Codec, Parts, Way
from graphpipe.wire import Type
from tests.generated import graphpipe_generated as fbs


def write_response(array: Array) -> Parts:
    builder = flatbuffers.Builder(array.nbytes + 1024)
    content = builder.CreateNumpyVector(array.reshape(-1).view(np.uint8))
    fbs.TensorStartShapeVector(builder, array.ndim)
    for dim in reversed(array.shape):
        builder.PrependInt64(dim)
    shape = builder.EndVector()
    fbs.TensorStart(builder)
    fbs.TensorAddType(builder, int(Type.FLOAT32))
    fbs.TensorAddShape(builder, shape)
    fbs.TensorAddData(builder, content)
    tensor = fbs.TensorEnd(builder)
    fbs.InferResponseStartOutputTensorsVector(builder, 1)
    builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    fbs.InferResponseStart(builder)
    fbs.InferResponseAddOutputTensors(builder, tensors)
    builder.Finish(fbs.InferResponseEnd(builder))
    return [builder.Output()]


def read_response(body: bytes) -> Array:
    tensor = fbs.InferResponse.GetRootAs(body).OutputTensors(0)
    shape = [tensor.Shape(i) for i in range(tensor.ShapeLength())]
    array: Array = tensor.DataAsNumpy().view(np.float32).reshape(shape)
    return array


WAYS = {
    "flatbuffers": Way(
        Codec(lambda array: [official_encode(array, array.nbytes)], official_decode),
        Codec(write_response, read_response),
    )
}

"""TensorFlow Serving's messages, by the two functions that TensorFlow has for their tensors."""

from __future__ import annotations

from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

# isort: split
import tensorflow as tf  # where those are not, seconds are not spent on it

from benchmarks.serializing.codec import Array, Codec, Parts, Way


def write_request(array: Array) -> Parts:
    message = PredictRequest()
    message.model_spec.name = "m"
    message.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
    return [message.SerializeToString()]


def read_request(body: bytes) -> Array:
    array: Array = tf.make_ndarray(PredictRequest.FromString(body).inputs["x"])
    return array


def write_response(array: Array) -> Parts:
    message = PredictResponse()
    message.model_spec.name = "m"
    message.outputs["y"].CopyFrom(tf.make_tensor_proto(array))
    return [message.SerializeToString()]


def read_response(body: bytes) -> Array:
    array: Array = tf.make_ndarray(PredictResponse.FromString(body).outputs["y"])
    return array


WAYS = {"tensorflow-serving": Way(Codec(write_request, read_request), Codec(write_response, read_response))}

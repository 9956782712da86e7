"""Callers of PredictionService: TF-Serving's own stub, one channel, threads that block.

python prediction_client.py HOST:PORT INPUTS

What is timed has both conversions in it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import callers
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def main() -> None:
    channel = grpc.insecure_channel(sys.argv[1], options=UNLIMITED)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask(model: str, array: Any) -> Any:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
        return tf.make_ndarray(stub.Predict(request, 600).outputs["y"])

    callers.answer_lines(sys.argv[2], ask, lambda *told: callers.in_threads(ask, *told))


if __name__ == "__main__":
    main()

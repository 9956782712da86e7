"""TF-Serving's protocol in Python: its PredictionService, by grpcio's threads. It is not TF-Serving itself.

    python prediction_server.py NAME=PATH...

Messages are made and read by TensorFlow's own functions, as the protocol's users do.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import grpc
import runtime
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, as the protocol calls it, of models with one input ``x`` and one output ``y``."""

    def __init__(self, models: dict[str, runtime.Model]) -> None:
        self._models = models

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        result = self._models[request.model_spec.name](tf.make_ndarray(request.inputs["x"]))
        response = predict_pb2.PredictResponse()
        response.outputs["y"].CopyFrom(tf.make_tensor_proto(result))
        return response


def main() -> None:
    runtime.end_with_stdin()
    server = grpc.server(ThreadPoolExecutor(runtime.THREADS), options=UNLIMITED)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(runtime.named(sys.argv[1:])), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()

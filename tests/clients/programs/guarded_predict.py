"""tensorflow-serving-api over TLS, without a key and with one: python guarded_predict.py HOST:PORT AUTHORITY.pem KEY"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import grpc
import tensorflow as tf
from asking import PAIR, say, told
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

address, authority, key = sys.argv[1:]
with grpc.secure_channel(address, grpc.ssl_channel_credentials(Path(authority).read_bytes())) as channel:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "simple"
    for name, array in PAIR.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    for question, metadata in (("without", ()), ("with", (("authorization", f"Bearer {key}"),))):
        try:
            answer = stub.Predict(request, 30, metadata=metadata)
            say("guarded", question, "grpc", answer=told(tf.make_ndarray(answer.outputs["OUTPUT0"])))
        except grpc.RpcError as error:
            say("guarded", question, "grpc", error=error.details(), status=str(error.code()))

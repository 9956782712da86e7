"""The stubs of tensorflow-serving-api over grpcio, and TensorFlow's own tensors: python predict_api.py HOST:PORT"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import grpc
import tensorflow as tf
from asking import ASKS, MANY, NEXT, RECORDED, SHAPES, SLOW, Ask, say, told
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CODINGS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate, "raw": grpc.Compression.NoCompression}


def request_of(ask: Ask) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = ask.model
    if ask.version:
        request.model_spec.version.value = int(ask.version)
    for name, array in ask.inputs.items():
        tensor = tf.make_tensor_proto(array, shape=array.shape)
        if name in ask.shapes:
            tensor.tensor_shape.CopyFrom(tf.TensorShape(None).as_proto())
            tensor.tensor_shape.unknown_rank = False
            for size in ask.shapes[name]:
                tensor.tensor_shape.dim.add().size = size
        request.inputs[name].CopyFrom(tensor)
    request.output_filter.extend(ask.outputs)
    return request


def main(address: str) -> None:
    channel = grpc.insecure_channel(address, options=LIMITS)
    predicting = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(ask: Ask, way: str, request: Any = None, timeout: float = 30) -> None:
        try:
            answer = predicting.Predict(request or request_of(ask), timeout, compression=CODINGS.get(way))
        except grpc.RpcError as error:
            say(ask.subject, ask.name, way, error=error.details(), status=str(error.code()))
            return
        spec = answer.model_spec
        say(
            ask.subject,
            ask.name,
            way,
            outputs={name: told(tf.make_ndarray(tensor)) for name, tensor in answer.outputs.items()},
            model_name=spec.name,
            model_version=str(spec.version.value) if spec.HasField("version") else "",
        )

    for ask in [each for each in ASKS if not each.said]:
        predict(ask, "raw")
    for coding in ("gzip", "deflate"):
        for ask in [*SHAPES, MANY[0], MANY[4]]:
            predict(ask, coding)
    for ask in MANY:
        request = request_of(ask)
        del request.output_filter[:]
        predict(ask, "unnamed", request)
    # Typed values by hand: one for all, and an element type that make_tensor_proto packs.
    request = request_of(MANY[0])
    request.inputs["INPUT1"].CopyFrom(tf.make_tensor_proto(3, tf.int32, [1, 16]))
    predict(MANY[0], "one-for-all", request)

    def page(name: str, call: Any, request: Any) -> None:
        try:
            say("pages", name, "grpc", answer=MessageToDict(call(request, 30), preserving_proto_field_name=True))
        except grpc.RpcError as error:
            say("pages", name, "grpc", error=error.details(), status=str(error.code()))

    for model in ("simple", "mixed", "nobody"):
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        metadata.model_spec.name = model
        page(f"metadata {model}", predicting.GetModelMetadata, metadata)
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = model
        page(f"status {model}", models.GetModelStatus, status)
    if not RECORDED:
        predict(SLOW, "raw", timeout=0.5)
    predict(NEXT, "raw")
    channel.close()


if __name__ == "__main__":
    main(sys.argv[1])

"""Open Inference over gRPC as its documents have one write it: grpc.aio, generated classes, arrays in and arrays out.

    python grpc_server.py PORT PROTO

The classes are generated from the messages of PROTO as it starts.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_tools import protoc

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
SERVICE = """
service GRPCInferenceService {
  rpc ModelInfer(ModelInferRequest) returns (ModelInferResponse) {}
}
"""
DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32, "UINT8": np.uint8}
DATATYPES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


def generated(proto: Path) -> tuple[Any, Any]:
    """The modules of the protocol's messages and of its service."""
    folder = tempfile.mkdtemp(prefix="stubs")
    text = Path(folder, proto.name)
    text.write_text(proto.read_text() + SERVICE)
    if protoc.main(["protoc", f"-I{folder}", f"--python_out={folder}", f"--grpc_python_out={folder}", str(text)]):
        sys.exit(f"no classes were generated from {proto}")
    sys.path.insert(0, folder)
    return importlib.import_module(f"{proto.stem}_pb2"), importlib.import_module(f"{proto.stem}_pb2_grpc")


async def serve(port: int, proto: Path) -> None:
    messages, services = generated(proto)

    class Echo(services.GRPCInferenceServiceServicer):  # type: ignore[misc, name-defined]
        async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
            arrays = {
                tensor.name: np.frombuffer(data, DTYPES[tensor.datatype]).reshape(tensor.shape)
                for tensor, data in zip(request.inputs, request.raw_input_contents, strict=True)
            }
            answer = messages.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
            for name, array in arrays.items():
                answer.outputs.add(name=name, datatype=DATATYPES[array.dtype], shape=array.shape)
                answer.raw_output_contents.append(array.tobytes())
            return answer

    server = grpc.aio.server(options=UNLIMITED)
    services.add_GRPCInferenceServiceServicer_to_server(Echo(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))

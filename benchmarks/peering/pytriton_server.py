"""PyTriton: a Triton Inference Server, whose Python backend hands requests to this process over shared memory.

MODELS=FOLDER python pytriton_server.py PORT GRPC_PORT
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from models import CALLS_AT_ONCE, SHAPES, Model
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

OUTPUTS = {"identity": (-1, 256), "squeezenet": (-1, 1000, 1, 1)}


def answers(name: str) -> Any:
    """A function as PyTriton calls it without batching: with a list of requests, here one."""
    model = Model(name)

    def infer(requests: list[Any]) -> list[dict[str, Any]]:
        return [{"y": model(request["x"])} for request in requests]

    return infer


if __name__ == "__main__":
    config = TritonConfig(
        http_port=int(sys.argv[1]),
        http_address="127.0.0.1",
        grpc_port=int(sys.argv[2]),
        grpc_address="127.0.0.1",
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        for name in SHAPES:
            triton.bind(
                name,
                [answers(name) for _ in range(CALLS_AT_ONCE)],
                inputs=[Tensor(name="x", dtype=np.float32, shape=SHAPES[name])],
                outputs=[Tensor(name="y", dtype=np.float32, shape=OUTPUTS[name])],
                config=ModelConfig(batching=False),
            )
        triton.serve()

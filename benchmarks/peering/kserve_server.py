"""KServe's model server: the Open Inference Protocol with binary tensors, over FastAPI.

It listens on every interface, whatever it is told.

    MODELS=FOLDER python kserve_server.py PORT
"""

from __future__ import annotations

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kserve
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from models import CALLS_AT_ONCE, SHAPES, Model

THREADS = ThreadPoolExecutor(CALLS_AT_ONCE)


class Rows(kserve.Model):
    """A model of models.py."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.model = Model(name)
        self.ready = True

    async def predict(
        self, payload: InferRequest, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        rows: InferInput = payload.inputs[0]
        answer = await asyncio.get_running_loop().run_in_executor(THREADS, self.model, rows.as_numpy())
        output = InferOutput("y", list(answer.shape), "FP32")
        output.set_data_from_numpy(answer, binary_data=True)
        return InferResponse(
            payload.id or "",
            self.name,
            [output],
            requested_outputs=payload.request_outputs,  # where the request says that they are to be binary
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    logging.disable(logging.INFO)  # four lines a request
    server = kserve.ModelServer(
        http_port=int(sys.argv[1]), workers=1, enable_grpc=False, enable_docs_url=False, access_log_format=None
    )
    server.start([Rows(name) for name in SHAPES])

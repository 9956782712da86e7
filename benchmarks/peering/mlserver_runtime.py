"""MLServer: the Open Inference Protocol as JSON; a runtime of one's own, with threads for the calls.

Its pool of processes (parallel_workers) is left out: its workers do not start under the uvloop that it installs.

    MODELS=FOLDER mlserver start FOLDER_WITH_SETTINGS
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from models import CALLS_AT_ONCE, Model

THREADS = ThreadPoolExecutor(CALLS_AT_ONCE)


class Rows(MLModel):
    """A model of models.py."""

    async def load(self) -> bool:
        self.model = Model(self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        answer = await asyncio.get_running_loop().run_in_executor(THREADS, self.model, rows)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", answer)])

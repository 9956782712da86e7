"""LitServe: uvicorn in front, the model in processes of its own, requests as JSON with the bytes in base64.

MODELS=FOLDER python litserve_server.py PORT
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import litserve
import numpy as np
from models import CALLS_AT_ONCE, Model


class Rows(litserve.LitAPI):
    """One model at one path."""

    def setup(self, device: str) -> None:
        self.model = Model(self.api_path.strip("/"))

    def decode_request(self, request: dict[str, str]) -> Any:
        return np.frombuffer(base64.b64decode(request["x"]), np.float32).reshape(self.model.shape)

    def predict(self, x: Any) -> Any:
        return self.model(x)

    def encode_response(self, output: Any) -> dict[str, str]:
        return {"y": base64.b64encode(output.tobytes()).decode()}


if __name__ == "__main__":
    server = litserve.LitServer(
        [Rows(api_path="/identity"), Rows(api_path="/squeezenet")],
        accelerator="cpu",
        workers_per_device=CALLS_AT_ONCE,
        fast_queue=True,
        timeout=False,
    )
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="warning")

"""mosec: a front in Rust, and the model in processes of its own.

Bytes in, bytes out: deserialize and serialize are what mosec's users write for anything but its default, JSON. No
batching, so that a request waits for nobody.

    MODELS=FOLDER python mosec_server.py --port P --address 127.0.0.1 --timeout 60000
"""

from __future__ import annotations

from typing import Any

import numpy as np
from models import CALLS_AT_ONCE, Model
from mosec import Runtime, Server, Worker


class Rows(Worker):
    """Calls of one model, one after another; mosec runs as many of these processes as it is told."""

    name = ""

    def __init__(self) -> None:
        self.model = Model(self.name)

    def deserialize(self, data: bytes) -> Any:
        return np.frombuffer(data, np.float32).reshape(self.model.shape)

    def forward(self, data: Any) -> Any:
        return self.model(data)

    def serialize(self, data: Any) -> bytes:
        return bytes(data.tobytes())


class Identity(Rows):
    name = "identity"


class Squeezenet(Rows):
    name = "squeezenet"


if __name__ == "__main__":
    server = Server()
    server.register_runtime(
        {
            "/identity": [Runtime(Identity, num=CALLS_AT_ONCE, max_batch_size=1)],
            "/squeezenet": [Runtime(Squeezenet, num=CALLS_AT_ONCE, max_batch_size=1)],
        }
    )
    server.run()

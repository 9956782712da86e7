"""A stream of tritonclient.grpc, which it leaves open while it waits: python stream_triton.py HOST:PORT"""

from __future__ import annotations

import contextlib
import queue
import sys
from typing import Any

import tritonclient.grpc as triton
from asking import PAIR, say, told
from tritonclient.utils import InferenceServerException

PATIENCE_S = 10

with triton.InferenceServerClient(sys.argv[1]) as client:
    inputs = []
    for name, array in PAIR.items():
        inputs.append(triton.InferInput(name, list(array.shape), "INT32"))
        inputs[-1].set_data_from_numpy(array)
    came: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: came.put((result, error)))
    with contextlib.suppress(InferenceServerException):  # refused by now, as the callback is told
        client.async_stream_infer("simple", inputs)
    try:
        result, error = came.get(timeout=PATIENCE_S)
        say("stream", "one", "grpc", error=error and error.message(), status=error and error.status())
    except queue.Empty:
        say("stream", "one", "grpc", error=f"nothing came for {PATIENCE_S} s", status="")
    client.stop_stream(cancel_requests=True)
    say("stream", "after it", "grpc", answer=told(client.infer("simple", inputs).as_numpy("OUTPUT0")))

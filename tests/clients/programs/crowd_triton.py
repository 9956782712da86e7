"""Hundreds of calls of tritonclient at once, on one client of each kind: python crowd_triton.py HOST:PORT"""

from __future__ import annotations

import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as by_grpc
import tritonclient.http as by_http
from asking import say

CALLS = 500


def inputs_of(library: Any, number: int) -> list[Any]:
    """Each call has numbers of its own, so that an answer is nobody else's."""
    inputs = []
    for name, value in (("INPUT0", number), ("INPUT1", 1)):
        inputs.append(library.InferInput(name, [1, 16], "INT32"))
        inputs[-1].set_data_from_numpy(np.full((1, 16), value, np.int32))
    return inputs


def is_right(answer: Any, number: int) -> bool:
    return bool((answer.as_numpy("OUTPUT0") == number + 1).all() and (answer.as_numpy("OUTPUT1") == number - 1).all())


with by_http.InferenceServerClient(sys.argv[1], concurrency=32) as client:
    calls = [client.async_infer("simple", inputs_of(by_http, number)) for number in range(CALLS)]
    right = sum(is_right(each.get_result(timeout=60), number) for number, each in enumerate(calls))
    say("crowd", "async_infer", "http", right=right, calls=CALLS)

with by_grpc.InferenceServerClient(sys.argv[1]) as client:
    came: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    for number in range(CALLS):
        client.async_infer(
            "simple",
            inputs_of(by_grpc, number),
            lambda result, error, number=number: came.put((number, result, error)),
            client_timeout=60,
        )
    right, errors = 0, set()
    for _ in range(CALLS):
        number, result, error = came.get(timeout=60)
        if error is None:
            right += is_right(result, number)
        else:
            errors.add(f"{error.status()}: {error.message()}")
    say("crowd", "async_infer", "grpc", right=right, calls=CALLS, errors=sorted(errors))

"""Callers that do not read, or hardly write: they are let go, and their neighbours do not notice."""

from __future__ import annotations

import select
import socket
import time

import numpy as np
import pytest

from graphpipe.wire import encode_request
from tests.faults.callers import Callers, until
from tests.faults.conftest import Fault
from tests.faults.servers import DOUBLE, Serve, metric
from tests.raw_http import Wire, connect, request
from tests.serving import ROOT, Server

BODY = b"".join(encode_request([np.zeros(4_000_000, np.float32)]))


def bytes_in_flight(server: Server) -> float:
    return metric(server.url, "graphpipe_in_flight_bytes")


def test_a_caller_that_does_not_read_is_let_go_and_its_memory_comes_back(serve: Serve, fault: Fault) -> None:
    # The answer of echo is the request's own memory.
    server = serve(*DOUBLE, "-m", "echo", "--send-timeout-s", "1", "-v", cwd=ROOT)
    with Callers([server.url], 2) as callers, connect(server.url) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(request("POST", "/models/echo", BODY))
        began = time.monotonic()
        until(lambda: "did not read" in server.log)
        until(lambda: bytes_in_flight(server) == 0)
        until(lambda: metric(server.url, "graphpipe_connections") <= 2 + 1)  # the callers, and who asks for metrics
        recovery_s = time.monotonic() - began
        callers.enough()
    assert callers.wrong == 0
    assert set(callers.seen) == {"ok"}
    saw = f"it: cut in the middle of its answer; its neighbours: {callers}"
    fault("a caller reads nothing of an answer of 16 MB, --send-timeout-s 1", saw, recovery_s)


@pytest.mark.parametrize(("path", "by"), [("/", "the front"), ("/%61", "aiohttp")])
def test_a_caller_that_hardly_writes_is_told_so_and_its_memory_comes_back(
    serve: Serve, path: str, by: str, fault: Fault
) -> None:
    server = serve(*DOUBLE, "--body-timeout-s", "1", cwd=ROOT)
    with Callers([server.url], 2) as callers, Wire(server.url) as slow:
        slow.send(request("POST", path, content_length=str(len(BODY))))
        began = time.monotonic()
        while not select.select([slow.socket], [], [], 0.05)[0]:
            assert time.monotonic() - began < 60, "it may write a byte now and then for ever"
            slow.send(b"x")
        answer = slow.answer()
        assert answer.status == 408
        assert "--body-timeout-s" in answer.text
        until(lambda: bytes_in_flight(server) == 0)
        recovery_s = time.monotonic() - began
        assert slow.ended()
        callers.enough()
    assert callers.wrong == 0
    assert set(callers.seen) == {"ok"}
    saw = f"it: 408 that names --body-timeout-s; its neighbours: {callers}"
    fault(f"a caller sends 20 bytes a second of a body of 16 MB to {by}, --body-timeout-s 1", saw, recovery_s)

"""Callers who hang up take along what was under way for them, whichever way their request came in."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from graphpipe.server.http.connection import Connection
from graphpipe.wire import encode_request
from tests.front.servers import Function, in_process
from tests.front.test_room import ENDS, WAYS, Moody, assert_nothing_is_left, request
from tests.raw_http import Wire

BODY = b"".join(encode_request([np.zeros(100_000, np.float32)]))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.005)


@pytest.mark.parametrize("way", WAYS)
def test_who_hangs_up_is_no_longer_in_flight_and_his_memory_comes_back(way: str) -> None:
    began, may_go = threading.Event(), threading.Event()

    def slow(inputs: Mapping[str, Any]) -> dict[str, Any]:
        began.set()
        assert may_go.wait(10)
        return {"y": inputs["x"]}

    with in_process({"m": Function(slow)}) as server:
        url = urlsplit(server.url)
        with socket.create_connection((url.hostname, url.port)) as caller:
            caller.sendall(request(way, BODY))
            assert began.wait(10)
            assert server.ask(lambda: server.app.state.in_flight) == 1
        # The model still runs: nobody waits for it any more.
        server.pass_time()
        until(lambda: server.ask(lambda: server.app.state.in_flight) == 0)
        may_go.set()
        until(lambda: server.app.pool.leased_bytes == 0)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_a_connection_that_is_gone_waits_for_the_collector(way: str) -> None:
    def there() -> int:
        return sum(type(thing) is Connection for thing in gc.get_objects())

    moody = Moody()
    limits = {"body_bytes_max": 4 << 20, "body_timeout_s": 0.5, "send_timeout_s": 0.5}
    with in_process({"m": Function(moody)}, threads=4, **limits) as server:
        gc.collect()
        gc.disable()
        try:
            for end in ENDS:
                moody.may_go.clear()
                with Wire(server.url) as wire:
                    end(wire, way, 8)
                moody.may_go.set()
                assert_nothing_is_left(server)
                assert server.ask(there) == 0, end.__name__
        finally:
            gc.enable()

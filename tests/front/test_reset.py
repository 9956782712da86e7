"""Who has reset his connection before anybody looked at it: he has no address any more, and would escape his limits."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from graphpipe.wire import encode_request
from tests.front.servers import Function
from tests.grpc.frames import PREFACE, SETTINGS, abort, call, frame
from tests.grpc.servers import grpc_server
from tests.raw_http import connect, request

BODY = b"".join(encode_request([[1.0, 2.0]]))
SENT = {
    "hot": request("POST", "/models/m", BODY),
    "odd": request("POST", "/models/m", BODY, expect="nothing"),
    "HTTP/2": PREFACE + frame(SETTINGS) + call(1, BODY),
}


@pytest.mark.parametrize("way", [*SENT, "HTTP/2 alone"])
def test_nothing_is_done_for_who_is_gone_before_he_could_be_counted(way: str):
    asked: list[Mapping[str, Any]] = []

    def model(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(inputs)
        return {"y": inputs["x"]}

    models = {"m": Function(model), "echo": Function(model)}
    with grpc_server(models, grpc_listen="127.0.0.1:0", caller_requests_max=1) as server:
        url, sent = (server.grpc_url, SENT["HTTP/2"]) if way == "HTTP/2 alone" else (server.url, SENT[way])
        for rude in (False, True):  # who waits is answered, so what is sent is right
            busy, may_go_on = threading.Event(), threading.Event()
            server.loop.call_soon_threadsafe(lambda busy=busy, go=may_go_on: (busy.set(), go.wait(10)))
            assert busy.wait(10)
            caller = connect(url)
            caller.sendall(sent)
            if rude:
                abort(caller)
            may_go_on.set()
            if not rude:
                with caller:
                    assert caller.recv(100)
                    while not asked:
                        assert caller.recv(65536)
                asked.clear()
        for _ in range(20):
            server.ask(lambda: None)
        assert asked == []
        assert server.ask(lambda: server.app.hub.connections) == set()
        assert server.ask(lambda: server.app.state.in_flight) == 0

"""Whatever stands between a request and the model does for this protocol what it does for ours."""

from __future__ import annotations

import concurrent.futures
import gc
import json
import logging
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.backends.echo import Echo
from tests.front.servers import Function, InProcess, Way, in_process
from tests.open_inference.oracle import WAYS, post
from tests.open_inference.test_service import Doubling, Told, until
from tests.raw_http import Answer, Wire, call

PREDICT = "/v1/models/m:predict"


def body_of(rows: Any) -> bytes:
    return json.dumps({"instances": rows}).encode()


def ask(server: InProcess, rows: Any, **fields: str) -> Answer:
    return call(server.url, "POST", PREDICT, body_of(rows), **fields)


def predictions(answer: Answer) -> Any:
    assert answer.status == 200, answer.text
    return json.loads(answer.body)["predictions"]


def test_rows_of_both_protocols_share_batches() -> None:
    model = Doubling()
    limits = {"batch_rows_max": 16, "batch_wait_ms": 20.0}
    with in_process({"m": model}, threads=1, model_settings=limits) as server:

        def foreign(i: int) -> Any:
            return predictions(ask(server, [[i, i + 1, 0.5]]))[0]

        def ours(i: int) -> Any:
            with graphpipe.Client(server.url) as client:
                return client.infer({"x": np.array([[i, i + 1, 0.5]], "f4")})["y"][0].tolist()

        calls = [partial(foreign if i % 2 else ours, i) for i in range(32)]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            came = list(pool.map(lambda each: each(), calls))
    assert came == [[2.0 * i, 2.0 * i + 2, 1.0] for i in range(32)]
    assert sum(model.calls) == 32
    assert max(model.calls) > 1


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, Told])
def test_a_model_that_fails_in_whatever_way_takes_nobody_along(quick: bool, error: type[BaseException]) -> None:
    def fail(inputs: Any) -> Any:
        if inputs["x"].ravel()[0] < 0:
            raise error("what it holds")
        return {"y": inputs["x"]}

    with in_process({"m": Function(fail, quick)}) as server:
        for way in ("hot", "odd"):
            for rows in ([[-5.0]], [[-5.0] * 100] * 100):
                failed = post({"hot": Way(server), "odd": Way(server)}, way, PREDICT, body_of(rows))
                assert failed.status == 500
                said = json.loads(failed.body)
                assert set(said) == {"error"}
                assert "what it holds" not in said["error"]
        assert predictions(ask(server, [1.5])) == [1.5]


@pytest.mark.parametrize("way", ["hot", "odd"])
@pytest.mark.parametrize("number", [1, 20_000])
def test_a_model_that_hangs_costs_its_caller_his_deadline(way: str, number: int) -> None:
    may_go = threading.Event()

    def hang(inputs: Any) -> Any:
        if inputs["x"].ravel()[0] < 0:
            assert may_go.wait(30)
        return {"y": inputs["x"]}

    with in_process({"m": Function(hang)}) as server:
        ways = {"hot": Way(server), "odd": Way(server)}
        try:
            answer = post(ways, way, PREDICT, body_of([-1.0] * number), None, "GraphPipe-Timeout-Ms: 100")
            assert answer.status == 504
            assert "deadline" in json.loads(answer.body)["error"]
            assert predictions(ask(server, [1.5])) == [1.5]
        finally:
            may_go.set()


def test_each_request_has_its_access_line_and_is_counted_by_protocol(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "graphpipe.access")
    with in_process({"m": Echo()}, access_lines_per_s=10_000) as server:
        assert ask(server, [1, 2, 3], x_request_id="seven").status == 200
        assert call(server.url, "POST", PREDICT, b"{").status == 400
        assert call(server.url, "GET", "/v1/models/m").status == 200
        page = call(server.url, "GET", "/metrics").text
    lines = [record.access for record in caplog.records if record.name == "graphpipe.access"]  # type: ignore[attr-defined]
    assert [(line.status, line.method, line.path, line.model, line.rows) for line in lines[:3]] == [
        (200, "POST", PREDICT, "m", 3),
        (400, "POST", PREDICT, "m", 0),
        (200, "GET", "/v1/models/m", "m", 0),
    ]
    assert lines[0].request_id == "seven"
    assert 'graphpipe_requests_total{code="200",model="m",protocol="tensorflow_serving"} 2.0' in page
    assert 'graphpipe_requests_total{code="400",model="m",protocol="tensorflow_serving"} 1.0' in page


@pytest.mark.parametrize("way", WAYS)
def test_no_body_stays_leased_after_its_answer_whatever_it_was(ways: dict[str, Way], way: str) -> None:
    pool = ways[way if way in ways else "hot"].server.app.pool
    for rows in ([1.5], [[1.5] * 500] * 100, ["12345"] * 20_000):
        body = body_of(rows)
        for sent in (body, body[:-1], body.replace(b"]}", b", null]}")):
            post(ways, way, "/v1/models/echo:predict", sent)
    assert not gc.isenabled()
    until(lambda: pool.leased_bytes == 0, "a body is still leased")


def test_a_body_is_let_go_when_its_caller_leaves() -> None:
    began, may_go = threading.Event(), threading.Event()

    def told(inputs: Any) -> Any:
        began.set()
        assert may_go.wait(30)
        return {"y": inputs["x"]}

    with in_process({"m": Function(told)}) as server:
        body = body_of([1.0] * 50_000)
        with Wire(server.url) as wire:
            wire.send(f"POST {PREDICT} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            assert began.wait(30)
        may_go.set()
        until(lambda: server.app.pool.leased_bytes == 0, "who left keeps the body")


def test_a_server_that_drains_says_that_its_models_are_not_ready() -> None:
    may_go = threading.Event()

    def hold(inputs: Any) -> Any:
        assert may_go.wait(30)
        return {"y": inputs["x"]}

    body = body_of([1])
    with in_process({"m": Function(hold)}, drain_grace_s=1.0) as server, Wire(server.url) as wire:
        wire.send(b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (PREDICT.encode(), len(body)) + body)
        with Wire(server.url) as other:
            assert other.call("GET", "/v1/models/m").status == 200
            server.loop.call_soon_threadsafe(server.app.state.begin_drain)
            answer = other.call("GET", "/v1/models/m")
        may_go.set()
        assert predictions(wire.answer()) == [1]
    assert (answer.status, "draining" in json.loads(answer.body)["error"]) == (503, True)

"""Whatever stands between a request and the model does for this protocol what it does for ours."""

from __future__ import annotations

import concurrent.futures
import gc
import gzip
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.backends.echo import Echo
from graphpipe.server.numbers.families import PROTOCOLS
from graphpipe.signature import Signature, TensorSpec
from tests.front.servers import Function, InProcess, Way, in_process
from tests.open_inference.oracle import WAYS, Tensor, answered, post, request
from tests.raw_http import Answer, Wire, call

INFER = "/v2/models/m/infer"


def ask(server: InProcess, *inputs: Tensor, as_bytes: bool = True, **fields: str) -> Answer:
    body, length = request(
        list(inputs), {each.name for each in inputs} if as_bytes else None, parameters={"binary_data_output": as_bytes}
    )
    if length is not None:
        fields["inference_header_content_length"] = str(length)
    return call(server.url, "POST", INFER, body, **fields)


def row(i: int) -> Tensor:
    return Tensor("x", "FP32", (1, 3), (float(i), float(i + 1), 0.5))


class Doubling(Echo):
    """Twice its input, and how it was called."""

    version = "1"
    quick = False
    gives_inputs = False
    signature = Signature((TensorSpec("x", np.dtype("f4"), ("n", 3)),), (TensorSpec("y", np.dtype("f4"), ("n", 3)),))

    def __init__(self) -> None:
        self.calls: list[int] = []

    def infer(self, inputs: Mapping[str, Any], outputs: Any = None, *, config: str = "") -> dict[str, Any]:
        self.calls.append(len(inputs["x"]))
        return {"y": inputs["x"] * np.float32(2)}


@pytest.mark.parametrize("as_bytes", [True, False])
def test_rows_of_both_protocols_share_batches(as_bytes: bool) -> None:
    model = Doubling()
    limits = {"batch_rows_max": 16, "batch_wait_ms": 20.0}
    with in_process({"m": model}, threads=1, model_settings=limits) as server:

        def foreign(i: int) -> list[float]:
            (y,) = answered(ask(server, row(i), as_bytes=as_bytes))[1]
            assert (y.name, y.shape) == ("y", (1, 3))
            return list(y.elements)

        def ours(i: int) -> list[float]:
            with graphpipe.Client(server.url) as client:
                return list(client.infer({"x": np.array([row(i).elements], "f4")})["y"][0].tolist())

        calls = [partial(foreign if i % 2 else ours, i) for i in range(32)]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            came = list(pool.map(lambda each: each(), calls))
    assert came == [[2.0 * i, 2.0 * i + 2, 1.0] for i in range(32)]
    assert sum(model.calls) == 32
    assert max(model.calls) > 1


def test_a_row_that_is_cached_for_one_protocol_is_for_the_other(tmp_path: Path) -> None:
    model = Doubling()
    with in_process({"m": model}, model_settings={"cache": True, "cache_dir": str(tmp_path)}) as server:
        with graphpipe.Client(server.url) as client:
            ours = client.infer({"x": np.array([row(1).elements], "f4")})["y"]
        deadline = time.monotonic() + 30
        while server.ask(lambda: server.app.counters.total("graphpipe_cache_stored", "m")) < 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for as_bytes in (True, False):
            (y,) = answered(ask(server, row(1), as_bytes=as_bytes))[1]
            assert list(y.elements) == ours[0].tolist()
    assert model.calls == [1]


class Told(BaseException):
    """What nobody expects of a model."""


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, Told])
def test_a_model_that_fails_in_whatever_way_takes_nobody_along(
    quick: bool, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(inputs: Any) -> Any:
        if inputs["x"][0, 0] < 0:
            raise error("what it holds")
        return {"y": inputs["x"]}

    with in_process({"m": Function(fail, quick)}) as server:
        for way in ("hot", "odd"):
            for as_bytes in (None, {"x"}):
                body, length = request([row(-5)], as_bytes)
                failed = post({"hot": Way(server), "odd": Way(server)}, way, INFER, body, length)
                assert failed.status == 500
                said = json.loads(failed.body)
                assert set(said) == {"error"}
                assert "what it holds" not in said["error"]
        assert answered(ask(server, row(1)))[1][0].name == "y"


@pytest.mark.parametrize("way", ["hot", "odd"])
@pytest.mark.parametrize("large", [False, True])
def test_a_model_that_hangs_costs_its_caller_his_deadline(way: str, large: bool) -> None:
    may_go = threading.Event()

    def hang(inputs: Any) -> Any:
        if inputs["x"].ravel()[0] < 0:
            assert may_go.wait(30)
        return {"y": inputs["x"]}

    number = 20_000 if large else 1
    body, _ = request([Tensor("x", "FP32", (number,), (-1.0,) * number)])
    with in_process({"m": Function(hang)}) as server:
        try:
            answer = post({"hot": Way(server), "odd": Way(server)}, way, INFER, body, None, "GraphPipe-Timeout-Ms: 100")
            assert answer.status == 504
            assert "deadline" in json.loads(answer.body)["error"]
            assert answered(ask(server, row(1)))[1][0].name == "y"
        finally:
            may_go.set()


def test_each_request_has_its_access_line_and_is_counted_by_protocol(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "graphpipe.access")
    place = PROTOCOLS.index("open_inference")
    with in_process({"m": Echo()}, access_lines_per_s=10_000) as server:
        assert ask(server, row(1), x_request_id="seven").status == 200
        assert call(server.url, "POST", INFER, b"{").status == 400
        assert call(server.url, "GET", "/v2/models/m").status == 200
        page = call(server.url, "GET", "/metrics").text
    lines = [record.access for record in caplog.records if record.name == "graphpipe.access"]  # type: ignore[attr-defined]
    assert [(line.status, line.method, line.path, line.model, line.rows) for line in lines[:3]] == [
        (200, "POST", INFER, "m", 1),
        (400, "POST", INFER, "m", 0),
        (200, "GET", "/v2/models/m", "m", 0),
    ]
    assert lines[0].request_id == "seven"
    assert place
    assert 'graphpipe_requests_total{code="200",model="m",protocol="open_inference"} 2.0' in page
    assert 'graphpipe_requests_total{code="400",model="m",protocol="open_inference"} 1.0' in page


def test_the_config_reaches_the_model_as_it_is() -> None:
    class Configured(Echo):
        def infer(self, inputs: Any, outputs: Any = None, *, config: str = "") -> Any:
            return {"said": np.array([config.encode()], object)}

    with in_process({"m": Configured()}) as server:
        body, _ = request([row(1)], parameters={"config": "ä {}"})
        assert answered(call(server.url, "POST", INFER, body))[1][0].elements == ("ä {}".encode(),)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_answers_are_compressed_where_the_server_does_that_for_whoever_can_read_it(as_bytes: bool) -> None:
    tensor = Tensor("x", "INT32", (5000,), tuple(range(5000)))
    with in_process({"m": Echo()}, compress_answers=True) as server:
        packed = ask(server, tensor, as_bytes=as_bytes, accept_encoding="gzip, deflate, br")
        assert packed.headers["content-encoding"] == "gzip"
        plain = Answer(packed.status, packed.headers, gzip.decompress(packed.body))
        assert answered(plain)[1] == [tensor]
        assert answered(ask(server, tensor, as_bytes=as_bytes))[1] == [tensor]


def test_what_is_remembered_of_callers_requests_is_bounded() -> None:
    with in_process({"m": Echo()}) as server:
        (service,) = server.app.directory
        served = server.ask(lambda: server.app.dialects.at("/v2")._served_by(service))
        for i in range(600):
            assert ask(server, Tensor(f"{i:07}" * (4000 if i % 2 else 500), "INT8", (1,), (1,))).status == 200
        assert len(served.remembered) <= 256
        plans = served.inference._plans
        assert sum(len(name) for _, _, names, outputs in plans for name in names + outputs) <= 256 * 8192


@pytest.mark.parametrize("way", WAYS)
def test_no_body_stays_leased_after_its_answer_whatever_it_was(ways: dict[str, Way], way: str) -> None:
    tensor = Tensor("x", "FP32", (100, 500), tuple(float(i % 7) for i in range(50_000)))
    texts = Tensor("x", "BYTES", (20_000,), (b"12345",) * 20_000)
    where = ways[way if way in ways else "hot"].server
    for one, sent, config in ((tensor, {"x"}, ""), (tensor, None, ""), (texts, {"x"}, ""), (texts, None, "")):
        body, length = request([one], sent, parameters={"config": config, "binary_data_output": sent is not None})
        for broken in (body, body + b"\0", body.replace(b"FP32", b"INT8").replace(b"BYTES", b"INT64")):
            post(ways, way, "/v2/models/echo/infer", broken, length)
    assert not gc.isenabled()
    pool = where.app.pool
    until(lambda: pool.leased_bytes == 0, "a body is still leased")


def test_a_body_is_let_go_when_its_model_fails_or_its_caller_leaves() -> None:
    began, may_go = threading.Event(), threading.Event()

    def told(inputs: Any) -> Any:
        if inputs["x"][0] < 0:
            raise ValueError("no")
        began.set()
        assert may_go.wait(30)
        return {"y": inputs["x"]}

    with in_process({"m": Function(told)}) as server:
        pool = server.app.pool
        for sent in (None, {"x"}):
            assert post({"hot": Way(server)}, "hot", INFER, *_large(-1.0, sent)).status == 500
            until(lambda: pool.leased_bytes == 0, "the failure keeps the body")
            began.clear()
            may_go.clear()
            body, length = _large(1.0, sent)
            head = f"POST {INFER} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n"
            head += "" if length is None else f"Inference-Header-Content-Length: {length}\r\n"
            with Wire(server.url) as wire:
                wire.send(f"{head}\r\n".encode() + body)
                assert began.wait(30)
            may_go.set()
            until(lambda: pool.leased_bytes == 0, "who left keeps the body")


def _large(value: float, sent: set[str] | None) -> tuple[bytes, int | None]:
    return request([Tensor("x", "FP32", (50_000,), (value,) * 50_000)], sent)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


@pytest.mark.parametrize("path", [INFER, "/v1/models/m:predict"])
def test_the_numbers_of_a_document_are_gone_as_lists_before_its_model_runs(path: str) -> None:
    number = 54_321
    seen: list[int] = []

    def look(inputs: Any) -> Any:
        seen.append(sum(type(each) is list and len(each) == number for each in gc.get_objects()))
        return {"y": inputs["x"][:1]}

    tensor = Tensor("x", "FP32", (number,), (1.5,) * number)
    body = request([tensor])[0] if path == INFER else json.dumps({"inputs": {"x": tensor.listed}}).encode()
    with in_process({"m": Function(look)}) as server:
        for _ in range(2):
            assert call(server.url, "POST", path, body).status == 200
    assert seen == [0, 0]


@pytest.mark.parametrize("path", [INFER, "/v1/models/m:predict"])
def test_what_becomes_of_the_numbers_of_a_document_is_counted_while_it_waits_for_its_model(path: str) -> None:
    number = 100_000
    counted: list[int] = []
    said = b",".join([b"0"] * number)
    if path == INFER:
        body = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [%d], "data": [%b]}]}' % (number, said)
    else:
        body = b'{"inputs": [%b]}' % said
    model = Function(lambda inputs: counted.append(server.app.pool.leased_bytes) or {"y": inputs["x"][:1]})
    model.signature = Signature((TensorSpec("x", np.dtype("f8")),), (TensorSpec("y"),))
    with in_process({"m": model}) as server:
        assert call(server.url, "POST", path, body).status == 200
        until(lambda: server.app.pool.leased_bytes == 0, "the numbers are still counted")
    assert counted[0] >= 8 * number
    with in_process({"m": model}, in_flight_bytes_max=950_000, body_bytes_max=600_000) as server:
        for _ in range(3):
            refused = call(server.url, "POST", path, body)
            assert (refused.status, refused.headers["content-type"]) == (503, "application/json")
            assert "--in-flight-bytes-max" in refused.text
        until(lambda: server.app.pool.leased_bytes == 0, "a refusal keeps its body")
    with in_process({"m": model}, in_flight_bytes_max=700_000, body_bytes_max=600_000) as server:
        refused = call(server.url, "POST", path, body)
        assert refused.status == 413  # there never will be
        assert "--in-flight-bytes-max" in refused.text
        until(lambda: server.app.pool.leased_bytes == 0, "a refusal keeps its body")
    assert len(counted) == 1

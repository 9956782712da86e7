"""What there is: the documents that clients ask for before and beside inference."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from graphpipe.backends.echo import Echo
from graphpipe.signature import Signature, TensorSpec
from graphpipe.version import __version__
from tests.front.servers import Function, InProcess, Way, in_process
from tests.open_inference.oracle import Tensor, answered, request
from tests.raw_http import Answer, Wire, call


class Described(Echo):
    signature = Signature(
        (
            TensorSpec("image", np.dtype("f4"), ("n", 3, None)),
            TensorSpec("flag", np.dtype(bool), ()),
            TensorSpec("text", np.dtype(object), None),
        ),
        (TensorSpec("score", np.dtype("f2"), ("n",)), TensorSpec("any")),
    )
    kind = "ONNX"


@pytest.fixture(scope="module")
def server() -> Iterator[InProcess]:
    with in_process({"echo": Echo(), "described": Described()}) as running:
        yield running


def get(server: InProcess, path: str, method: str = "GET") -> Any:
    answer = call(server.url, method, path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return json.loads(answer.body)


def refused(server: InProcess, method: str, path: str) -> tuple[int, str]:
    answer = call(server.url, method, path, b"{}" if method == "POST" else None)
    assert answer.headers["content-type"] == "application/json"
    return answer.status, json.loads(answer.body)["error"]


def test_the_server_says_what_it_is(server: InProcess) -> None:
    said = get(server, "/v2")
    assert said == get(server, "/v2/")
    assert (said["name"], said["version"]) == ("graphpipe", __version__)
    assert "binary_tensor_data" in said["extensions"]


def test_health_is_a_status_for_some_clients_and_a_document_for_others(server: InProcess) -> None:
    assert get(server, "/v2/health/live") == {"live": True}
    assert get(server, "/v2/health/ready") == {"ready": True}
    assert get(server, "/v2/models/echo/ready") == {"name": "echo", "ready": True}
    assert get(server, "/v2/models/echo/versions/1/ready") == {"name": "echo", "ready": True}


def test_a_model_says_what_it_takes_and_gives(server: InProcess) -> None:
    said = get(server, "/v2/models/described")
    assert said == get(server, "/v2/models/described/versions/1")
    assert said == {
        "name": "described",
        "versions": ["1"],
        "platform": "ONNX",
        "inputs": [
            {"name": "image", "datatype": "FP32", "shape": [-1, 3, -1]},
            {"name": "flag", "datatype": "BOOL", "shape": []},
            {"name": "text", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "score", "datatype": "FP16", "shape": [-1]},
            {"name": "any", "datatype": "ANY", "shape": [-1]},
        ],
    }


def test_a_model_has_a_configuration_for_clients_that_look_at_one(server: InProcess) -> None:
    said = get(server, "/v2/models/described/config")
    assert (said["name"], said["max_batch_size"]) == ("described", 0)
    assert said["input"] == [
        {"name": "image", "data_type": "TYPE_FP32", "dims": [-1, 3, -1]},
        {"name": "flag", "data_type": "TYPE_BOOL", "dims": []},
        {"name": "text", "data_type": "TYPE_STRING", "dims": [-1]},
    ]
    assert [each["data_type"] for each in said["output"]] == ["TYPE_FP16", "TYPE_INVALID"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": true}', b'{"ready": null}'])
def test_the_index_lists_what_is_served(server: InProcess, body: bytes) -> None:
    answer = call(server.url, "POST", "/v2/repository/index", body)
    assert json.loads(answer.body) == [
        {"name": name, "version": "1", "state": "READY", "reason": ""} for name in ("echo", "described")
    ]


def test_statistics_count_what_was_asked_by_whatever_protocol(server: InProcess) -> None:
    body, length = request([Tensor("x", "INT8", (5,), (1, 2, 3, 4, 5))], {"x"})

    def counted() -> tuple[int, int]:
        said = get(server, "/v2/models/echo/stats")["model_stats"]
        assert [(each["name"], each["version"]) for each in said] == [("echo", "1")]
        assert said[0]["inference_stats"]["success"]["count"] == said[0]["inference_stats"]["compute_output"]["count"]
        return said[0]["inference_count"], said[0]["inference_stats"]["success"]["count"]

    rows, requests = counted()
    for _ in range(3):
        call(server.url, "POST", "/v2/models/echo/infer", body, inference_header_content_length=str(length))
    assert counted() == (rows + 15, requests + 3)
    both = get(server, "/v2/models/stats")["model_stats"]
    assert [each["name"] for each in both] == ["echo", "described"]
    assert get(server, "/v2/models/echo/versions/1/stats")["model_stats"][0]["name"] == "echo"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/models/echo/load"),
        ("POST", "/v2/repository/models/echo/unload"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/r/register"),
        ("POST", "/v2/systemsharedmemory/unregister"),
        ("GET", "/v2/cudasharedmemory/status"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/logging"),
        ("POST", "/v2/models/echo/versions/1/trace/setting"),
        ("POST", "/v2/models/echo/generate"),
    ],
)
def test_what_only_triton_has_is_unsupported_in_the_protocol_s_form(server: InProcess, method: str, path: str) -> None:
    status, words = refused(server, method, path)
    assert status == 501
    assert words


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody/ready", 404),
        ("GET", "/v2/models/echo/versions/7", 404),
        ("GET", "/v2/models/echo/versions", 404),
        ("GET", "/v2/models/echo/nothing", 404),
        ("GET", "/v2/models/echo/infer/more", 404),
        ("GET", "/v2/health", 404),
        ("GET", "/v2/health/well", 404),
        ("POST", "/v2/nothing", 404),
        ("GET", "/v2/models/echo/infer", 405),
        ("POST", "/v2/models/echo", 405),
        ("POST", "/v2/health/live", 405),
        ("GET", "/v2/repository/index", 405),
    ],
)
def test_what_is_not_there_is_refused_in_the_protocol_s_form(
    server: InProcess, method: str, path: str, status: int
) -> None:
    assert refused(server, method, path)[0] == status


def test_a_broken_question_is_refused_and_a_long_one_not_read(server: InProcess) -> None:
    with Wire(server.url) as wire:
        for broken in (b"{", b"[]", b'{"ready": 1}'):
            assert wire.call("POST", "/v2/repository/index", broken).status == 400
        assert wire.call("POST", "/v2/repository/index", b'{"ready": {}}').status == 400
        assert wire.call("POST", "/v2/repository/index", b" " * 100_000).status == 413


@pytest.mark.parametrize("way", ["hot", "odd", "tls", "unix"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/health/live"),
        ("GET", "/v2"),
        ("GET", "/v2/models/echo"),
        ("POST", "/v2/repository/index"),
        ("GET", "/v1/models/echo"),
    ],
)
def test_a_long_question_is_refused_while_it_comes_also_where_nobody_knew_its_length(
    ways: dict[str, Way], way: str, method: str, path: str
) -> None:
    line = f"{method} {path}{'?x' if way == 'odd' else ''} HTTP/1.1\r\nHost: h\r\n"
    with ways[way].wire() as wire:
        wire.send(f"{line}Transfer-Encoding: chunked\r\n\r\n20000\r\n".encode() + b" " * 0x20000)  # and it goes on
        assert wire.answer().status == 413
        assert wire.ended()
    packed = gzip.compress(b" " * 1_000_000)
    with ways[way].wire() as wire:
        wire.send(f"{line}Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode() + packed)
        assert wire.answer().status == 413


def test_who_asks_for_the_head_alone_gets_it(server: InProcess) -> None:
    with Wire(server.url) as wire:
        answer = wire.call("HEAD", "/v2/models/echo")
        assert (answer.status, answer.body) == (200, b"")
        assert wire.call("GET", "/v2").status == 200


def test_a_server_that_drains_is_alive_and_not_ready() -> None:
    may_go = threading.Event()

    def hold(inputs: Any) -> Any:
        assert may_go.wait(30)
        return {"y": inputs["x"]}

    body, _ = request([Tensor("x", "INT8", (1,), (1,))])
    with in_process({"m": Function(hold)}, drain_grace_s=1.0) as server, Wire(server.url) as wire:
        wire.send(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        with Wire(server.url) as other:
            other.call("GET", "/v2/health/ready")
            server.loop.call_soon_threadsafe(server.app.state.begin_drain)
            answer: Answer = other.call("GET", "/v2/health/ready")
        may_go.set()
        assert answered(wire.answer())[1][0].elements == (1,)
    assert answer.status == 503
    assert "draining" in json.loads(answer.body)["error"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, None])
def test_a_model_that_does_not_say_what_runs_it_is_described_without(error: type[BaseException] | None) -> None:
    class Silent(Echo):
        asked = False

        @property
        def kind(self) -> str:
            if error is not None and self.asked:
                raise error("what it holds")
            return "\ud800"

    model = Silent()
    with in_process({"m": model}) as server:
        model.asked = True
        for path in ("/v2/models/m", "/v2/models/m/config"):
            assert get(server, path)["platform"] == ("?" if error is None else "")
        assert get(server, "/v2/health/live") == {"live": True}

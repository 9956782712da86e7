"""Strings are objects that take many times their bytes: they count while they wait for their model, however they came."""

from __future__ import annotations

import json
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
import trustme

from graphpipe.server.life.certificates import Certificates
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire import encode_request
from tests.faults.callers import until
from tests.front.servers import Function, InProcess, Way, in_process
from tests.grpc.servers import LARGE
from tests.protocols.official import message_class
from tests.raw_http import Wire

MIB = 1 << 20
NUMBER = 50_000
# What so many take at the least: a place in an array, and an object.
OBJECTS = NUMBER * (8 + 35)
LIMIT = 16 * MIB
CALLERS = 12
STRINGS = [b"%02d" % (i % 100) for i in range(NUMBER)]
TEXTS = [each.decode() for each in STRINGS]
OCTETS = b"".join(struct.pack("<I", len(each)) + each for each in STRINGS)
Sent = tuple[str, bytes, tuple[str, ...]]  # a path, a body, fields of a head
Told = tuple[int, str, bool]  # a status of HTTP, words, and whether another try is said to make sense


def _graphpipe() -> Sent:
    array = np.empty(NUMBER, object)
    array[:] = STRINGS
    return "/models/m", b"".join(encode_request([array], ["x"])), ()


def _bytes() -> Sent:
    parameters = {"binary_data_size": len(OCTETS)}
    said = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [NUMBER], "parameters": parameters}]}
    head = json.dumps(said).encode()
    return "/v2/models/m/infer", head + OCTETS, (f"Inference-Header-Content-Length: {len(head)}",)


def _json(path: str, document: Any) -> Sent:
    return path, json.dumps(document).encode(), ()


HTTP: dict[str, Callable[[], Sent]] = {
    "GraphPipe": _graphpipe,
    "Open Inference, bytes": _bytes,
    "Open Inference, JSON": lambda: _json(
        "/v2/models/m/infer", {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [NUMBER], "data": TEXTS}]}
    ),
    "TensorFlow Serving, rows": lambda: _json("/v1/models/m:predict", {"instances": TEXTS}),
    "TensorFlow Serving, columns": lambda: _json("/v1/models/m:predict", {"inputs": {"x": TEXTS}}),
}


def _typed(is_raw: bool) -> tuple[str, bytes]:
    request = message_class("inference.ModelInferRequest")(model_name="m")
    tensor = request.inputs.add(name="x", datatype="BYTES", shape=[NUMBER])
    if is_raw:
        request.raw_input_contents.append(OCTETS)
    else:
        tensor.contents.bytes_contents.extend(STRINGS)
    return "/inference.GRPCInferenceService/ModelInfer", request.SerializeToString()


def _predict() -> tuple[str, bytes]:
    request = message_class("tensorflow.serving.PredictRequest")(model_spec={"name": "m"})
    request.inputs["x"].dtype = 7
    request.inputs["x"].string_val.extend(STRINGS)
    request.inputs["x"].tensor_shape.dim.add(size=NUMBER)
    return "/tensorflow.serving.PredictionService/Predict", request.SerializeToString()


GRPC: dict[str, Callable[[], tuple[str, bytes]]] = {
    "Open Inference over gRPC, raw": lambda: _typed(True),
    "Open Inference over gRPC, contents": lambda: _typed(False),
    "TensorFlow Serving over gRPC": _predict,
}
STATUSES = {"RESOURCE_EXHAUSTED": 413, "INTERNAL": 500, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504}
WAYS = ("hot", "odd", "chunked", "unix", "tls")
FORMS = [*((form, way) for form in HTTP for way in (WAYS if form == "GraphPipe" else ("hot", "odd"))),
         *((form, "hot") for form in GRPC)]  # fmt: skip


class Slow:
    """A model that runs when it is let, and what it does then."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may_go = threading.Event()
        self.fails: BaseException | None = None
        self.model = Function(self._run)
        self.model.signature = Signature((TensorSpec("x", np.dtype(object)),), (TensorSpec("y"),))

    def _run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.began.set()
        assert self.may_go.wait(60)
        if self.fails is not None:
            raise self.fails
        return {"y": np.array([inputs["x"].size], np.int64)}


@contextmanager
def serving(slow: Slow, way: str, tmp_path: Any, **settings: Any) -> Iterator[Way]:
    """A server that has it, with another model beside it; by a way in."""
    authority, trusting = trustme.CA(), ssl.create_default_context()
    tls = None
    if way == "tls":
        authority.configure_trust(trusting)
        pem = tmp_path / "server.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
        tls = Certificates(str(pem)).context
    listen = f"unix:{tmp_path}/s" if way == "unix" else "127.0.0.1:0"
    models = {"m": slow.model, "other": Function(lambda inputs: {"y": inputs["x"]})}
    with in_process(models, threads=1, listen=listen, tls=tls, **settings) as server:
        yield Way(server, None if tls is None else trusting)


def http_bytes(way: str, sent: Sent, *fields: str) -> bytes:
    path, body, others = sent
    lines = [f"POST {path}{'?odd' if way == 'odd' else ''} HTTP/1.1", "Host: h", *others, *fields]
    if way == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def ask(where: Way, form: str, way: str, timeout_s: float | None = None) -> Told:
    """What a caller is told who sends strings in a form by a way in."""
    if form in HTTP:
        fields = () if timeout_s is None else (f"GraphPipe-Timeout-Ms: {timeout_s * 1000:.0f}",)
        with Wire(where.server.url, 60, where.tls) as wire:
            wire.send(http_bytes(way, HTTP[form](), *fields))
            answer = wire.answer()
        return answer.status, answer.body.decode("utf-8", "replace"), "retry-after" in answer.headers
    method, message = GRPC[form]()
    target = where.server.url.removeprefix("http://").rstrip("/")
    with grpc.insecure_channel(target, options=LARGE) as channel:
        try:
            channel.unary_unary(method)(message, timeout=timeout_s or 60)
        except grpc.RpcError as error:
            status = {"RESOURCE_EXHAUSTED": 413, "UNAVAILABLE": 503, "INTERNAL": 500, "DEADLINE_EXCEEDED": 504}[
                error.code().name
            ]
            return status, error.details(), True
    return 200, "", False


def count(server: InProcess) -> int:
    return int(server.ask(lambda: server.app.admission.held_bytes))


def waiting(server: InProcess) -> int:
    return int(server.ask(lambda: server.app.directory.find("m").stage.waiting))


def assert_nothing_is_held(server: InProcess) -> None:
    until(lambda: server.ask(lambda: server.app.state.in_flight) == 0)
    until(lambda: count(server) == 0)


@pytest.mark.parametrize(("form", "way"), FORMS)
def test_strings_that_wait_are_bounded_together_and_whoever_finds_no_room_is_told(
    form: str, way: str, tmp_path: Any
) -> None:
    slow = Slow()
    settings = {"in_flight_bytes_max": LIMIT, "body_bytes_max": 4 * MIB, "admission_wait_s": 0.2}
    with serving(slow, way, tmp_path, **settings) as where, ThreadPoolExecutor(CALLERS) as pool:
        server, told = where.server, list[Future[Told]]()
        try:
            for number in range(CALLERS):  # one after the other, so that it is known who finds room
                told.append(pool.submit(ask, where, form, way))
                until(slow.began.is_set)
                until(lambda: sum(each.done() for each in told) + waiting(server) + 1 > number)  # noqa: B023
            wait = 1 + waiting(server)
            assert 1 < wait < CALLERS
            assert wait * OBJECTS <= count(server) <= LIMIT
            # Somebody else is answered meanwhile, and by a thread of his model.
            with Wire(server.url, 10, where.tls) as wire:
                other = "/models/other", b"".join(encode_request([np.zeros(4, np.float32)], ["x"])), ()
                wire.send(http_bytes("hot", other))
                assert wire.answer().status == 200
        finally:
            slow.may_go.set()
        answers = [each.result() for each in told]
        assert [status for status, _, _ in answers].count(200) == wait
        for status, words, again in answers:
            if status != 200:
                assert (status, again) == (503, True)
                assert "--in-flight-bytes-max" in words
        assert_nothing_is_held(server)
        assert ask(where, form, way)[0] == 200
        assert_nothing_is_held(server)


@pytest.mark.parametrize("form", [*HTTP, *GRPC])
def test_strings_no_longer_count_however_their_request_ends(form: str, tmp_path: Any) -> None:
    slow = Slow()
    with serving(slow, "hot", tmp_path) as where, ThreadPoolExecutor(3) as pool:
        server = where.server
        try:
            first = pool.submit(ask, where, form, "hot")
            until(slow.began.is_set)
            late = pool.submit(ask, where, form, "hot", 0.5)  # its deadline passes while it waits
            assert late.result()[0] == 504
            until(lambda: waiting(server) + server.ask(lambda: server.app.state.in_flight) < 3)
            until(lambda: OBJECTS <= count(server) < 2 * OBJECTS)
            if form in HTTP:  # he leaves while it waits
                with Wire(server.url, 10) as wire:
                    wire.send(http_bytes("hot", HTTP[form]()))
                    until(lambda: count(server) > 2 * OBJECTS)
                server.pass_time()
                until(lambda: count(server) < 2 * OBJECTS)
            slow.fails = GeneratorExit("as some libraries do")
        finally:
            slow.may_go.set()
        assert first.result()[0] == 500
        assert_nothing_is_held(server)


@pytest.mark.parametrize("form", [*HTTP, *GRPC])
def test_strings_for_which_there_never_will_be_room_are_too_large(form: str, tmp_path: Any) -> None:
    slow = Slow()
    slow.may_go.set()
    with serving(slow, "hot", tmp_path, in_flight_bytes_max=3 * MIB, body_bytes_max=3 * MIB) as where:
        status, words, again = ask(where, form, "hot")
        assert status == 413
        assert "--in-flight-bytes-max" in words
        assert "--strings-max" not in words
        assert not again or form in GRPC
        assert_nothing_is_held(where.server)


@pytest.mark.parametrize("form", ["GraphPipe", "Open Inference, JSON", "TensorFlow Serving over gRPC"])
def test_strings_that_wait_as_the_server_ends_are_answered_and_none_is_left(form: str, tmp_path: Any) -> None:
    slow = Slow()
    with ThreadPoolExecutor(2) as pool:
        with serving(slow, "hot", tmp_path) as where:
            server = where.server
            told = [pool.submit(ask, where, form, "hot") for _ in range(2)]
            until(slow.began.is_set)
            until(lambda: count(server) > 2 * OBJECTS)
            server.loop.call_soon_threadsafe(server.app.state.begin_drain)
            slow.may_go.set()
            assert [each.result()[0] for each in told] == [200, 200]
        assert (server.app.pool.leased_bytes, server.app.pool.aside) == (0, 0)

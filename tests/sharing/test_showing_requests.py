"""Requests that show memory in other ways than our clients write them."""

from __future__ import annotations

import array
import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire import decode_infer_response
from tests.front.servers import Function, InProcess, Way, in_process
from tests.front.test_ways import until
from tests.raw_http import Wire
from tests.sharing.showing import call, mapped_here, message, open_here, segment_of, send

X = np.arange(50_000, dtype=np.float32)
BODY = message([X], [0])


@pytest.fixture(scope="module", params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[InProcess]:
    path = tmp_path_factory.mktemp("s")
    with in_process(listen=f"unix:{path}/s", loop_factory=request.param) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left(server: InProcess) -> Iterator[None]:
    before = open_here(), mapped_here()
    yield
    until(lambda: open_here() <= before[0] and mapped_here() <= before[1])
    assert server.ask(lambda: (server.app.admission.held_bytes, server.app.hub.sharing.waiting.count)) == (0, 0)


def passing(server: InProcess) -> Any:
    return Way(server, passing=True).wire()


def pass_with(wire: Wire, data: bytes, descriptors: Sequence[int]) -> None:
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    if rest := data[wire.socket.sendmsg([data], control) :]:
        wire.send(rest)


def request(place: str, *lines: str, version: str = "1.1") -> bytes:
    fields = [
        f"POST / HTTP/{version}",
        "Host: h",
        f"Content-Length: {len(BODY)}",
        f"GraphPipe-Memory: 0={place}",
        *lines,
    ]
    return "\r\n".join([*fields, "", ""]).encode()


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_heads_may_come_in_pieces_with_descriptors_at_any_of_them(server: InProcess, cut: int) -> None:
    segment, (place,) = segment_of([X])
    data = request(place) + BODY
    with passing(server) as wire:
        for first in (True, False):
            if first:
                pass_with(wire, data[:cut], [segment.fd])
            else:
                wire.send(data[:cut])
            until(lambda: server.ask(lambda: any(bytes(each._received) for each in server.app.hub.connections)))
            if first:
                wire.send(data[cut:])
            else:
                pass_with(wire, data[cut:], [segment.fd])
            answer = wire.answer()
            assert answer.status == 200, answer.text


def test_who_waits_until_his_body_is_wanted_may_show_memory(server: InProcess) -> None:
    segment, (place,) = segment_of([X])
    with passing(server) as wire:
        for _ in range(2):
            pass_with(wire, request(place, "Expect: 100-continue"), [segment.fd])
            assert wire.answer().status == 100
            wire.send(BODY)
            assert wire.answer().status == 200
        pass_with(wire, request(f"1{place[1:]}", "Expect: 100-continue"), [segment.fd])
        assert wire.answer().headers["graphpipe-memory"] == "refused"


def test_who_does_not_wait_for_answers_gets_them_in_order_or_is_refused(server: InProcess) -> None:
    segment, _ = segment_of([X + i for i in range(8)])
    step = -(-X.nbytes // 64) * 64
    with passing(server) as wire:
        for i in range(8):
            pass_with(wire, request(f"0:{i * step}+{X.nbytes}") + BODY, [segment.fd])
        answers = [wire.answer() for _ in range(8)]
    assert answers[0].status == 200
    for i, answer in enumerate(answers):
        if answer.status == 200:
            np.testing.assert_array_equal(decode_infer_response(answer.body).outputs[0], X + i)
        else:
            assert answer.headers["graphpipe-memory"] == "refused"


def test_http_1_0_may_show_memory(server: InProcess) -> None:
    segment, (place,) = segment_of([X])
    with passing(server) as wire:
        pass_with(wire, request(place, version="1.0") + BODY, [segment.fd])
        assert wire.answer().status == 200
        assert wire.ended()


def test_descriptors_that_come_with_http_2_are_closed(server: InProcess) -> None:
    settings = bytes.fromhex("000000040000000000")
    before = open_here()
    with passing(server) as wire:
        for data in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings, settings):
            pass_with(wire, data, [wire.socket.fileno()] * 2)
            assert wire.socket.recv(9)
        until(lambda: open_here() <= before + 2)


def test_sixteen_descriptors_go_with_one_request(server: InProcess) -> None:
    inputs = [X + i for i in range(16)]
    segments = [segment_of([each])[0] for each in inputs]
    places = ", ".join(f"{i}={i}:0+{X.nbytes}" for i in range(16))
    with passing(server) as wire:
        for _ in range(2):
            send(wire, message(inputs, list(range(16))), [each.fd for each in segments], places)
            for got, sent in zip(decode_infer_response(wire.answer().body).outputs, inputs, strict=True):
                np.testing.assert_array_equal(got, sent)


def test_outputs_that_are_views_of_one_another_and_of_inputs_come_back(tmp_path: Path) -> None:
    y = np.arange(100_000, dtype=np.float32)

    def views(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        x = inputs["x"]
        return {"a": y, "b": y[10:], "c": y[::2], "d": x, "e": x[5:], "f": x.reshape(2, -1).T, "g": x[:0]}

    model = Function(views)
    model.signature = Signature((TensorSpec("x"),), tuple(map(TensorSpec, "abcdefg")))
    with in_process({"m": model}, listen=f"unix:{tmp_path}/s") as server, passing(server) as wire:
        for room in (0, 64, 300_000, 1 << 20, 1 << 22):
            called = call(wire, [X], room=room)
            assert called.kept == ""
            for got, want in zip(called.outputs, views({"x": X}).values(), strict=True):
                np.testing.assert_array_equal(got, want)


def test_who_leaves_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    began, may_go = threading.Semaphore(0), threading.Event()

    def work(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        began.release()
        may_go.wait(20)
        return {"y": inputs["x"] * 2}

    before = open_here(), mapped_here()
    with in_process({"m": Function(work)}, listen=f"unix:{tmp_path}/s", threads=4) as server:
        for i in range(20):
            with passing(server) as wire:
                segment, (place,) = segment_of([X], 1 << 20)
                send(wire, BODY, [segment.fd], f"0={place}", f"0:{segment.size - (1 << 20)}+{1 << 20}")
                if i < 4:
                    began.acquire(timeout=10)
            if i == 10:
                may_go.set()
        with passing(server) as wire:
            assert call(wire, [X]).status == 200
        until(lambda: server.ask(lambda: server.app.admission.held_bytes) == 0)
        del segment
    until(lambda: open_here() <= before[0] and mapped_here() <= before[1])

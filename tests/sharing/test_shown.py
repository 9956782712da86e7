"""Callers on the same host show their tensors to the server instead of sending them, and get outputs that way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from graphpipe.signature import Signature, TensorSpec
from tests.front.servers import Function, InProcess, Way, in_process
from tests.front.test_ways import until
from tests.sharing.showing import Called, call, mapped_here, message, open_here, segment_of, send

MIB = 1 << 20
RANDOM = np.random.default_rng(0)
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


@pytest.fixture(scope="module", params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def echo(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[InProcess]:
    path = tmp_path_factory.mktemp("s")
    with in_process(listen=f"unix:{path}/s", loop_factory=request.param, body_bytes_max=64 * MIB) as server:
        yield server


def passing(server: InProcess) -> Any:
    return Way(server, passing=True).wire()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_shown_is_what_the_model_gets(echo: InProcess, dtype: str) -> None:
    with passing(echo) as wire:
        for shape in ((), (3,), (5, 7), (300, 1000)):
            x = (RANDOM.random(shape) * 100).astype(dtype)
            called = call(wire, [x], room=MIB * 8)
            assert called.kept == ""
            (back,) = called.outputs
            assert (back.dtype, back.shape) == (x.dtype, x.shape)
            np.testing.assert_array_equal(back, x)
            assert bool(called.memory) == (x.nbytes >= 64 * 1024)


def test_outputs_go_where_there_is_room_and_else_into_the_message(tmp_path: Path) -> None:
    outputs = {
        "small": np.arange(10, dtype=np.float32),
        "large": RANDOM.random((100, 1000)),
        "text": np.array([b"a", b"bc"], object),
        "turned": RANDOM.random((300, 400)).astype(np.float32).T,
        "big-endian": np.arange(20_000, dtype=">i8"),
        "yes or no": np.frombuffer(RANDOM.bytes(100_000), np.uint8).view(bool),
        "too large": np.zeros(MIB, np.uint8),
    }

    def many(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return outputs

    model = Function(many)
    model.signature = Signature((TensorSpec("x"),), tuple(map(TensorSpec, outputs)))
    with in_process({"m": model}, listen=f"unix:{tmp_path}/s") as server, passing(server) as wire:
        called = call(wire, [np.zeros(1, np.float32)], room=800_000 + 480_000 + 160_000 + 100_032)
        assert called.memory == "1=0+800000, 3=800000+480000, 4=1280000+160000, 5=1440000+100000"
        as_bytes = call(wire, [np.zeros(1, np.float32)])
        assert as_bytes.memory == ""
        assert len(called.outputs) == len(outputs)
        for one, other, given in zip(called.outputs, as_bytes.outputs, outputs.values(), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, given.view(np.uint8) != 0 if given.dtype == bool else given)
        assert len(as_bytes.answer.body) > 2 * MIB
        assert len(called.answer.body) < 2 * MIB


def test_several_inputs_strings_among_them_and_names(tmp_path: Path) -> None:
    def glue(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"n": np.array([len(inputs["words"]), inputs["a"].sum(), inputs["b"].sum()], np.float64)}

    model = Function(glue)
    model.signature = Signature((TensorSpec("a"), TensorSpec("words"), TensorSpec("b")), (TensorSpec("n"),))
    with in_process({"m": model}, listen=f"unix:{tmp_path}/s") as server, passing(server) as wire:
        a, b = np.ones(50_000, np.float32), np.full(1000, 2, np.int64)
        called = call(wire, [np.array([b"x", b"yz"], object), b, a], names=["words", "b", "a"])
        assert called.outputs[0].tolist() == [2, 50_000, 2000]


def test_a_segment_that_is_shown_again_is_not_mapped_again(echo: InProcess) -> None:
    x = RANDOM.random(50_000).astype(np.float32)
    segment, (place,) = segment_of([x], 64 * 1024 * 4)
    before = (0, 0)
    until(lambda: echo.ask(lambda: echo.app.hub.sharing.mapped) == before)  # those of callers before have left
    with passing(echo) as wire:
        for i in range(20):
            segment.view[:4] = np.float32(i).tobytes()
            send(wire, message([x], [0]), [segment.fd], f"0={place}", f"0:200000+{64 * 1024 * 4}")
            called = Called(wire.answer(), segment, 200_000)
            assert called.outputs[0][0] == i
            assert mapped_here(segment) == 2  # ours, and the server's
            assert echo.ask(lambda: echo.app.hub.sharing.mapped) == (before[0] + 1, before[1] + segment.size)
    until(lambda: echo.ask(lambda: echo.app.hub.sharing.mapped) == before)
    until(lambda: mapped_here(segment) == 1)


def test_what_the_model_still_looks_at_is_said_and_stays_readable(tmp_path: Path) -> None:
    kept: list[Any] = []
    mapped = mapped_here()

    def keep(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        kept.append(inputs["x"])
        return {"y": np.zeros(1)}

    with in_process({"m": Function(keep)}, listen=f"unix:{tmp_path}/s") as server:
        with passing(server) as wire:
            x = RANDOM.random(100_000).astype(np.float32)
            assert call(wire, [x]).kept == "0"
            assert call(wire, [np.arange(100_000)]).kept == ""  # of whole numbers it has a copy
            assert server.ask(lambda: server.app.admission.held_bytes) >= 400_000 + 800_000
        until(lambda: server.ask(server.app.state.connections) == 0)
        np.testing.assert_array_equal(kept[0], x)
        assert not kept[0].flags.writeable
        kept.clear()
        until(lambda: server.ask(lambda: server.app.admission.held_bytes) == 0)
        until(lambda: mapped_here() <= mapped)


def test_a_caller_whose_deadline_passed_is_told_what_the_model_still_reads(tmp_path: Path) -> None:
    may_go, ended = threading.Event(), threading.Event()
    seen: list[float] = []

    def slow(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        assert may_go.wait(20)
        seen.append(float(inputs["x"].sum()))
        ended.set()
        return {"y": np.zeros(1)}

    with in_process({"m": Function(slow)}, listen=f"unix:{tmp_path}/s") as server, passing(server) as wire:
        called = call(wire, [np.ones(50_000, np.float32)], "GraphPipe-Timeout-Ms: 50")
        assert (called.status, called.kept) == (504, "0")
        may_go.set()
        assert ended.wait(10)
        assert seen == [50_000]
        until(lambda: server.ask(lambda: server.app.admission.held_bytes) == 0)
        assert call(wire, [np.ones(50_000, np.float32)]).kept == ""


def test_a_failure_of_the_model_keeps_nothing(tmp_path: Path) -> None:
    def fail(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ValueError(inputs["x"].shape)

    with in_process({"m": Function(fail)}, listen=f"unix:{tmp_path}/s") as server, passing(server) as wire:
        for _ in range(3):
            called = call(wire, [np.ones(50_000, np.float32)], room=MIB)
            assert (called.status, called.kept) == (500, "")
        assert server.ask(lambda: server.app.admission.held_bytes) == 0


def test_nothing_is_left_of_many_callers(echo: InProcess) -> None:
    descriptors, mapped = open_here(), mapped_here()
    for i in range(30):
        with passing(echo) as wire:
            for _ in range(i % 4):
                x = RANDOM.random(30_000 + 1000 * i).astype(np.float32)
                np.testing.assert_array_equal(call(wire, [x], room=MIB).outputs[0], x)
    until(lambda: open_here() <= descriptors and mapped_here() <= mapped)
    assert echo.ask(lambda: echo.app.admission.held_bytes) == 0
    assert echo.ask(lambda: echo.app.hub.sharing.waiting.count) == 0


def test_a_question_for_metadata_may_show_memory_too(echo: InProcess) -> None:
    from graphpipe.wire import decode_metadata_response
    from graphpipe.wire.messages import encode_metadata_request

    segment, (place,) = segment_of([np.zeros(10)])
    with passing(echo) as wire:
        send(wire, encode_metadata_request(), [segment.fd], f"0={place}")
        answer = wire.answer()
        assert answer.status == 200
        assert decode_metadata_response(answer.body).name == "echo"

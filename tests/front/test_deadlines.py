"""Who waits for so long is answered after so long: by every way in, in front of every stage, from the head on."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.front.servers import Function, InProcess, in_process
from tests.front.test_room import WAYS, held, message, request, until
from tests.raw_http import Wire

DEADLINE_S = 0.2
# Within 50 ms on a machine that does nothing else; in tests it does.
LATE_S = 0.5
# A loop's clock is read once a turn, and rounded.
EARLY_S = 0.01


class Slow:
    """A model that waits until it may go."""

    def __init__(self) -> None:
        self.may_go = threading.Event()

    def __call__(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self.may_go.wait(30)
        return {"y": inputs["x"]}


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def slow() -> Iterator[Slow]:
    model = Slow()
    yield model
    model.may_go.set()


@pytest.fixture(scope="module", params=["runner", "batching"])
def server(request: pytest.FixtureRequest, slow: Slow) -> Iterator[InProcess]:
    options = {"batch_rows_max": 8} if request.param == "batching" else {}
    with in_process({"m": Function(slow)}, threads=1, model_settings=options) as running:
        yield running
        slow.may_go.set()
    slow.may_go.clear()


def answered_after(wire: Wire, data: bytes) -> tuple[int, float]:
    began = time.monotonic()
    wire.send(data)
    status = wire.answer().status
    return status, time.monotonic() - began


@pytest.mark.parametrize("size", [8, 100_000], ids=["small", "large"])
@pytest.mark.parametrize("way", WAYS)
def test_a_deadline_is_kept(server: InProcess, way: str, size: int) -> None:
    with Wire(server.url) as wire:
        for _ in range(2):  # the model runs the first of all, and all others wait
            status, after_s = answered_after(wire, request(way, message(size=size), "GraphPipe-Timeout-Ms: 200"))
            assert status == 504
            assert DEADLINE_S - EARLY_S < after_s < DEADLINE_S + LATE_S


@pytest.mark.parametrize("way", WAYS)
def test_a_deadline_counts_from_the_head_on(server: InProcess, way: str) -> None:
    body = message(size=100_000)
    with Wire(server.url) as wire:
        data = request(way, body[:-1], "GraphPipe-Timeout-Ms: 200", length=len(body))
        status, after_s = answered_after(wire, data)
        assert status == 504
        assert DEADLINE_S - EARLY_S < after_s < DEADLINE_S + LATE_S


@pytest.mark.parametrize("way", WAYS)
def test_who_waits_for_room_has_a_deadline_too(way: str) -> None:
    model = Slow()
    body = message(size=200_000)
    room = {"body_bytes_max": 1 << 20, "in_flight_bytes_max": 1 << 20, "admission_wait_s": 20.0}
    with in_process({"m": Function(model)}, threads=2, **room) as server, Wire(server.url) as first:
        first.send(request("hot", body))
        until(lambda: held(server) >= len(body))
        with Wire(server.url) as wire:
            status, after_s = answered_after(wire, request(way, body, "GraphPipe-Timeout-Ms: 200"))
        model.may_go.set()
        assert status == 504
        assert DEADLINE_S - EARLY_S < after_s < DEADLINE_S + LATE_S
        assert first.answer().status == 200


def test_without_a_deadline_there_is_no_timer() -> None:
    model = Slow()
    with in_process({"m": Function(model)}, threads=1, loop_factory=asyncio.new_event_loop) as server:
        timers = lambda: len(server.loop._scheduled)  # type: ignore[attr-defined]  # noqa: E731
        before = server.ask(timers)
        with Wire(server.url) as wire, Wire(server.url) as other:
            wire.send(request("hot", message(size=100_000)))
            until(lambda: server.app.state.in_flight == 1)
            assert server.ask(timers) == before
            other.send(request("hot", message(), "GraphPipe-Timeout-Ms: 20000"))
            until(lambda: server.app.state.in_flight == 2)
            assert server.ask(timers) == before + 1
            model.may_go.set()
            assert wire.answer().status == other.answer().status == 200

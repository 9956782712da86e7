"""However a request comes in, whatever stands behind it and however it ends: nothing of it stays, and no collector helps.

A body is leased as long as somebody looks at it. An error remembers the frames that it came through, and they what they
worked on: a ring of the two keeps a body until a garbage collection happens to run, while good callers are refused for
want of room. So the collector is off here, for servers, clients and models alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.backends import LoadOptions, Model, open_model
from graphpipe.backends.pad import padded
from graphpipe.errors import GraphPipeError, InvalidRequest
from graphpipe.server.life.listener import bind
from graphpipe.signature import Signature, TensorSpec
from graphpipe.wire import encode_request
from tests.front.servers import InProcess, in_process
from tests.raw_http import Wire

COLUMNS = 32 * 1024  # of float32: a row is large enough to be leased
LIMIT_S = 30
PAGE = b"POST %s HTTP/1.%d\r\nHost: h\r\nConnection: close\r\n%s%s\r\n\r\n"


@pytest.fixture(autouse=True, scope="module")
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


class Told:
    """Twice its input, or what ``config`` says. Knows, without holding them, the arrays that it was given and gave."""

    version = "1"
    shares_memory = False  # true of it, and nobody has to look for other holders of what it gives

    def __init__(self, columns: int | None = None) -> None:
        dims = ("n", COLUMNS if columns is None else columns)
        self.signature = Signature(
            (TensorSpec("x", np.dtype("float32"), dims),), (TensorSpec("y", np.dtype("float32"), dims),)
        )
        self.seen: list[weakref.ref[Any]] = []
        self.failures: list[Exception] = []
        self.refusal = InvalidRequest("not this one")  # said to everybody
        self.began, self.may_go = threading.Event(), threading.Event()

    def infer(
        self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None, *, config: str = ""
    ) -> dict[str, Any]:
        x = inputs["x"]
        self.seen.append(weakref.ref(x))
        if config.startswith("hold"):
            self.began.set()
            assert self.may_go.wait(60)
        if config.endswith("fail"):
            try:
                raise ValueError("as it was told")
            except ValueError as cause:
                failure = RuntimeError("because of that")  # it remembers this frame, which knows it
                self.failures.append(failure)
                raise failure from cause
        if config == "refuse":
            raise self.refusal
        y = x * 2
        self.seen.append(weakref.ref(y))
        return {"y": y}

    def close(self) -> None:
        pass


def _is_idle(server: InProcess) -> bool:
    return server.app.state.in_flight == 0


def _is_free(server: InProcess) -> bool:
    return server.app.pool.leased_bytes == 0


class Place:
    """A server with a stage, at two addresses."""

    def __init__(self, server: InProcess, told: Told, unix: str, columns: int, upstream: InProcess | None) -> None:
        self.server, self.told, self.unix, self.columns, self.upstream = server, told, unix, columns, upstream

    def nothing_is_left(self) -> None:
        for server in filter(None, (self.server, self.upstream)):
            until(partial(_is_idle, server), "a request is still in flight")
            until(partial(_is_free, server), "a body is still leased")
        until(lambda: not any(ref() is not None for ref in self.told.seen), "an array is still there")
        self.told.seen.clear()


STAGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "batching": {"batch_rows_max": 4, "batch_wait_ms": 20.0},
    "batching by sizes": {"batch_sizes": (1, 3), "batch_wait_ms": 20.0},
    "cache": {"cache": True},
    "batching and cache": {"batch_rows_max": 4, "batch_wait_ms": 20.0, "cache": True},
    "a remote model": {},
    "a remote model, batching and cache": {"batch_rows_max": 4, "batch_wait_ms": 20.0, "cache": True},
    "pad": {},
}


@contextlib.contextmanager
def also_at(server: InProcess, path: Path) -> Iterator[str]:
    """The same server at a Unix socket too."""

    async def listen() -> asyncio.Server:
        return await asyncio.get_running_loop().create_unix_server(server.app.hub, sock=bind(f"unix:{path}"))

    listening = asyncio.run_coroutine_threadsafe(listen(), server.loop).result(10)
    yield str(path)
    server.ask(listening.close)


@pytest.fixture(scope="module", params=STAGES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    stage, folder = request.param, tmp_path_factory.mktemp("leases")
    told = Told()
    model: Model = told
    columns = COLUMNS
    with contextlib.ExitStack() as stack:
        upstream = None
        if stage.startswith("a remote model"):
            upstream = stack.enter_context(in_process({"m": told}))
            model = open_model(upstream.url, LoadOptions())
        if stage == "pad":
            model, columns = padded(told, ["x:1:0"]), COLUMNS - 100
        told_of = {"cache_dir": str(folder), **STAGES[stage]}
        server = stack.enter_context(in_process({"m": model}, model_settings=told_of))
        unix = stack.enter_context(also_at(server, folder / "s"))
        yield Place(server, told, unix, columns, upstream)


WAYS = ("hot", "aiohttp", "Unix socket", "chunked", "HTTP/1.0")
# Most of the code that they go through is that of the others.
RARE = ("Unix socket", "chunked", "HTTP/1.0")
ROWS = count()


class Caller:
    """One request that is sent, on a connection of its own."""

    def __init__(
        self, place: Place, way: str, config: str, *headers: str, columns: int = 0, value: int | None = None
    ) -> None:
        # Unless told so, never the same rows twice.
        rows = np.full((1, columns or place.columns), next(ROWS) if value is None else value, np.float32)
        body = b"".join(encode_request([rows], config=config))
        # Of a target like this aiohttp makes a path; the hot route leaves all such things to it.
        target = b"http://h/" if way == "aiohttp" else b"/"
        framing = b"Transfer-Encoding: chunked" if way == "chunked" else b"Content-Length: %d" % len(body)
        lines = b"".join(line.encode() + b"\r\n" for line in headers)
        head = PAGE % (target, way != "HTTP/1.0", lines, framing)
        if way == "chunked":
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        self.body = body
        self.wire = Wire(f"unix:{place.unix}" if way == "Unix socket" else place.server.url)
        self.wire.send(head + body)

    def status(self) -> int:
        with self.wire:
            return self.wire.answer().status

    def leave(self) -> None:
        self.wire.__exit__()


def answered(place: Place, way: str) -> None:
    for _ in range(2):
        assert [caller.status() for caller in [Caller(place, way, "") for _ in range(3)]] == [200] * 3


def the_model_fails(place: Place, way: str) -> None:
    assert [caller.status() for caller in [Caller(place, way, "fail") for _ in range(3)]] == [500] * 3


def the_model_refuses(place: Place, way: str) -> None:
    assert [caller.status() for caller in [Caller(place, way, "refuse") for _ in range(3)]] == [400] * 3


def the_inputs_do_not_fit(place: Place, way: str) -> None:
    assert Caller(place, way, "", columns=COLUMNS + 1).status() == 400


def it_is_late(place: Place, way: str) -> None:
    callers = [Caller(place, way, "hold", "GraphPipe-Timeout-Ms: 100") for _ in range(3)]
    assert [caller.status() for caller in callers] == [504] * 3


def all_leave(place: Place, way: str) -> None:
    callers = [Caller(place, way, "hold") for _ in range(3)]
    assert place.told.began.wait(30)
    for caller in callers:
        caller.leave()
    place.server.pass_time()
    until(lambda: place.server.app.state.in_flight == 0, "they are still in flight")


def one_leaves(place: Place, way: str) -> None:
    callers = [Caller(place, way, "hold") for _ in range(3)]
    assert place.told.began.wait(30)
    until(lambda: place.server.app.state.in_flight == 3, "not all have come")
    callers.pop(0).leave()
    place.server.pass_time()
    until(lambda: place.server.app.state.in_flight == 2, "it is still in flight")
    place.told.may_go.set()
    assert [caller.status() for caller in callers] == [200] * 2


def one_leaves_and_the_model_fails(place: Place, way: str) -> None:
    value = next(ROWS)  # with a cache they wait for the same rows
    callers = [Caller(place, way, "hold and fail", value=value) for _ in range(3)]
    assert place.told.began.wait(30)
    until(lambda: place.server.app.state.in_flight == 3, "not all have come")
    callers.pop(0).leave()
    place.server.pass_time()
    until(lambda: place.server.app.state.in_flight == 2, "it is still in flight")
    place.told.may_go.set()
    assert [caller.status() for caller in callers] == [500] * 2


OUTCOMES = (
    answered,
    the_model_fails,
    the_model_refuses,
    the_inputs_do_not_fit,
    it_is_late,
    all_leave,
    one_leaves,
    one_leaves_and_the_model_fails,
)


def crossed() -> Iterator[Any]:
    """Each outcome by each way."""
    for outcome, way in product(OUTCOMES, WAYS):
        # aiohttp takes half a second or a whole one to see that somebody left.
        is_slow = way in RARE or (way == "aiohttp" and outcome in (one_leaves, one_leaves_and_the_model_fails))
        yield pytest.param(outcome, way, id=f"{outcome.__name__}-{way}", marks=[pytest.mark.slow] if is_slow else [])


@pytest.mark.parametrize(("outcome", "way"), list(crossed()))
def test_nothing_of_a_request_outlives_it(place: Place, outcome: Callable[[Place, str], None], way: str) -> None:
    told = place.told
    told.began.clear()
    told.may_go.clear()
    try:
        outcome(place, way)
    finally:
        told.may_go.set()
    place.nothing_is_left()


# --- callers ---


@pytest.fixture(scope="module")
def told_at() -> Iterator[tuple[Told, str]]:
    told = Told()
    with in_process({"m": told}) as server:
        yield told, server.url


def _blocking(url: str, x: Any, config: str) -> None:
    with graphpipe.Client(url, timeout=0.1) as client, pytest.raises(GraphPipeError):
        client.infer({"x": x}, ["y"], config=config)


def _asynchronous(url: str, x: Any, config: str) -> None:
    async def call() -> None:
        async with graphpipe.AsyncClient(url, timeout=0.1) as client:
            # Here and not around asyncio.run, which makes a ring of its own of what comes out of it.
            with pytest.raises(GraphPipeError):
                await client.infer({"x": x}, ["y"], config=config)

    asyncio.run(call())


def _as_a_model(url: str, x: Any, config: str) -> None:
    with graphpipe.load(url) as model, pytest.raises(GraphPipeError):
        model.infer({"x": x}, ["y"], config=config, timeout=0.1)


@pytest.mark.parametrize("config", ["fail", "refuse", "hold"])
@pytest.mark.parametrize("call", [_blocking, _asynchronous, _as_a_model])
def test_a_call_that_failed_keeps_nothing_of_what_was_sent(
    told_at: tuple[Told, str], call: Callable[[str, Any, str], None], config: str
) -> None:
    told, url = told_at
    told.may_go.clear()
    x = np.zeros((1, COLUMNS), np.float32)
    sent = weakref.ref(x)
    call(url, x, config)
    told.may_go.set()
    del x
    until(lambda: sent() is None, "what was sent is still there")


def test_a_call_that_fails_when_nobody_waits_for_it_any_more_keeps_nothing_of_what_it_was_given() -> None:
    may_go = threading.Event()

    def fails_late(x: np.ndarray) -> np.ndarray:
        may_go.wait(60)
        raise ValueError("too late for anybody")

    x = np.zeros((1, COLUMNS), np.float32)
    given = weakref.ref(x)
    with graphpipe.load(fails_late) as model:
        with pytest.raises(GraphPipeError):
            model.infer({"x": x}, timeout=0.05)
        may_go.set()
        del x
        until(lambda: given() is None, "what it was given is still there")


def test_a_call_that_reached_nobody_keeps_nothing_of_what_was_sent() -> None:
    for call in (_blocking, _asynchronous):
        x = np.zeros((1, COLUMNS), np.float32)
        sent = weakref.ref(x)
        call("http://127.0.0.1:1", x, "")
        del x
        until(lambda sent=sent: sent() is None, "what was sent is still there")

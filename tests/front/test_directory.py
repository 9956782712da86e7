"""Models that are put in place of others while requests are under way."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import NotFound
from graphpipe.server.models.directory import Directory
from graphpipe.server.models.service import Service
from graphpipe.server.stages.runner import ModelRunner
from graphpipe.signature import Signature, TensorSpec
from tests.front.servers import in_process
from tests.raw_http import Wire


class Adds:
    """Adds a number, once it may."""

    signature = Signature(
        (TensorSpec("x", np.dtype("float32"), ("n",)),), (TensorSpec("y", np.dtype("float32"), ("n",)),)
    )

    def __init__(self, number: float) -> None:
        self.number = number
        self.may_go, self.began, self.closed = threading.Event(), threading.Event(), threading.Event()

    def infer(self, inputs: Mapping[str, Any], outputs: Any = None, *, config: str = "") -> dict[str, Any]:
        self.began.set()
        assert self.may_go.wait(10)
        return {"y": inputs["x"] + np.float32(self.number)}

    def close(self) -> None:
        self.closed.set()


X = np.zeros(2, np.float32)


def test_a_model_is_swapped_at_one_stroke_and_the_old_one_answers_what_it_began():
    old, new = Adds(1), Adds(2)
    new.may_go.set()
    with in_process({"m": old}) as server:
        directory = server.app.directory
        callers: list[Any] = []

        def call() -> None:
            with graphpipe.Client(server.url) as client:
                callers.append(client.execute(X).tolist())

        thread = threading.Thread(target=call)
        thread.start()
        assert old.began.wait(10)

        def swap() -> None:
            runner = ModelRunner(new, "m", 1)
            directory.put(Service("m", new, runner, directory.find("m").meter))

        server.ask(swap)
        with graphpipe.Client(server.url) as client:
            # The same head as before, which led to the old one.
            assert client.execute(X).tolist() == [2, 2]
        assert not old.closed.is_set()
        old.may_go.set()
        thread.join(10)
        assert callers == [[1, 1]]
        assert old.closed.wait(10)


def test_a_model_that_another_took_the_place_of_is_let_go_of():
    first, old, new = Adds(0), Adds(1), Adds(2)
    with in_process({"m": first}) as server:  # which holds what it began with
        directory = server.app.directory

        def put(model: Adds) -> None:
            model.may_go.set()
            meter = directory.find("m").meter
            service = Service("m", model, ModelRunner(model, "m", 1, meter=meter), meter)
            meter.follow(service.numbers)
            server.ask(lambda: directory.put(service))

        put(old)
        with graphpipe.Client(server.url) as client:
            for _ in range(3):  # so that its head is remembered
                assert client.execute(X).tolist() == [1, 1]
        with Wire(server.url) as wire:
            for path in ("/models/m", "/models", "/metrics", "/v2/models/m", "/v1/models/m", "/v2/models/stats"):
                assert wire.call("GET", path).status == 200
        put(new)
        assert old.closed.wait(10)
        gone = weakref.ref(old)
        del old
        with Wire(server.url) as wire:
            for _ in range(100):
                assert wire.call("GET", "/metrics").status == 200  # its last numbers are taken over
                gc.collect()
                if gone() is None:
                    break
                time.sleep(0.05)  # the thread that closed it ends
        assert gone() is None
        with graphpipe.Client(server.url) as client:
            assert client.execute(X).tolist() == [2, 2]


def test_names_and_versions_that_are_not_there_are_told_with_those_that_are():
    services = [Service(name, None, None, None) for name in ("a", "b")]  # type: ignore[arg-type]
    directory = Directory(services)
    assert directory.first is services[0]
    assert directory.find("b", "1") is services[1]
    with pytest.raises(NotFound, match="there is no model 'c'; there are 'a', 'b'"):
        directory.find("c")
    with pytest.raises(NotFound, match="model 'a' has no version '7'; it has 1"):
        directory.find("a", "7")


LONG = "x" * 6000


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/models/{LONG}"),
        ("POST", f"/models/{LONG}"),
        ("GET", f"/v2/models/{LONG}"),
        ("POST", f"/v2/models/{LONG}/infer"),
        ("GET", f"/v2/models/echo/versions/{LONG}"),
        ("GET", f"/v1/models/{LONG}"),
        ("POST", f"/v1/models/{LONG}:predict"),
        ("POST", f"/v1/models/echo/versions/{LONG}:predict"),
        ("GET", f"/v1/models/echo/labels/{LONG}"),
        ("GET", f"/v1/{LONG}"),
        ("GET", f"/v2/{LONG}"),
    ],
)
@pytest.mark.parametrize("way", ["hot", "odd", "unix", "passing", "tls"])
def test_a_long_name_that_there_is_not_is_not_repeated_whole(ways, way: str, method: str, path: str):
    te = "TE: trailers\r\n" if way == "odd" else ""
    with ways[way].wire() as wire:
        wire.send(f"{method} {path} HTTP/1.1\r\nHost: h\r\n{te}Content-Length: 0\r\n\r\n".encode())
        answer = wire.answer()
    assert answer.status == 404
    assert len(answer.body) < 800


def test_the_version_put_in_last_is_what_a_name_alone_means():
    first, second = (Service("a", None, None, None) for _ in range(2))  # type: ignore[arg-type]
    directory = Directory([first])
    directory.put(second, "2")
    assert directory.find("a") is second
    assert directory.find("a", "1") is first

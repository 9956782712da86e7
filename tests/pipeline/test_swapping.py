"""Stages of pipelines, and pipelines, that are replaced while requests are under way."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe import Pipeline, Stage
from graphpipe.errors import InvalidRequest, LoadError
from tests.pipeline.served import count, number, part, put, served, wait_for, words


def test_a_stage_is_swapped_under_load_and_no_request_notices():
    def versioned(n: int) -> Any:
        def mark(ids):
            return {"counts": np.full(len(ids), n), "longest": np.full(len(ids), n)}

        return mark

    with words() as pipeline, served(pipeline) as server:
        put(server, part(server, "words.count", versioned(0)))
        stop = threading.Event()
        seen: list[set[int]] = []
        failed: list[BaseException] = []

        def call() -> None:
            mine: set[int] = set()
            try:
                with graphpipe.Client(server.url) as client:
                    while not stop.is_set():
                        (both,) = client.execute(["a b"]).tolist()
                        assert both % 101 == 0, "half of one, half of the other"
                        mine.add(both // 101)
            except BaseException as error:
                failed.append(error)
            seen.append(mine)

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        gone = []
        for n in range(1, 30):
            settings = {"batch_rows_max": 4} if n % 3 == 0 else {}
            service = part(server, "words.count", versioned(n), **settings)
            gone.append(weakref.ref(service))
            put(server, service)
            del service
            with graphpipe.Client(server.url) as client:
                assert client.execute(["a b"]).tolist() == [101 * n]
        stop.set()
        for caller in callers:
            caller.join(10)
        assert not failed
        assert all(mine <= set(range(30)) for mine in seen)

        def all_gone() -> bool:
            gc.collect()
            return all(each() is None for each in gone[:-1])

        wait_for(all_gone)


def test_the_old_stage_answers_what_it_began_and_is_closed_then():
    class Slow:
        signature = graphpipe.load(count).signature

        def __init__(self) -> None:
            self.began, self.gate, self.closed = threading.Event(), threading.Event(), threading.Event()

        def infer(self, inputs: Mapping[str, Any], outputs: Any = None, *, config: str = "") -> dict[str, Any]:
            self.began.set()
            self.gate.wait(10)
            return {"counts": np.array([7]), "longest": np.array([7])}

        def close(self) -> None:
            self.closed.set()

    old = Slow()
    with words() as pipeline, served(pipeline) as server:
        put(server, part(server, "words.count", old))
        answers: list[Any] = []

        def call() -> None:
            with graphpipe.Client(server.url) as client:
                answers.append(client.execute(["a b"]).tolist())

        caller = threading.Thread(target=call)
        caller.start()
        assert old.began.wait(10)
        put(server, part(server, "words.count", count))
        with graphpipe.Client(server.url) as client:
            assert client.execute(["a b"]).tolist() == [201]
        assert not old.closed.is_set()
        old.gate.set()
        caller.join(10)
        assert answers == [[707]]
        assert old.closed.wait(10)
    assert pipeline.closed


def test_a_stage_that_does_not_fit_is_refused_and_nothing_has_changed():
    @graphpipe.model(inputs={"ids": "float32[n, 4]"}, outputs={"counts": "int64[n]"})
    def gives_less(ids):
        return ids.sum(axis=1)

    @graphpipe.model(inputs={"x": "float32[n, 2]"}, outputs={"y": "float32[n, 2]"})
    def first(x):
        return x

    @graphpipe.model(inputs={"y": "float32[n, 2]"}, outputs={"z": "float32[n]"})
    def second(y):
        return y.sum(axis=1)

    @graphpipe.model(inputs={"y": "int32[n, 2]"}, outputs={"z": "float32[n]"})
    def other(y):
        return y.sum(axis=1)

    with Pipeline([first, second], name="p") as pipeline, served(pipeline, "p") as server:
        before = server.ask(lambda: list(server.app.directory))
        service = part(server, "p.second", other)
        with pytest.raises(LoadError, match="stage 'second' takes 'y' as int32"):
            put(server, service)
        assert server.ask(lambda: list(server.app.directory)) == before
        with graphpipe.Client(server.url) as client:
            assert client.execute(np.ones((1, 2), np.float32)).tolist() == [2]
        service.close()


def test_a_swapped_stage_changes_what_the_pipeline_says_that_it_takes():
    @graphpipe.model(inputs={"x": "float32[n, 2]"}, outputs={"y": "float32[n, 2]"})
    def two(x):
        return x

    @graphpipe.model(inputs={"x": "float32[n, 3]"}, outputs={"y": "float32[n, 3]"})
    def three(x):
        return x

    def total(y):
        return {"z": y.sum(axis=1)}

    with Pipeline([Stage(two, "first"), total], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            for _ in range(3):
                assert client.execute(np.ones((1, 2), np.float32)).tolist() == [2]
        put(server, part(server, "p.first", three))
        with graphpipe.Client(server.url) as client:
            assert client.metadata().inputs[0].shape == (-1, 3)
            assert client.execute(np.ones((1, 3), np.float32)).tolist() == [3]
            with pytest.raises(InvalidRequest):
                client.execute(np.ones((1, 2), np.float32))


def test_rows_of_the_old_stage_answer_for_the_new_one_no_more(tmp_path):
    class Times:
        def __init__(self, n: int) -> None:
            self.n, self.version = n, str(n)
            self.signature = graphpipe.load(self.made()).signature

        @staticmethod
        def made() -> Any:
            @graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
            def times(x):
                return x

            return times

        def infer(self, inputs: Mapping[str, Any], outputs: Any = None, *, config: str = "") -> dict[str, Any]:
            return {"y": inputs["x"] * np.float32(self.n)}

        def close(self) -> None:
            pass

    settings = {"cache": True, "cache_dir": str(tmp_path)}
    with Pipeline({"times": Times(2)}, name="p") as pipeline, served(pipeline, "p", model_settings=settings) as server:
        with graphpipe.Client(server.url) as client:
            for n in (2, 3, 2):
                if n != 2:
                    put(server, part(server, "p.times", Times(n)))
                for _ in range(2):
                    expected = [5 * (3 if number(server, "graphpipe_requests", "p") >= 2 else 2)]
                    assert client.execute(np.float32([5])).tolist() == expected
        assert number(server, "graphpipe_cache_misses", "p") == 2


def test_a_stage_of_a_pipeline_in_a_pipeline_is_swapped():
    def double(x):
        return {"y": x * 2}

    def triple(x):
        return {"y": x * 3}

    def plus(y):
        return {"z": y + 1}

    inner = Pipeline([Stage(double, "times")], name="inner")
    with inner, Pipeline({"inner": inner, "plus": plus}, name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            assert client.execute(np.float64([5])).tolist() == [11]
            put(server, part(server, "p.inner.times", triple))
            assert client.execute(np.float64([5])).tolist() == [16]
        with graphpipe.Client(f"{server.url}/models/p.inner") as client:
            assert client.execute(np.float64([5])).tolist() == [15]


def test_a_pipeline_is_swapped_as_a_whole_with_its_stages():
    def double(x):
        return {"y": x * 2}

    def plus(y):
        return {"z": y + 1}

    def triple(x):
        return {"y": x * 3}

    with (
        Pipeline([double, plus], name="p") as one,
        Pipeline([triple, plus], name="p") as other,
        served(one, "p") as server,
    ):
        with graphpipe.Client(server.url) as client:
            assert client.execute(np.float64([5])).tolist() == [11]
            put(server, part(server, "p", other.model))
            assert client.execute(np.float64([5])).tolist() == [16]
        with pytest.raises(graphpipe.NotFound), graphpipe.Client(f"{server.url}/models/p.double") as client:
            client.execute(np.float64([5]))
        with graphpipe.Client(f"{server.url}/models/p.triple") as client:
            assert client.execute(np.float64([5])).tolist() == [15]


def test_a_stage_that_one_version_has_no_more_is_gone_from_it_whatever_another_has():
    def first(x):
        return {"a": x}

    def last(a):
        return {"y": a}

    with Pipeline([first, last], name="p") as both, Pipeline([first], name="p") as one, served(both, "p") as server:
        directory = server.app.directory
        for pipeline, version in ((both, "2"), (one, "1")):
            service = part(server, "p", pipeline.model)
            server.ask(lambda service=service, version=version: directory.put(service, version))
        assert server.ask(lambda: directory.versions("p.last")) == ["2"]

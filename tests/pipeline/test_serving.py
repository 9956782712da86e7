"""Pipelines on a server: each stage is a service, PIPELINE.STAGE, with a batcher, a cache and numbers of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe import Pipeline, Stage
from graphpipe.errors import InvalidRequest, LoadError, ModelFailed
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from graphpipe.server.models.service import Service
from graphpipe.server.models.wiring import build
from graphpipe.server.settings.values import ModelSettings
from tests.front.servers import InProcess, in_process
from tests.raw_http import Wire

TEXTS = ["hello world hello", "what is this", ""]


def split(text):
    rows = [line.split() for line in text]
    longest = max([1, *map(len, rows)])
    return {"ids": np.array([[len(word) for word in row] + [0] * (longest - len(row)) for row in rows], np.int64)}


def count(ids):
    return {"counts": (ids > 0).sum(axis=1), "longest": ids.max(axis=1)}


def most(counts, longest):
    return {"both": counts * 100 + longest}


def words(**options: Any) -> Pipeline:
    return Pipeline([split, Stage(count, **options), most], name="words")


def served(model: Any, name: str = "words", **settings: Any):
    return in_process({name: getattr(model, "model", model)}, **settings)


def part(server: InProcess, name: str, function: Callable[..., Any], **settings: Any) -> Service:
    """A service to be put in place of a stage."""
    model = graphpipe.load(function).model if not hasattr(function, "infer") else function
    (made,) = server.ask(lambda: build([(ModelSettings(name, "", **settings), model)], server.app.counters))
    return made


def put(server: InProcess, service: Service) -> None:
    server.ask(lambda: server.app.directory.put(service))


def number(server: InProcess, family: str, name: str) -> float:
    return server.ask(lambda: server.app.counters.total(family, name))


# --- answers ---


@pytest.mark.parametrize("options", [{}, {"batch_rows_max": 8}, {"threads": 1}])
def test_a_server_answers_what_the_pipeline_does_here(options):
    with words(**options) as pipeline, served(pipeline) as server:
        expected = pipeline.infer({"text": TEXTS})
        with graphpipe.Client(server.url) as client:
            for texts in (TEXTS, TEXTS[:1], ["\N{GRINNING FACE} é 漢字"]):
                expected = pipeline.infer({"text": texts})
                given = client.infer({"text": texts})
                assert given.keys() == expected.keys()
                assert all(np.array_equal(given[name], expected[name]) for name in expected)
            # What any stage gives may be asked for.
            given = client.infer({"text": TEXTS}, outputs=["ids", "both"])
            assert list(given) == ["ids", "both"]
            with pytest.raises(InvalidRequest, match="there is no output 'idz'"):
                client.infer({"text": TEXTS}, outputs=["idz"])


def test_every_way_in_leads_to_the_stages():
    with words() as pipeline, served(pipeline, grpc_listen="127.0.0.1:0") as server, Wire(server.url) as wire:
        v2 = {"inputs": [{"name": "text", "shape": [3], "datatype": "BYTES", "data": TEXTS}]}
        answer = wire.call("POST", "/v2/models/words/infer", json.dumps(v2).encode())
        assert json.loads(answer.body)["outputs"][0]["data"] == [305, 304, 0]
        answer = wire.call("POST", "/v1/models/words:predict", json.dumps({"instances": TEXTS}).encode())
        assert json.loads(answer.body)["predictions"] == [305, 304, 0]
        # By aiohttp's way, and by the hot one.
        for headers in ("TE: trailers\r\n", ""):
            with graphpipe.Client(server.url) as client:
                assert client.execute(TEXTS).tolist() == [305, 304, 0]
            body = json.dumps(v2).encode()
            wire.send(
                f"POST /v2/models/words/infer HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            assert wire.answer().status == 200
        assert number(server, "graphpipe_inference_duration_seconds", "words.count") == 6


def test_each_stage_has_a_name_and_numbers_and_is_not_listed():
    with words() as pipeline, served(pipeline) as server:
        with graphpipe.Client(server.url) as client:
            client.execute(TEXTS)
        with graphpipe.Client(f"{server.url}/models/words.count") as stage:
            assert stage.infer({"ids": np.array([[3, 0]])}, outputs=["counts"])["counts"].tolist() == [1]
        for name, runs in (("words", 1), ("words.split", 1), ("words.count", 2), ("words.most", 1)):
            assert number(server, "graphpipe_inference_duration_seconds", name) == runs
        with Wire(server.url) as wire:
            assert [each["Name"] for each in json.loads(wire.call("GET", "/models").body)] == ["words"]
            index = json.loads(wire.call("POST", "/v2/repository/index").body)
            assert [(each["name"], each["version"]) for each in index] == [("words", "1")]
            # One model is what any path means, as before.
            assert wire.call("GET", "/whatever").status == 200
            assert (
                b'graphpipe_inference_duration_seconds_count{model="words.split"} 1'
                in wire.call("GET", "/metrics").body
            )


def test_a_key_for_the_pipeline_is_none_for_its_stages(tmp_path):
    path = tmp_path / "keys"
    secret = {"whole": new_key(), "count": new_key()}
    models = {"whole": ["words"], "count": ["words.count"]}
    lines = [
        text_of(key_of(name, digest_of(secret[name].encode()), ["infer", "metadata"], models=models[name]))
        for name in secret
    ]
    path.write_text("\n".join(lines) + "\n")
    with words() as pipeline, served(pipeline, api_key_file=str(path)) as server:
        with graphpipe.Client(server.url, api_key=secret["whole"]) as client:
            assert client.execute(TEXTS).tolist() == [305, 304, 0]
        of_stage = f"{server.url}/models/words.count"
        with graphpipe.Client(of_stage, api_key=secret["whole"]) as client, pytest.raises(graphpipe.Forbidden):
            client.execute(np.array([[1]]))
        with graphpipe.Client(of_stage, api_key=secret["count"]) as client:
            assert client.infer({"ids": np.array([[1]])}, outputs=["counts"])["counts"].tolist() == [1]
        with graphpipe.Client(server.url, api_key=secret["count"]) as client, pytest.raises(graphpipe.Forbidden):
            client.execute(TEXTS)


# --- stages of their own ---


def test_a_stage_has_its_own_batcher():
    sizes: list[int] = []
    gate = threading.Event()

    def slow(ids):
        sizes.append(len(ids))
        if len(sizes) == 1:
            gate.wait(10)
        return {"counts": ids.sum(axis=1), "longest": ids.max(axis=1)}

    def one(text):
        return {"ids": np.array([[len(each)] for each in text])}

    stages = [one, Stage(slow, "slow", batch_rows_max=16, threads=1), most]
    with Pipeline(stages, name="words") as pipeline, served(pipeline) as server:
        answers: list[Any] = []

        def call(texts: list[str]) -> None:
            with graphpipe.Client(server.url) as client:
                answers.append(client.execute(texts).tolist())

        callers = [threading.Thread(target=call, args=(["x" * (i + 1)],)) for i in range(5)]
        callers[0].start()
        wait_for(lambda: sizes)
        for caller in callers[1:]:
            caller.start()
        wait_for(lambda: number(server, "graphpipe_inference_duration_seconds", "words.one") == 5)
        gate.set()
        for caller in callers:
            caller.join(10)
        assert sorted(answers) == [[(i + 1) * 101] for i in range(5)]
        assert sizes[0] == 1
        assert max(sizes) > 1
        assert number(server, "graphpipe_batch_rows", "words.slow") > 0
        assert number(server, "graphpipe_batch_rows", "words.one") == 0


def test_the_whole_is_batched_and_cached(tmp_path):
    rows: list[int] = []

    @graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
    def double(x):
        rows.append(len(x))
        return x * 2

    @graphpipe.model(inputs={"y": "float32[n]"}, outputs={"z": "float32[n]"})
    def plus(y):
        return y + 1

    settings = {"cache": True, "cache_dir": str(tmp_path), "cache_version": "1", "batch_rows_max": 8}
    with Pipeline([double, plus], name="p") as pipeline, served(pipeline, "p", model_settings=settings) as server:
        with graphpipe.Client(server.url) as client:
            assert client.execute(np.float32([1, 2])).tolist() == [3, 5]
            assert client.execute(np.float32([1, 2, 3])).tolist() == [3, 5, 7]
        assert sum(rows) == 3
        assert number(server, "graphpipe_cache_hits", "p") == 2
        assert number(server, "graphpipe_batch_rows", "p") >= 2


def test_a_stage_has_its_own_cache(tmp_path):
    rows: list[int] = []

    @graphpipe.model(inputs={"x": "float32[n]"}, outputs={"y": "float32[n]"})
    def slow(x):
        rows.append(len(x))
        return x * 2

    calls: list[int] = []

    def after(y):
        calls.append(len(y))
        return {"z": y + 1}

    stages = [Stage(slow, "slow", cache=True, cache_version="1"), after]
    with (
        Pipeline(stages, name="p") as pipeline,
        served(pipeline, "p", model_settings={"cache_dir": str(tmp_path)}) as server,
        graphpipe.Client(server.url) as client,
    ):
        for _ in range(3):
            assert client.execute(np.float32([1, 2])).tolist() == [3, 5]
        assert (rows, calls) == ([2], [2, 2, 2])
        assert number(server, "graphpipe_cache_hits", "p.slow") == 4


def test_what_no_server_can_be_told_is_said_when_it_starts():
    with words(batch_rows_max="many") as pipeline:
        with pytest.raises(LoadError, match=r"stage 'count': .*batch_rows_max"), served(pipeline):
            pass
    with (
        Pipeline([Stage(split, batch_rows_max=4, inputs={"text": "text"})], name="p") as pipeline,
        served(pipeline, "p"),
    ):
        pass


def test_a_stage_may_convert_what_it_is_given():
    @graphpipe.model(inputs={"x": "float64[n]"}, outputs={"y": "float64[n]"})
    def wide(x):
        return x * 2

    @graphpipe.model(inputs={"y": "float32[n]"}, outputs={"z": "float32[n]"})
    def narrow(y):
        return y + 1

    with pytest.raises(LoadError, match="the types are different"):
        Pipeline([wide, narrow])
    with Pipeline([wide, Stage(narrow, cast=True)], name="p") as pipeline, served(pipeline, "p") as server:
        assert pipeline.execute(np.float64([1])).dtype == np.float32
        with graphpipe.Client(server.url) as client:
            assert client.execute(np.float64([1])).tolist() == [3]


def test_text_reaches_the_next_stage_as_bytes_however_much_it_is():
    kinds: set[type] = set()

    def say(n):
        return {"text": np.array([f"é{i}" for i in range(n[0])], object).reshape(1, -1)}

    def measure(text):
        kinds.update(map(type, text.flat))
        return {"y": np.array([text.size])}

    with Pipeline([say, measure], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            for n in (1, 5000):
                assert client.execute(np.array([n])).tolist() == [n]
    assert kinds == {bytes}


def test_a_stage_has_never_more_runs_at_once_than_it_has_threads():
    running: list[int] = []
    most_at_once: list[int] = [0]

    def alone(a):
        running.append(1)
        most_at_once[0] = max(most_at_once[0], len(running))
        time.sleep(0.0001)
        running.pop()
        return {"b": a + 1}

    def first(x):
        return {"a": x * 2}

    def last(b):
        return {"y": b}

    stages = [Stage(first, threads=4), Stage(alone, "alone", threads=1), Stage(last, threads=4)]
    with Pipeline(stages, name="p") as pipeline, served(pipeline, "p") as server:
        wrong: list[Any] = []

        def call(path: str, expected: Callable[[float], float]) -> None:
            with graphpipe.Client(server.url + path) as client:
                for i in range(150):
                    if path:
                        given = client.infer({"a": np.float64([i])}, outputs=["b"])["b"].tolist()
                    else:
                        given = client.execute(np.float64([i])).tolist()
                    if given != [expected(i)]:
                        wrong.append((path, i, given))

        callers = [threading.Thread(target=call, args=("", lambda i: 2 * i + 1)) for _ in range(4)]
        callers += [threading.Thread(target=call, args=("/models/p.alone", lambda i: i + 1)) for _ in range(2)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
        assert not wrong
        assert most_at_once == [1]
        for name, runs in (("p.first", 600), ("p.alone", 900), ("p.last", 600)):
            assert number(server, "graphpipe_inference_duration_seconds", name) == runs


# --- side by side ---


def test_stages_that_need_nothing_of_one_another_run_side_by_side():
    meeting = threading.Barrier(2, timeout=10)

    def left(x):
        meeting.wait()
        return {"a": x + 1}

    def right(x):
        meeting.wait()
        return {"b": x * 10}

    def both(a, b):
        return {"y": a + b}

    with (
        Pipeline([left, right, both], name="p") as pipeline,
        served(pipeline, "p") as server,
        graphpipe.Client(server.url) as client,
    ):
        for i in range(3):
            assert client.execute(np.float64([i])).tolist() == [i + 1 + i * 10]


def test_a_branch_that_fails_ends_the_request_and_the_other_is_not_waited_for():
    gate = threading.Event()
    ran: list[str] = []

    def left(x):
        gate.wait(10)
        return {"a": x}

    def right(x):
        if x[0] < 0:
            raise ValueError("no")
        return {"b": x}

    def both(a, b):
        ran.append("both")
        return {"y": a + b}

    with Pipeline([left, right, both], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            with pytest.raises(ModelFailed, match=r"stage 'right': model 'p\.right' failed on this input"):
                client.execute(np.float64([-1]))
            gate.set()
            assert client.execute(np.float64([1])).tolist() == [2]
        assert ran == ["both"]
        assert server.ask(lambda: server.app.admission.held_bytes) == 0


# --- callers who leave, and failures ---


def test_a_caller_who_leaves_takes_what_has_not_begun_along():
    gate, began = threading.Event(), threading.Event()
    ran: list[str] = []

    def first(x):
        began.set()
        gate.wait(10)
        return {"a": x}

    def second(a):
        ran.append("second")
        return {"y": a}

    with Pipeline([first, second], name="p") as pipeline, served(pipeline, "p") as server:

        async def leave() -> None:
            async with graphpipe.AsyncClient(server.url) as client:
                call = asyncio.ensure_future(client.execute(np.float64([1])))
                await asyncio.get_running_loop().run_in_executor(None, began.wait, 10)
                call.cancel()

        asyncio.run(leave())
        wait_for(lambda: number(server, "graphpipe_abandoned_requests", "p") == 1)
        gate.set()
        with graphpipe.Client(server.url) as client:
            assert client.execute(np.float64([2])).tolist() == [2]
        assert ran == ["second"]


def test_no_stage_begins_after_its_callers_deadline():
    ran: list[str] = []

    def first(x):
        time.sleep(0.3)
        return {"a": x}

    def second(a):
        ran.append("second")
        return {"y": a}

    with Pipeline([first, second], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            with pytest.raises(graphpipe.GraphPipeError):
                client.execute(np.float64([1]), timeout=0.1)
            time.sleep(0.5)
        assert not ran


class Odd(BaseException):
    """No Exception."""


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), Odd()], ids=repr)
def test_whatever_a_stage_raises_is_one_request_that_failed(error):
    def fails(x):
        if x[0] < 0:
            raise error
        return {"a": x}

    def after(a):
        return {"y": a}

    with Pipeline([fails, after], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            for _ in range(3):
                with pytest.raises(ModelFailed, match=r"stage 'fails': model 'p\.fails' failed"):
                    client.execute(np.float64([-1]))
                assert client.execute(np.float64([1])).tolist() == [1]


def test_what_a_stage_refuses_goes_to_the_caller_with_its_name():
    def fussy(x):
        raise InvalidRequest("x is odd")

    with Pipeline([fussy], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            with pytest.raises(InvalidRequest, match="stage 'fussy': x is odd"):
                client.execute(np.float64([1]))


def test_what_is_refused_in_a_batch_has_its_stages_name_once():
    gate = threading.Event()

    def fussy(x):
        gate.wait(10)
        raise InvalidRequest("x is odd")

    with Pipeline([Stage(fussy, "fussy", batch_rows_max=8, threads=1)], name="p") as pipeline:
        with served(pipeline, "p") as server:
            said: list[str] = []

            def call() -> None:
                with graphpipe.Client(server.url) as client, pytest.raises(InvalidRequest) as raised:
                    client.execute(np.float64([1]))
                said.append(str(raised.value))

            callers = [threading.Thread(target=call) for _ in range(4)]
            for caller in callers:
                caller.start()
            time.sleep(0.2)
            gate.set()
            for caller in callers:
                caller.join(10)
    assert all(words.count("stage 'fussy'") == 1 for words in said)
    assert len(said) == 4


def test_nothing_is_held_after_an_answer_or_a_failure():
    def fails(x):
        if x[0] < 0:
            raise ValueError("no")
        return {"a": x}

    def beside(x):
        return {"b": x}

    def both(a, b):
        return {"y": a + b}

    gc.collect()
    gc.disable()
    try:
        for stages in ([fails, Stage(lambda a: {"y": a}, "after")], [fails, beside, both]):
            with Pipeline(stages, name="p") as pipeline, served(pipeline, "p") as server:
                with graphpipe.Client(server.url) as client:
                    for value in (1.0, -1.0, 1.0, -1.0):
                        with contextlib.suppress(ModelFailed):
                            client.execute(np.full(100_000, value))
                pool = server.app.pool
                wait_for(partial(server.ask, partial(_is_whole, pool)))
    finally:
        gc.enable()


# --- swapping ---


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


# --- what is around a pipeline ---


def test_a_pipeline_with_a_problem_is_served_by_its_stages():
    problem = graphpipe.Problem.of({"text": "string[n]"}, {"both": "int64[n]"}, name="lengths")
    with words() as pipeline:
        posed = problem.posed(pipeline.model)
        with in_process({"words": posed}) as server, graphpipe.Client(server.url) as client:
            assert client.execute(TEXTS).tolist() == [305, 304, 0]
            with pytest.raises(InvalidRequest):
                client.execute(np.float32([1]))
            assert number(server, "graphpipe_inference_duration_seconds", "words.count") == 1
            put(server, part(server, "words.most", lambda counts, longest: {"both": counts.astype(np.float32)}))
            with pytest.raises(ModelFailed, match="breaks its problem"):
                client.execute(TEXTS)


def test_models_that_were_handed_over_are_not_closed_with_the_server():
    with graphpipe.load(count) as mine:
        with Pipeline([split, mine, most], name="words") as pipeline:
            with graphpipe.serving(pipeline, listen="127.0.0.1:0") as server, graphpipe.Client(server.url) as client:
                assert client.execute(TEXTS).tolist() == [305, 304, 0]
            assert pipeline.infer({"text": TEXTS})["both"].tolist() == [305, 304, 0]
        assert mine.infer({"ids": np.array([[1]])})["counts"].tolist() == [1]


def test_quick_stages_are_run_on_the_loop_and_a_slow_one_put_in_their_place_is_not():
    with (
        Pipeline({"a": "echo", "b": Stage("echo", inputs={"x": "output"})}, name="p") as pipeline,
        served(pipeline, "p") as server,
    ):
        with graphpipe.Client(server.url) as client:
            for _ in range(4):
                assert client.execute(np.float32([1, 2])).tolist() == [1, 2]
            assert server.ask(lambda: server.app.directory.find("p").at_once) is not None
            put(server, part(server, "p.b", lambda x: {"output": x + 1}))
            assert server.ask(lambda: server.app.directory.find("p").at_once) is None
            for _ in range(4):
                client.execute(np.float32([1, 2]))


def _is_whole(pool: Any) -> bool:
    return pool.room == pool.bytes_max


def wait_for(happens: Callable[[], Any]) -> None:
    until = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_of_two_branches_that_fail_at_once_nothing_is_left_over(caplog):
    meeting = threading.Barrier(2, timeout=10)

    @graphpipe.model(outputs={"a": "float64[n]"})
    def left(x):
        meeting.wait()
        raise ValueError("left")

    @graphpipe.model(outputs={"b": "float64[n]"})
    def right(x):
        meeting.wait()
        raise ValueError("right")

    def last(a, b):
        return {"y": a + b}

    with Pipeline([left, right, last], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            for _ in range(20):
                with pytest.raises(ModelFailed):
                    client.execute(np.float64([1]))
        gc.collect()
    assert "never retrieved" not in caplog.text


def test_slow_failures_of_a_stage_keep_the_one_before_it_from_running_it():
    threads: list[str] = []

    @graphpipe.model(outputs={"b": "float64[n]"})
    def bad(a):
        threads.append(threading.current_thread().name)
        time.sleep(0.02)
        raise ValueError("bad")

    def first(x):
        return {"a": x}

    with Pipeline([first, bad], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            for _ in range(3):
                with pytest.raises(ModelFailed):
                    client.execute(np.float64([1]))
    assert all(name.startswith("p.bad") for name in threads[1:])


def test_a_stage_that_one_version_has_no_more_is_gone_from_it_whatever_another_has():
    def first(x):
        return {"a": x}

    def last(a):
        return {"y": a}

    def made(server: InProcess, pipeline: Pipeline) -> Service:
        (service,) = server.ask(lambda: build([(ModelSettings("p", ""), pipeline.model)], server.app.counters))
        return service

    with Pipeline([first, last], name="p") as both, Pipeline([first], name="p") as one, served(both, "p") as server:
        directory = server.app.directory
        for pipeline, version in ((both, "2"), (one, "1")):
            service = made(server, pipeline)
            server.ask(lambda service=service, version=version: directory.put(service, version))
        assert server.ask(lambda: directory.versions("p.last")) == ["2"]

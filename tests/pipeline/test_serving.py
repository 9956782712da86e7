"""Pipelines on a server: each stage is a service, PIPELINE.STAGE, with a batcher, a cache and numbers of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe import Pipeline, Stage
from graphpipe.errors import InvalidRequest, LoadError, ModelFailed
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from tests.front.servers import in_process
from tests.pipeline.served import TEXTS, count, is_whole, most, number, part, put, served, split, wait_for, words
from tests.raw_http import Wire

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
                wait_for(partial(server.ask, partial(is_whole, pool)))
    finally:
        gc.enable()


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


# --- guests ---


def test_runs_that_fail_in_the_thread_of_the_stage_before_are_counted():
    def first(x):
        return {"a": x}

    def fails(a):
        if a[0] < 0:
            raise ValueError("no")
        return {"y": a}

    with Pipeline([first, fails], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            for i in range(10):
                assert client.execute(np.float64([i])).tolist() == [i]
            for _ in range(5):
                with pytest.raises(ModelFailed, match=r"stage 'fails': model 'p\.fails' failed"):
                    client.execute(np.float64([-1]))
        wait_for(lambda: number(server, "graphpipe_inference_duration_seconds", "p.fails") == 15)


def test_a_model_is_not_closed_while_another_ones_thread_runs_it():
    class Second:
        signature = graphpipe.Signature((graphpipe.TensorSpec("a"),), (graphpipe.TensorSpec("y"),))

        def __init__(self) -> None:
            self.began, self.gate, self.closed = threading.Event(), threading.Event(), threading.Event()
            self.gone = False

        def infer(self, inputs: Mapping[str, Any], outputs: Any = None, *, config: str = "") -> dict[str, Any]:
            if inputs["a"][0] < 0:
                self.began.set()
                self.gate.wait(10)
                self.gone = self.closed.is_set()
            return {"y": inputs["a"]}

        def close(self) -> None:
            self.closed.set()

    def first(x):
        return {"a": x}

    old = Second()
    with Pipeline({"first": first, "second": old}, name="p") as pipeline, served(pipeline, "p") as server:
        put(server, part(server, "p.second", old))
        with graphpipe.Client(server.url) as client:
            for i in range(10):
                assert client.execute(np.float64([i])).tolist() == [i]
            with pytest.raises(graphpipe.GraphPipeError):
                client.execute(np.float64([-1]), timeout=0.2)
        assert old.began.wait(10)
        put(server, part(server, "p.second", lambda a: {"y": a * 2}))
        with graphpipe.Client(server.url) as client:
            assert client.execute(np.float64([3])).tolist() == [6]
        time.sleep(0.2)
        assert not old.closed.is_set()
        old.gate.set()
        assert old.closed.wait(10)
        assert not old.gone


# --- names, and numbers of rows ---


@pytest.mark.parametrize("order", [1, -1])
def test_a_model_that_is_called_as_a_stage_is_refused(order):
    with words() as pipeline:
        models = [("words", pipeline.model), ("words.count", graphpipe.load(count).model)][::order]
        with pytest.raises(LoadError, match=r"'words\.count' has the name that a stage of pipeline 'words' has"):
            with in_process(dict(models)):
                pass


def test_a_stage_of_one_number_of_rows_takes_any_where_it_says_so():
    @graphpipe.model(inputs={"x": "float32[4]"}, outputs={"y": "float32[4]"})
    def four(x):
        assert len(x) == 4
        return x * 2

    def plus(y):
        return {"z": y + 1}

    with Pipeline([Stage(four, batch_sizes=[4]), plus], name="p") as pipeline, served(pipeline, "p") as server:
        with graphpipe.Client(server.url) as client:
            for n in (1, 3, 4, 9):
                x = np.arange(n, dtype=np.float32)
                assert client.execute(x).tolist() == (x * 2 + 1).tolist()


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


def test_what_is_behind_a_stage_that_refuses_what_is_made_up_is_warmed_up_all_the_same(folder_of_two):
    with graphpipe.serving(folder_of_two, listen="127.0.0.1:0", warmup=2) as server:
        with graphpipe.Client(server.url) as client:
            with pytest.raises(InvalidRequest, match="stage 'decode': no picture"):
                client.infer({"image": [b""]})
        assert (folder_of_two / "calls").read_text() == "xx"


@pytest.fixture
def folder_of_two(tmp_path):
    (tmp_path / "two.py").write_text(
        """
import pathlib
import numpy as np
import graphpipe

@graphpipe.model(inputs={"image": "string[n]"}, outputs={"pixels": "float32[n, 4]"})
def decode(image):
    raise graphpipe.InvalidRequest("no picture")

@graphpipe.model(inputs={"pixels": "float32[n, 4]"}, outputs={"y": "float32[n]"})
def classify(pixels):
    with open(pathlib.Path(__file__).with_name("calls"), "a") as file:
        file.write("x")
    return pixels.sum(axis=1)
"""
    )
    (tmp_path / "pipeline.toml").write_text(
        '[[stages]]\nsource = "two.py:decode"\n[[stages]]\nsource = "two.py:classify"\n'
    )
    return tmp_path

"""The bugs that the originals had in their row cache and batcher, through a real server and client: none is here."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, ServiceError
from tests.serving import Server, serving

# Models as functions of the server's own program: each model is served cached and batched.
PROGRAM = """
import sys, time
import numpy as np
import graphpipe
from graphpipe import Signature, TensorSpec
from graphpipe.server.life.server import Server
from graphpipe.server.settings.values import ModelSettings, Settings

calls = 0

class Function:
    def __init__(self, function, inputs, outputs):
        self.function = function
        self.signature = Signature(*(tuple(TensorSpec(name, np.dtype(dtype), shape) for name, dtype, shape in side)
                                     for side in (inputs, outputs)))

    def infer(self, inputs, outputs=None, *, config=""):
        global calls
        calls += 1
        found = self.function(inputs, config)
        return {name: found[name] for name in outputs or found}

    def close(self):
        pass

def text(inputs, config):
    return {"y": np.array([[item + item for item in row] for row in inputs["x"]], object)}

def two(inputs, config):
    x = inputs["x"]
    time.sleep(0.01)
    return {"a": x + 1, "b": x + 2, "config": x * 0 + len(config), "calls": x * 0 + calls}

def pair(inputs, config):
    return {"y": np.float32(inputs["x"].sum() + inputs["w"].sum()).reshape(()), "z": inputs["x"]}

vector = ("f4", ("n", 2))
models = {
    "text": Function(text, [("x", object, ("n", None))], [("y", object, ("n", None))]),
    "two": Function(two, [("x", *vector)], [(name, *vector) for name in ("a", "b", "config", "calls")]),
    "pair": Function(pair, [("x", "f4", None), ("w", "f4", None)], [("y", "f4", None), ("z", "f4", None)]),
}
settings = [(ModelSettings(name, "", cache=True, cache_dir=sys.argv[1], cache_version="1", batch_rows_max=8,
                           batch_wait_ms=float(sys.argv[2]), warmup=0), model) for name, model in models.items()]
Server(settings, Settings(listen="127.0.0.1:0"), lambda url: print("listening on", url, flush=True)).run()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("cache"), "1", code=PROGRAM, tracebacks=True) as server:
        yield server


def client(server: Server, model: str) -> graphpipe.Client:
    return graphpipe.Client(f"{server.url.rstrip('/')}/models/{model}")


def texts(*rows: list[bytes]) -> np.ndarray:
    array = np.empty((len(rows), len(rows[0])), object)
    for i, row in enumerate(rows):
        array[i] = row
    return array


def twice(function):
    """Once computed, and once known."""
    return [function() for _ in range(2)]


# --- the row cache ---


def test_string_rows_do_not_collide(server):
    with client(server, "text") as model:
        # The same bytes when joined without their lengths.
        for row in ([b"ab", b"c"], [b"a", b"bc"], [b"", b"abc"], [b"abc", b""], [b"a\0", b"bc"], [b"a", b"\0bc"]):
            for answer in twice(lambda row=row: model.execute(texts(row))):
                assert answer.tolist() == [[item + item for item in row]]


def test_string_rows_read_back_as_they_were(server):
    rows = texts([b"", b"\0", b"\0\0"], [b"\xff\xfe", b"long " * 1000, "é".encode()], [b"a", b"b", b"c"])
    with client(server, "text") as model:
        for answer in twice(lambda: model.execute(rows)):
            assert answer.tolist() == [[item + item for item in row] for row in rows]


def test_config_is_part_of_a_rows_key(server):
    x = np.full((2, 2), 3, np.float32)
    with client(server, "two") as model:
        for config in ("", "a", "ab", ""):
            for answer in twice(lambda config=config: model.execute(x, output_name="config", config=config)):
                assert answer.tolist() == [[len(config)] * 2] * 2


def test_asking_for_a_then_for_a_and_b_gives_a_and_b(server):
    x = np.full((2, 2), 5, np.float32)
    with client(server, "two") as model:
        assert model.infer({"x": x}, ["a"])["a"].tolist() == (x + 1).tolist()
        for answer in twice(lambda: model.infer({"x": x}, ["a", "b"])):
            assert answer["a"].tolist() == (x + 1).tolist()
            assert answer["b"].tolist() == (x + 2).tolist()
        swapped = model.execute_multi([x], ["x"], ["b", "a", "b"])
        assert [array.tolist() for array in swapped] == [(x + 2).tolist(), (x + 1).tolist(), (x + 2).tolist()]


def test_key_fields_are_framed(server):
    # Without lengths the name, the config and the rows of these would join to the same bytes.
    with client(server, "text") as model:
        first = twice(lambda: model.execute(texts([b"xy", b"z"]), config="x"))
        second = twice(lambda: model.execute(texts([b"y", b"zx"]), config=""))
    assert [answer.tolist() for answer in first] == [[[b"xyxy", b"zz"]]] * 2
    assert [answer.tolist() for answer in second] == [[[b"yy", b"zxzx"]]] * 2


@pytest.mark.parametrize(
    ("x", "w"),
    [
        (np.float32(3), np.float32(4)),
        (np.ones((2, 2), np.float32), np.float32(4)),
        (np.ones((2, 2), np.float32), np.ones((3, 2), np.float32)),
        (np.ones((0, 2), np.float32), np.ones((0, 2), np.float32)),
    ],
    ids=["scalars", "a scalar beside rows", "unequal row counts", "no rows"],
)
def test_what_has_no_rows_is_answered_and_not_dropped(server, x, w):
    with client(server, "pair") as model:
        for answer in twice(lambda: model.infer({"x": x, "w": w}, ["y", "z"])):
            assert answer["y"] == np.sum(x) + np.sum(w)
            assert np.array_equal(answer["z"], x)


def test_no_inputs_are_an_answer_and_not_a_dropped_connection(server):
    with client(server, "pair") as model:
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="missing"):
                model.execute_multi([], [], ["y"])
        assert model.infer({"x": np.ones(1, np.float32), "w": np.ones(1, np.float32)}, ["y"])["y"] == 2


def test_known_rows_are_known_and_can_be_told_to_expire(tmp_path: Path):
    x = np.full((1, 2), 8, np.float32)
    for ttl, expected in ((0, [0, 0]), (0.000001, [0, 1])):
        with serving(
            tmp_path / str(ttl), "0", code=PROGRAM.replace("cache=True", f"cache=True, cache_ttl_s={ttl}")
        ) as own:
            with client(own, "two") as model:
                first = model.execute(x, output_name="calls")
                while ttl and model.execute(x, output_name="calls").tolist() == first.tolist():
                    pass  # from memory until it is written, and a second has passed
                again = model.execute(x, output_name="calls")
                assert (again[0, 0] > first[0, 0]) == bool(expected[1])


# --- the batcher ---


def test_one_wrong_shaped_request_blocks_nobody(server):
    x = np.ones((1, 2), np.float32)
    with client(server, "two") as model, ThreadPoolExecutor(16) as pool:
        good = [pool.submit(model.execute, x * (100 + i), output_name="a") for i in range(8)]
        bad = [pool.submit(model.execute, np.ones((1, 3), np.float32), output_name="a") for _ in range(4)]
        worse = [pool.submit(model.execute, np.ones(2, np.float32), output_name="a") for _ in range(4)]
        for i, call in enumerate(good):
            assert call.result(20).tolist() == [[101 + i] * 2]
        for call in bad + worse:
            with pytest.raises(ServiceError):
                call.result(20)
        assert model.execute(x, output_name="a").tolist() == [[2, 2]]


def test_each_caller_of_a_batch_has_its_own_config_and_outputs(server):
    with client(server, "two") as model, ThreadPoolExecutor(24) as pool:
        calls = []
        for i in range(24):
            x = np.full((1 + i % 3, 2), 200 + i, np.float32)
            names = [["a"], ["b"], ["b", "a"], ["config", "b"]][i % 4]
            config = ["", "x", "xyz"][i % 3]
            calls.append((pool.submit(model.infer, {"x": x}, names, config=config), x, names, config))
        for call, x, names, config in calls:
            answer = call.result(20)
            expected = {"a": x + 1, "b": x + 2, "config": x * 0 + len(config)}
            assert list(answer) == names
            for name in names:
                assert answer[name].tolist() == expected[name].tolist()

"""Nobody shares memory with an answer, nor with an input, whatever the model does: models that keep what they give, give
what they were given, or write into it.

Each model has an input x, float32 [n, 4096], and gives one y or several; what it gives first is x + 1, or a part of
x or of what the model holds.
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import graphpipe
from graphpipe.backends.framework import keep_triton_out
from graphpipe.errors import ModelFailed
from tests import onnx_graphs
from tests.serving import serving

Array = NDArray[Any]
COLUMNS = 4096


def rows(value: float, count: int = 3) -> Array:
    return np.full((count, COLUMNS), value, np.float32)


# --- functions --------------------------------------------------------------------------------------------------------


def _whole(x: Array, memory: Array) -> Array:
    return np.add(x, 1, out=memory[: len(x)])


def keeps_an_array() -> Callable[[Array], Any]:
    memory = np.empty((3, COLUMNS), np.float32)

    def function(x: Array) -> Array:
        np.add(x, 1, out=memory)
        return memory

    return function


def keeps_what_the_answer_is_a_part_of() -> Callable[[Array], Any]:
    memory = np.empty((8, COLUMNS), np.float32)
    return lambda x: _whole(x, memory)


def keeps_a_bytearray() -> Callable[[Array], Any]:
    memory = bytearray(8 * COLUMNS * 4)
    return lambda x: _whole(x, np.frombuffer(memory, np.float32).reshape(8, COLUMNS))


def keeps_a_memoryview() -> Callable[[Array], Any]:
    memory = memoryview(np.empty((8, COLUMNS), np.float32))

    def function(x: Array) -> Any:
        np.add(x, 1, out=np.asarray(memory)[: len(x)])
        return memory[: len(x)]

    return function


def keeps_pages() -> Callable[[Array], Any]:
    pages = mmap.mmap(-1, 8 * COLUMNS * 4)
    return lambda x: _whole(x, np.ndarray((8, COLUMNS), np.float32, pages))


def keeps_memory_of_c() -> Callable[[Array], Any]:
    memory = (ctypes.c_float * (8 * COLUMNS))()
    return lambda x: _whole(x, np.ctypeslib.as_array(memory).reshape(8, COLUMNS))


def keeps_it_in_an_attribute() -> Callable[[Array], Any]:
    class Kept:
        def __call__(self, x: Array) -> Array:
            if not hasattr(self, "last"):
                self.last = np.empty_like(x)
            self.last[:] = x + 1
            return self.last

    return Kept()


def keeps_it_in_a_generator() -> Callable[[Array], Any]:
    def steps() -> Iterator[Array]:
        memory = np.empty((3, COLUMNS), np.float32)
        while True:
            memory[:] = x_of[0] + 1
            yield memory

    x_of: list[Array] = [np.empty(0)]
    running = steps()

    def function(x: Array) -> Array:
        x_of[0] = x
        return next(running)

    return function


def keeps_the_dict_with_it() -> Callable[[Array], Any]:
    kept = {"y": np.empty((3, COLUMNS), np.float32)}

    def function(x: Array) -> dict[str, Array]:
        np.add(x, 1, out=kept["y"])
        return kept

    return function


def keeps_it_read_only() -> Callable[[Array], Any]:
    memory = np.empty((3, COLUMNS), np.float32)
    locked = memory.view()
    locked.flags.writeable = False

    def function(x: Array) -> Array:
        np.add(x, 1, out=memory)
        return locked

    return function


def gives_rows_that_are_one_row() -> Callable[[Array], Any]:
    return lambda x: np.broadcast_to(x[0] + 1, x.shape)


def gives_one_array_twice() -> Callable[[Array], Any]:
    def function(x: Array) -> dict[str, Array]:
        y = x + 1
        return {"y": y, "again": y, "turned": y[::-1], "part": y[1:]}

    return function


def gives_its_input() -> Callable[[Array], Any]:
    return lambda x: {"y": x, "again": x}


def gives_a_part_of_its_input() -> Callable[[Array], Any]:
    return lambda x: {"y": x[1:], "flat": x.reshape(-1), "asarray": np.asarray(x)}


def gives_a_constant() -> Callable[[Array], Any]:
    constant = np.ones((3, COLUMNS), np.float32)
    return lambda x: constant


FUNCTIONS = [
    keeps_an_array, keeps_what_the_answer_is_a_part_of, keeps_a_bytearray, keeps_a_memoryview, keeps_pages,
    keeps_memory_of_c, keeps_it_in_an_attribute, keeps_it_in_a_generator, keeps_the_dict_with_it, keeps_it_read_only,
    gives_rows_that_are_one_row, gives_one_array_twice, gives_its_input, gives_a_part_of_its_input, gives_a_constant,
]  # fmt: skip


# --- models of frameworks ---------------------------------------------------------------------------------------------

_TORCH = """
import threading

import numpy as np
import torch


class Keeps(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("buffer", torch.zeros(3, 4096))
        self.weight = torch.nn.Parameter(torch.ones(3, 4096))
        self.constant = torch.ones(3, 4096)
        self.numpy = np.zeros((3, 4096), np.float32)
        self.kept = []

    def forward(self, x):
        self.buffer.copy_(x + 1)
        self.numpy[:] = x.numpy() + 1
        self.last = x + 1
        self.kept[:] = [x + 1]
        return {
            "buffer": self.buffer, "part": self.buffer[1:], "detached": self.buffer.detach(), "weight": self.weight,
            "data": self.weight.data, "constant": self.constant, "numpy": self.numpy, "as_tensor":
            torch.from_numpy(self.numpy), "last": self.last, "kept": self.kept[0], "x": x, "flat": x.view(-1),
            "one_row": (x[0] + 1).expand(3, 4096), "windows": (x + 1).unfold(1, 64, 1)[:, :64], "fresh": x + 1,
        }


class InPlace(torch.nn.Module):
    def forward(self, x):
        return {"y": torch.nn.functional.relu(x, inplace=True).add_(1)}


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("buffer", torch.zeros(1, 4096))
        self.last = torch.zeros(1, 4096)
        self.register_buffer("constant", torch.ones(3, 4096))

    def forward(self, x: torch.Tensor):
        if self.buffer.shape[0] != x.shape[0]:
            self.buffer = x + 1
        self.buffer.copy_(x + 1)
        self.last = x + 1
        return self.buffer, self.last, x, x.view(-1), self.constant, self.buffer[1:], x + 1


class ScriptedBuffer(Scripted):
    def forward(self, x: torch.Tensor):
        if self.buffer.shape[0] != x.shape[0]:
            self.buffer = x + 1
        self.buffer.copy_(x + 1)
        return self.buffer


class Remembers(torch.nn.Module):
    '''It writes into what it was given the last time.'''

    def __init__(self):
        super().__init__()
        self.last = torch.zeros(3, 4096)

    def forward(self, x: torch.Tensor):
        self.last.add_(1)
        self.last = x
        return x + 1


class Exported(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("constant", torch.ones(3, 4096))

    def forward(self, x):
        return self.constant, self.constant[1:], x, x.view(-1), x + self.constant


kept = np.empty((64, 4096), np.float32)
mine = threading.local()


def keeping(x):
    return np.add(x, 1, out=kept[: len(x)])


def keeping_by_thread(x):
    if not hasattr(mine, "kept"):
        mine.kept = np.empty((64, 4096), np.float32)
    return np.add(x, 1, out=mine.kept[: len(x)])


def giving_its_input(x):
    return x
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "keepers_of_memory.py"
    path.write_text(_TORCH)
    return path


@pytest.fixture(scope="module")
def sources(code: Path) -> dict[str, str]:
    """Models of all frameworks that give more than they compute."""
    import keras
    import tensorflow as tf
    import torch

    keep_triton_out()
    folder = code.parent
    spec = importlib.util.spec_from_file_location("keepers_of_memory", code)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frameworks about their own formats
        for name in ("Scripted", "ScriptedBuffer", "Remembers"):
            torch.jit.script(getattr(module, name)()).save(folder / f"{name}.pt")
        torch.export.save(torch.export.export(module.Exported(), (torch.zeros(3, COLUMNS),)), folder / "Exported.pt2")

        x = keras.Input((COLUMNS,), name="x")
        y = keras.layers.ReLU(name="y")(x)
        keras.Model(x, [y, x, keras.layers.Reshape((2, -1))(x), keras.layers.Reshape((2, -1))(y)]).save(
            folder / "through.keras"
        )

        class Variables(tf.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                self.variable = tf.Variable(rows(1))
                self.state = tf.Variable(rows(1))

            @tf.function(input_signature=[tf.TensorSpec([None, COLUMNS], tf.float32, "x")])  # type: ignore[untyped-decorator]
            def __call__(self, x: Any) -> Any:
                read = self.variable.read_value()
                return {
                    "variable": read, "product": read * 1.0, "constant": tf.constant(rows(1)), "x": tf.identity(x),
                    "part": x[:1], "flat": tf.reshape(x, [-1]), "neutral": x * 1.0, "y": x + 1, "y_flat":
                    tf.reshape(x + 1, [-1]), "chosen": tf.cond(x[0, 0] > 0, lambda: read, lambda: x),
                }  # fmt: skip

            @tf.function(input_signature=[tf.TensorSpec([None, COLUMNS], tf.float32, "x")])  # type: ignore[untyped-decorator]
            def assign(self, x: Any) -> Any:
                self.state.assign(x)
                self.state.assign_add(tf.ones([3, COLUMNS]))
                return {"y": x + 1}

        variables = Variables()
        signatures = {"serving_default": variables.__call__, "assign": variables.assign}
        tf.saved_model.save(variables, str(folder / "variables"), signatures)
        graph = tf.Graph()
        with graph.as_default():
            entry = tf.compat.v1.placeholder(tf.float32, [None, COLUMNS], name="x")
            tf.identity(tf.constant(rows(1), name="c"), name="constant")
            tf.identity(entry, name="same")
            tf.add(entry, 1.0, name="y")
        (folder / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    helper = onnx_graphs.helper
    nodes = [("same", "x"), ("same_again", "x"), ("held", "w"), ("y_again", "y")]
    shape = ["n", COLUMNS]
    onnx_graphs.save(
        folder / "through.onnx",
        [
            helper.make_node("Add", ["x", "w"], ["y"]),
            *(helper.make_node("Identity", [given], [name]) for name, given in nodes),
        ],
        [("x", onnx_graphs.FLOAT, shape)],
        [(name, onnx_graphs.FLOAT, shape) for name in ("y", *(name for name, _ in nodes))],
        [onnx_graphs.numpy_helper.from_array(rows(1), "w")],
    )
    onnx_graphs.save(
        folder / "by_row.onnx",
        [helper.make_node("Add", ["x", "one"], ["y"]), helper.make_node("Identity", ["x"], ["same"])],
        [("x", onnx_graphs.FLOAT, shape)],
        [("y", onnx_graphs.FLOAT, shape), ("same", onnx_graphs.FLOAT, shape)],
        [onnx_graphs.numpy_helper.from_array(np.ones(COLUMNS, np.float32), "one")],
    )
    return {
        "module": f"{code}:Keeps", "in place": f"{code}:InPlace", "script": f"{folder}/Scripted.pt", "remembers":
        f"{folder}/Remembers.pt", "exported": f"{folder}/Exported.pt2", "keras": f"{folder}/through.keras", "variables":
        f"{folder}/variables", "graph": f"{folder}/graph.pb", "onnx": f"{folder}/through.onnx", "echo": "echo",
    }  # fmt: skip


FRAMEWORKS = [
    "module", "in place", "script", "remembers", "exported", "keras", "variables", "graph", "onnx", "echo",
]  # fmt: skip


@pytest.fixture(scope="module")
def models(sources: dict[str, str]) -> Iterator[dict[str, graphpipe.LoadedModel]]:
    loaded = {name: graphpipe.load(source) for name, source in sources.items()}
    yield loaded
    for model in loaded.values():
        model.close()


@pytest.fixture(params=[*FUNCTIONS, *FRAMEWORKS], ids=lambda p: p if isinstance(p, str) else p.__name__)
def keeper(request: pytest.FixtureRequest) -> graphpipe.LoadedModel:
    if not isinstance(request.param, str):
        return graphpipe.load(request.param())
    model: graphpipe.LoadedModel = request.getfixturevalue("models")[request.param]
    return model


def aligned(value: float) -> Array:
    """Rows that start where TensorFlow takes them as they lie."""
    memory = np.empty(3 * COLUMNS + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    array = memory[start : start + 3 * COLUMNS].reshape(3, COLUMNS)
    array[:] = value
    return array


# --- in process -------------------------------------------------------------------------------------------------------


def test_an_answer_never_changes_later(keeper):
    answers = [keeper.infer({"x": aligned(value)}) for value in (1, 2)]
    before = [{name: array.copy() for name, array in answer.items()} for answer in answers]
    x = aligned(3)
    answers.append(keeper.infer({"x": x}))
    before.append({name: array.copy() for name, array in answers[-1].items()})
    x[:] = -5
    keeper.infer({"x": aligned(4)})
    for answer, expected in zip(answers, before, strict=True):
        for name, array in answer.items():
            assert np.array_equal(array, expected[name]), name
    first = next(iter(answers[1].values()))
    assert first.ravel()[0] in (1, 2, 3)


def test_writing_to_an_answer_changes_nothing_else(keeper):
    inputs = {"x": aligned(2)}
    expected = {name: array.copy() for name, array in keeper.infer(inputs).items()}
    for name in expected:
        answer = keeper.infer(inputs)
        answer[name][...] = -7
        for other in expected:
            assert other == name or np.array_equal(answer[other], expected[other]), f"{name} is {other} too"
        assert np.all(inputs["x"] == 2), name
        again = keeper.infer(inputs)
        for other, array in expected.items():
            assert np.array_equal(again[other], array), f"{name} is the model's own"


def test_each_element_of_an_answer_is_its_own(keeper):
    for name, array in keeper.infer({"x": aligned(2)}).items():
        before = array.copy()
        array.flat[0] = -7
        changed = array != before
        assert changed.sum() == 1, name


@pytest.mark.parametrize("kind", ["writable", "read-only", "bytes", "file", "tensor"])
def test_inputs_of_any_kind_are_left_as_they_were(keeper, kind, tmp_path):
    np.save(tmp_path / "x.npy", rows(2))
    if kind == "tensor":
        import torch

        x: Any = torch.from_numpy(rows(2))
    elif kind == "file":
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif kind == "bytes":
        x = np.frombuffer(rows(2).tobytes(), np.float32).reshape(3, COLUMNS)
    else:
        x = aligned(2)
        x.flags.writeable = kind == "writable"
    answers = [keeper.infer({"x": x}) for _ in range(3)]
    assert np.array_equal(np.asarray(x), rows(2))
    for name, array in answers[0].items():
        assert all(np.array_equal(answer[name], array) for answer in answers), name


def test_text_that_a_function_keeps_is_copied():
    kept = np.array([b"a", b"b"], object)
    shared = bytearray(b"c")

    def text(x: Array) -> dict[str, Array]:
        kept[:] = list(x)
        shared[:] = x[0]
        fresh = np.empty(1, object)
        fresh[0] = shared
        return {"kept": kept, "part": kept[:1], "fresh": fresh}

    model = graphpipe.load(text)
    first = model.infer({"x": np.array([b"1", b"2"], object)})
    model.infer({"x": np.array([b"3", b"4"], object)})
    assert {name: array.tolist() for name, array in first.items()} == {
        "kept": [b"1", b"2"],
        "part": [b"1"],
        "fresh": [b"1"],
    }


def test_a_model_that_keeps_its_whole_answer_gives_copies():
    class Keeps:
        signature = graphpipe.load(lambda x: x).signature

        def __init__(self) -> None:
            self.answer = {"y": np.zeros(3)}

        def infer(self, inputs, outputs=None, *, config=""):
            self.answer["y"] += 1
            return self.answer

        def close(self):
            pass

    model = graphpipe.load(Keeps())
    assert [model.infer({"x": np.zeros(1)}, ["y"])["y"][0] for _ in range(2)] == [1, 2]
    kept = [model.infer({"x": np.zeros(1)}, ["y"])["y"] for _ in range(2)]
    assert [array[0] for array in kept] == [3, 4]


def test_a_function_that_writes_into_its_input_fails_and_says_why():
    def center(x: Array) -> Array:
        x -= x.mean()
        return x

    x = np.arange(4, dtype=np.float32)
    with pytest.raises(ModelFailed) as caught:
        graphpipe.load(center).infer({"x": x})
    assert "inputs are read-only" in str(caught.value.__cause__)
    assert x.tolist() == [0, 1, 2, 3]


# --- where ownership is sure, nothing is copied -----------------------------------------------------------------------


def test_what_a_function_makes_is_given_as_it_lies():
    made: list[int] = []

    def whole(x: Array) -> Array:
        y = x + 1
        made.append(y.ctypes.data)
        return y

    def part(x: Array) -> Array:
        y = np.concatenate([x, x]).reshape(-1)
        made.append(y.ctypes.data + 4 * COLUMNS)
        return y[COLUMNS:]

    for function in (whole, part):
        model = graphpipe.load(function)
        for _ in range(3):
            answer = model.infer({"x": rows(1)})["output_0"]
            assert answer.ctypes.data == made[-1]
            assert answer.flags.writeable


def test_what_a_framework_computes_is_given_as_it_lies(models):
    for name, outputs in {
        "module": ["fresh"], "script": ["output_6"], "exported": ["output_4"], "keras": ["y"], "variables": ["y"],
        "graph": ["y"], "onnx": ["y"],
    }.items():  # fmt: skip
        for output in outputs:
            found = models[name].infer({"x": aligned(2)}, [output])
            [array] = found.values()
            assert not array.flags.owndata, f"{name} {output}: a copy"
            assert array.flags.writeable


# --- on a server ------------------------------------------------------------------------------------------------------

_MODES = {
    "plain": (),
    "batched": (("--batch-rows-max", "8"), ("--batch-wait-ms", "5")),
    "cached": (("--cache", "true"), ("--cache-version", "1")),
}
_SERVED = {
    "function": "1", "threads": "4", "input": "4", "module": "4", "script": "1", "onnx": "4", "keras": "4",
}  # fmt: skip


@pytest.fixture(scope="module")
def served(sources: dict[str, str], code: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one server: each model plain, batched and cached; with one thread where it keeps one array for all."""
    by_name = {
        "function": f"{code}:keeping", "threads": f"{code}:keeping_by_thread", "input": f"{code}:giving_its_input",
        "module": sources["in place"], "script": f"{code.parent}/ScriptedBuffer.pt", "onnx": f"{code.parent}/by_row.onnx",
        "keras": sources["keras"],
    }  # fmt: skip
    arguments = ["--cache-dir", str(tmp_path_factory.mktemp("cache"))]
    for name, source in by_name.items():
        for mode, flags in _MODES.items():
            called = f"{name}-{mode}"
            arguments += ["--model", f"{called}={source}", "--threads", f"{called}={_SERVED[name]}"]
            for flag, value in flags:
                arguments += [flag, f"{called}={value}"]
    with serving(*arguments) as server:
        yield server.url


@pytest.mark.parametrize("mode", _MODES)
@pytest.mark.parametrize("name", _SERVED)
def test_each_caller_gets_his_own_answer(served, name, mode):
    wrong: list[Any] = []
    adds = 0 if name == "input" else 1

    def call(number: int) -> None:
        try:
            with graphpipe.Client(f"{served}/models/{name}-{mode}") as client:
                # Twice each: the second time the row may be known.
                for value in [*range(100 * number, 100 * number + 12)] * 2:
                    count = 1 + value % 4
                    x = np.full((count, COLUMNS), value, np.float32)
                    x += np.arange(count)[:, None] / 8
                    answer = client.execute_multi([x])[0]
                    # Keras's only passes what is above 0 through.
                    expected = x if name == "keras" else x + adds
                    if not np.array_equal(answer, expected):
                        wrong.append((value, np.unique(answer)[:4]))
        except BaseException as error:
            wrong.append(error)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(1, 5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong, wrong[:3]

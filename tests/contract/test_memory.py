"""Nobody shares memory with an answer, nor with an input, whatever the model does: models that keep what they give, give
what they were given, or write into it.

Each model has an input x, float32 [n, 4096], and gives one y or several; what it gives first is x + 1, or a part of
x or of what the model holds.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import ModelFailed
from tests.contract.conftest import KEEPER_MODES, SERVED_KEEPERS
from tests.contract.keepers import COLUMNS, Array, rows

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

FRAMEWORKS = [
    "module", "in place", "script", "remembers", "exported", "keras", "variables", "graph", "onnx", "echo",
]  # fmt: skip


@pytest.fixture(scope="module")
def models(keepers: dict[str, str]) -> Iterator[dict[str, graphpipe.LoadedModel]]:
    loaded = {name: graphpipe.load(keepers[name]) for name in FRAMEWORKS}
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


@pytest.mark.parametrize("mode", KEEPER_MODES)
@pytest.mark.parametrize("name", SERVED_KEEPERS)
def test_each_caller_gets_his_own_answer(served, name, mode):
    wrong: list[Any] = []
    adds = 0 if name == "input" else 1

    def call(number: int) -> None:
        try:
            with graphpipe.Client(f"{served.url}/models/{name}-{mode}") as client:
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
    assert f"model '{name}-{mode}' failed" not in served.log

"""What goes to an isolated model and comes back, and whose memory it is."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, ModelFailed
from graphpipe.memory.places import place_of
from tests.isolation.conftest import source, word

LARGE = 100_000


@pytest.fixture(scope="module")
def several():
    with graphpipe.load(source("several"), isolate=1) as model:
        yield model


@pytest.fixture(scope="module")
def keeper():
    with graphpipe.load(source("keep"), isolate=1) as model:
        yield model


@pytest.mark.parametrize("size", [4, LARGE])
@pytest.mark.parametrize("times", [1, 3])
def test_all_kinds_of_outputs_come_back_as_they_are(several, size, times):
    x = np.linspace(-1, 1, size, dtype=np.float32)
    for _ in range(times):  # the first answer of its size comes in the message, the later ones in memory
        got = several.infer({"x": x})
    assert list(got) == ["half", "flags", "sum", "words", "turned", "empty"]
    assert np.array_equal(got["half"], x[: size // 2])
    assert got["flags"].dtype == bool
    assert np.array_equal(got["flags"], x > 0)
    assert got["words"].tolist() == [b"a", "b\u00e9".encode()]
    assert np.array_equal(got["turned"], np.arange(40_000).reshape(200, 200).T)
    assert got["empty"].shape == (0, 3)
    for array in got.values():
        array[...] = array  # all of it may be written to


def test_outputs_that_are_asked_for_come_in_that_order(several):
    got = several.infer({"x": np.ones(LARGE, np.float32)}, ["turned", "sum"])
    assert list(got) == ["turned", "sum"]


def test_every_type_of_number_goes_both_ways(echo):
    for dtype in ("bool", "uint8", "int16", "int64", "float16", "float64", ">f4"):
        large = (np.arange(LARGE) % 100).astype(dtype)[::2]
        for array in (np.arange(6).reshape(2, 3).astype(dtype), large, np.ones((), dtype)):
            for _ in range(2):
                got = echo.execute(array)
                assert np.array_equal(got, array)
                assert got.dtype == np.dtype(dtype).newbyteorder("=")


def test_an_answer_outlives_the_calls_after_it(doubles):
    answers = [doubles.execute(np.full(LARGE, number, np.float32)) for number in range(20)]
    for number, answer in enumerate(answers):
        assert (answer == 2 * number).all()


def test_what_a_model_keeps_of_its_inputs_never_changes_under_it(keeper):
    shared = keeper.empty("x", (LARGE,), "float32")
    assert place_of(shared) is not None
    values = []
    for number in range(6):
        x = shared if number % 2 else np.empty(LARGE, np.float32)
        x[:] = number
        values.append(float(number))
        assert keeper.execute(x).tolist() == values
        x[:] = -1


def test_an_array_of_empty_is_read_where_it_lies_and_small_ones_are_ordinary(actor):
    x = actor.empty("x", (2, LARGE), np.float32)
    x[:] = 7
    assert (actor.infer({"what": word(""), "x": x})["x"] == 7).all()
    assert place_of(actor.empty("x", (3,), "float32")) is None
    with pytest.raises(InvalidRequest, match="nothing says the type"):
        actor.empty("x", (3,))
    with pytest.raises(ValueError, match="below 0"):
        actor.empty("x", (-3,), "float32")


def test_a_sealed_input_takes_the_place_of_the_array(actor):
    x = np.arange(LARGE, dtype=np.float64)
    sealed = actor.seal("x", x)
    for _ in range(2):
        assert np.array_equal(actor.infer({"what": word(""), "x": sealed})["x"], x)
    with graphpipe.load("echo") as here:
        assert np.array_equal(here.infer({"x": here.seal("x", x)})["x"], x)
        assert here.empty("x", (2, 3), "int8").shape == (2, 3)


def test_a_model_cannot_write_to_its_inputs(actor):
    for size in (3, LARGE):
        x = np.zeros(size, np.float32)
        with pytest.raises(ModelFailed) as raised:
            actor.infer({"what": word("write"), "x": x})
        assert "read-only" in str(raised.value.__cause__)
        assert not x.any()


def test_what_cannot_travel_back_is_the_models_failure(several):
    with pytest.raises(ModelFailed) as raised:
        several.infer({"x": np.ones(1)})
    assert "complex64" in str(raised.value.__cause__)


def test_many_large_inputs_in_memory_of_their_own_and_others_beside_them(echo):
    inputs = {}
    for number in range(40):
        array = echo.empty("x", (20_000,), "float32") if number % 2 else np.empty(20_000, np.float32)
        array[:] = number
        inputs[f"x{number}"] = array
    for _ in range(2):
        got = echo.infer(inputs)
        assert all((got[f"x{number}"] == number).all() for number in range(40))


def test_calls_of_many_threads_get_their_own_answers(doubles):
    wrong = []

    def call(number: int) -> None:
        for size in (3, LARGE) * 5:
            x = np.full(size, number, np.float32)
            if not (doubles.execute(x) == 2 * number).all():
                wrong.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

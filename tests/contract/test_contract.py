"""What every backend promises: each test runs on the same small model in each framework."""

from __future__ import annotations

import gc
import mmap
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import graphpipe
from graphpipe.errors import InvalidRequest, ServiceError

DTYPES = {
    "x": "float32",
    "k": "int64",
    "flags": "bool",
    "s": "object",
    "y": "float32",
    "total": "float32",
    "no": "bool",
}


def plain(name: str) -> str:
    return name.removesuffix(":0")


def assert_same(got: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]], *, on_the_wire: bool = False) -> None:
    assert [plain(name) for name in got] == list(expected) or {plain(n) for n in got} == set(expected)
    for name, array in got.items():
        want = expected[plain(name)]
        if want.dtype == bool and on_the_wire:
            want = want.astype(np.uint8)
        assert array.dtype == want.dtype
        assert array.shape == want.shape
        assert np.array_equal(array, want)


# --- names, types, shapes ---------------------------------------------------------------------------------------------


def test_it_says_what_it_takes_and_gives(sample, model):
    if not sample.checks:
        pytest.skip("takes anything")
    for specs, arrays in (
        (model.signature.inputs, sample.inputs(2)),
        (model.signature.outputs, sample.expected(sample.inputs(2))),
    ):
        assert {plain(spec.name) for spec in specs} == set(arrays)
        for spec in specs:
            known = arrays[plain(spec.name)]
            assert spec.dtype == known.dtype
            assert len(spec.shape) == known.ndim
            assert all(
                not isinstance(dim, int) or dim == size for dim, size in zip(spec.shape, known.shape, strict=True)
            )
            assert not isinstance(spec.shape[0], int), "any number of rows"


def test_any_number_of_rows_gives_as_many_answers(sample, model):
    for rows in (1, 7, 0, 1000):
        inputs = sample.inputs(rows)
        got = model.infer(inputs)
        assert_same(got, sample.expected(inputs))


def test_outputs_come_by_the_names_they_were_asked_for(sample, model):
    inputs = sample.inputs(3)
    expected = sample.expected(inputs)
    names = list(expected)[:2][::-1]
    got = model.infer(inputs, names)
    assert list(got) == names
    for name in names:
        assert np.array_equal(got[name], expected[name])
    assert list(model.infer(inputs, [names[0]])) == names[:1]


def test_a_config_reaches_it_and_harms_nothing(sample, model):
    inputs = sample.inputs(2)
    got = model.infer(inputs, config='{"anything": 1}')
    assert_same(got, sample.expected(inputs))


def test_text_may_be_any_text(sample, model):
    if not sample.strings:
        pytest.skip("this framework has no strings")
    inputs = sample.inputs(4)
    inputs["s"] = np.array([b"", "h\u00e9".encode(), b"nul\0inside", b"x" * 10_000], object)
    got = model.infer(inputs)
    assert_same(got, sample.expected(inputs))


def test_two_loads_of_one_model_have_one_version(sample, model):
    again = graphpipe.load(sample.source, **sample.options)
    assert again.version == model.version
    assert again.signature == model.signature
    again.close()


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda inputs: inputs.pop("k"), "'k|k:0"),
        (lambda inputs: inputs.update(extra=np.ones(2)), "'extra'"),
        (lambda inputs: inputs.update(x=inputs["x"].astype(np.float64)), "float64"),
        (lambda inputs: inputs.update(x=inputs["x"][0]), r"\[4\]"),
        (lambda inputs: inputs.update(x=np.ones((2, 5), np.float32)), r"\[2, 5\]"),
        (lambda inputs: inputs.update(k=np.array([b"a", b"b"], object)), "string"),
    ],
    ids=["missing", "unknown", "type", "rank", "size", "text"],
)
def test_what_does_not_fit_is_refused_in_words_that_help(sample, model, change, word):
    if not sample.checks:
        pytest.skip("takes anything")
    inputs = sample.inputs(2)
    change(inputs)
    with pytest.raises(InvalidRequest, match=word):
        model.infer(inputs)


def test_an_unknown_output_is_refused_by_name(sample, model):
    if not sample.checks:
        pytest.skip("takes anything")
    with pytest.raises(InvalidRequest, match="nonsense"):
        model.infer(sample.inputs(2), ["nonsense"])


def test_rows_that_do_not_match_fail_alone(sample, model):
    if not sample.checks:
        pytest.skip("takes anything")
    inputs = sample.inputs(3)
    with pytest.raises(InvalidRequest if sample.has_symbols else ServiceError):
        model.infer({**inputs, "k": np.arange(2)})
    got = model.infer(inputs)
    assert_same(got, sample.expected(inputs))


# --- memory -----------------------------------------------------------------------------------------------------------


def at_offset(array: NDArray[Any], offset: int) -> NDArray[Any]:
    """The same array, read-only, starting ``offset`` bytes after a page."""
    memory = mmap.mmap(-1, array.nbytes + offset + 1)
    memory[offset : offset + array.nbytes] = array.tobytes()
    return np.ndarray(array.shape, array.dtype, memoryview(memory).toreadonly(), offset)


@pytest.mark.parametrize("offset", [0, 1, 4, 8, 60])
def test_inputs_may_be_read_only_and_start_anywhere(sample, model, offset):
    inputs = sample.inputs(50)
    placed = {name: array if array.dtype == object else at_offset(array, offset) for name, array in inputs.items()}
    assert not placed["x"].flags.writeable
    got = model.infer(placed)
    assert_same(got, sample.expected(inputs))


def test_inputs_are_left_as_they_were(sample, model):
    inputs = sample.inputs(20)
    before = {name: array.tobytes() for name, array in inputs.items()}
    model.infer(inputs)
    assert {name: array.tobytes() for name, array in inputs.items()} == before


def test_an_answer_outlives_the_next_call_and_its_inputs(sample, model):
    first = sample.inputs(500, seed=1)
    got = model.infer(first)
    expected = {name: array.copy() for name, array in sample.expected(first).items()}
    del first
    for seed in range(2, 6):
        model.infer(sample.inputs(500, seed=seed))
    gc.collect()
    assert_same(got, expected)


def test_a_big_input_is_not_copied(sample, model):
    rows = 4_000_000
    pages = mmap.mmap(-1, rows * 16)
    x = np.ndarray((rows, 4), np.float32, pages)
    x[:] = 1
    k = np.zeros(rows, np.int64)
    inputs = {**sample.inputs(1), "x": x, "k": k, "flags": np.zeros(rows, bool)}
    wanted = ["x"] if not sample.checks else ["y"]
    model.infer(sample.inputs(10), wanted)
    # What a framework sets up for its first large call is not a copy of the input: the least of three counts.
    grown = min(growth(lambda: model.infer(inputs, wanted)) for _ in range(3))
    # The output is as large as the input, flags and k are converted at most once.
    copies = 1 if sample.copies_inputs else 0
    assert grown < (1.5 + copies) * x.nbytes + k.nbytes, f"{grown / x.nbytes:.2f} times the size of the input"


def growth(call: Callable[[], object]) -> int:
    """How many bytes more than now are resident at the peak of a call."""
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    call()
    return resident("VmHWM") - before


def resident(what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_a_thousand_calls_leave_memory_as_it_was(sample, model):
    inputs = sample.inputs(4096)
    if sample.strings:
        inputs["s"] = np.array([b"s", b""], object)
    names = ["y", "total"] if sample.checks else ["x", "k"]
    for _ in range(100):
        model.infer(inputs, names)
    gc.collect()
    before = resident("VmRSS")
    for _ in range(1000):
        model.infer(inputs, names)
    gc.collect()
    # One input or output kept a call would be 65 MB.
    assert resident("VmRSS") - before < 20e6


# --- many at once -----------------------------------------------------------------------------------------------------


def test_threads_get_their_own_answers(sample, model):
    wrong = []

    def work(seed: int) -> None:
        try:
            for i in range(25):
                inputs = sample.inputs(1 + seed + i, seed)
                got = model.infer(inputs)
                assert_same(got, sample.expected(inputs))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]


# --- behind a socket --------------------------------------------------------------------------------------------------


def test_it_answers_over_the_wire_as_in_process(name, sample, served):
    with graphpipe.Client(f"{served.url}/models/{name}") as client:
        for rows in (1, 0, 300, 30_000):
            inputs = sample.inputs(rows)
            expected = sample.expected(inputs)
            got = client.infer(inputs, list(expected))
            assert_same(got, expected, on_the_wire=True)


def test_its_metadata_is_its_signature(name, sample, model, served):
    meta = graphpipe.remote.metadata(f"{served.url}/models/{name}")
    assert meta.name == name
    assert tuple(io.name for io in meta.inputs) == model.signature.input_names
    assert tuple(io.name for io in meta.outputs) == model.signature.output_names


def test_over_the_wire_it_refuses_with_400_and_goes_on(name, sample, served):
    if not sample.checks:
        pytest.skip("takes anything")
    with graphpipe.Client(f"{served.url}/models/{name}") as client:
        inputs = sample.inputs(2)
        with pytest.raises(InvalidRequest, match="float64") as caught:
            client.infer({**inputs, "x": inputs["x"].astype(np.float64)})
        assert (caught.value.code, caught.value.http_status) == (2, 400)
        expected = sample.expected(inputs)
        assert_same(client.infer(inputs, list(expected)), expected, on_the_wire=True)

"""Whatever holds numbers is an input, looked at where it lies; what a tensor cannot hold is refused, not lost."""

from __future__ import annotations

import array
import ctypes
from decimal import Decimal

import numpy as np
import pytest

import graphpipe
from tests import onnx_graphs


@pytest.fixture(scope="module")
def echo():
    with graphpipe.load("echo") as model:
        yield model


def looking():
    """What a model has seen, and the model."""
    seen = []

    def look(x):
        seen.append(x)
        return 0

    return seen, graphpipe.load(look)


def torch():
    return pytest.importorskip("torch")


VALUES = np.arange(6, dtype=np.float32)


def from_torch():
    return torch().arange(6, dtype=torch().float32)


def from_tensorflow():
    return pytest.importorskip("tensorflow").range(6, dtype="float32")


def from_pandas():
    return pytest.importorskip("pandas").Series(VALUES)


def from_pandas_on_arrow():
    return pytest.importorskip("pandas").Series(VALUES.tolist(), dtype="float[pyarrow]")


def from_arrow():
    return pytest.importorskip("pyarrow").array(VALUES)


def from_memoryview():
    return memoryview(VALUES.tobytes()).cast("f")


def from_array_module():
    return array.array("f", VALUES.tolist())


def from_ctypes():
    return (ctypes.c_float * 6)(*VALUES)


class OnlyDlpack:
    def __init__(self, inner):
        self.inner = inner

    def __dlpack__(self, **options):
        return self.inner.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.inner.__dlpack_device__()


def from_dlpack():
    return OnlyDlpack(np.arange(6, dtype=np.float32))


SOURCES = [
    from_torch, from_tensorflow, from_pandas, from_pandas_on_arrow, from_arrow,
    from_memoryview, from_array_module, from_ctypes, from_dlpack,
]  # fmt: skip


@pytest.mark.parametrize("make", SOURCES)
def test_an_input_of_any_origin_is_seen_without_a_copy(make):
    value = make()
    seen, model = looking()
    # Two calls that copy nothing see the same memory.
    for _ in range(2):
        model.infer({"x": value})
    np.testing.assert_array_equal(seen[0], VALUES)
    assert seen[0].dtype == np.float32
    assert np.shares_memory(*seen)


@pytest.mark.parametrize("make", SOURCES)
def test_a_client_sends_it_too(serve_echo, make):
    with graphpipe.Client(serve_echo) as client:
        np.testing.assert_array_equal(client.execute(make()), VALUES)


@pytest.fixture(scope="module")
def serve_echo():
    from tests.serving import serving

    with serving("-m", "echo") as server:
        yield server.url


def test_a_parameter_that_wants_gradients_is_a_tensor_like_another():
    parameter = torch().nn.Parameter(torch().ones(3))
    seen, model = looking()
    model.infer({"x": parameter})
    assert seen[0].ctypes.data == parameter.data_ptr()


def test_views_with_strides_arrive_in_order(echo):
    turned = torch().arange(6).reshape(2, 3).T
    np.testing.assert_array_equal(echo.infer({"x": turned})["x"], [[0, 3], [1, 4], [2, 5]])


def test_columns_of_text_are_tensors_of_strings(echo):
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    for column in (pandas.Series(["a", "ä"]), arrow.array(["a", "ä"]), pandas.Series(["a", "ä"]).astype("category")):
        assert echo.infer({"x": column})["x"].tolist() == [b"a", "ä".encode()]


def test_a_frame_of_numbers_is_a_matrix(echo):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    np.testing.assert_array_equal(echo.infer({"x": frame})["x"], [[1, 3], [2, 4]])


def test_arrow_tensors_keep_their_shape(echo):
    arrow = pytest.importorskip("pyarrow")
    rows = arrow.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    assert echo.infer({"x": rows})["x"].shape == (2, 3, 2)


def holes():
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    yield "nulls", arrow.array([1, None])
    yield "nulls", arrow.chunked_array([[1], [None]])
    yield "nulls", pandas.Series([1, None], dtype="Int64")
    yield "nulls", pandas.Series([1, None], dtype="int32[pyarrow]")
    yield "masked", np.ma.array([1, 2], mask=[False, True])


def test_what_has_holes_is_refused_and_not_filled_in_silence(echo):
    for word, value in holes():
        with pytest.raises(graphpipe.InvalidRequest, match=f"'x' has {word}"):
            echo.infer({"x": value})


def test_columns_that_could_have_holes_and_have_none_are_welcome(echo):
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    whole = np.ma.array([1, 2], mask=False)
    for value in (arrow.array([1, 2]), pandas.Series([1, 2], dtype="Int64"), pandas.Series([1.0, np.nan]), whole):
        assert echo.infer({"x": value})["x"].shape == (2,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch().ones(2, dtype=torch().bfloat16), "bfloat16 has no type on the wire: send it as float32"),
        (lambda: torch().ones(2).to(torch().float8_e4m3fn), "float8_e4m3fn has no type on the wire"),
        (lambda: torch().ones(2).to_sparse(), "[Ss]parse"),
        (lambda: torch().ones(2, device="meta"), "meta"),
        (lambda: torch().ones(2, dtype=torch().complex64), "complex64"),
        (lambda: pytest.importorskip("ml_dtypes").bfloat16(1), "bfloat16"),
        (lambda: [[1], [1, 2]], "no array"),
        (lambda: {"a": 1}, "a dict came|inputs by name go with infer"),
        (lambda: None, "NoneType"),
        (lambda: [2**70], "whole numbers that 64 bits cannot hold"),
        (lambda: np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
    ],
)
def test_what_is_no_tensor_is_refused_in_words(echo, serve_echo, make, message):
    with pytest.raises(graphpipe.InvalidRequest, match=message):
        echo.infer({"x": make()})
    with graphpipe.Client(serve_echo) as client, pytest.raises(graphpipe.InvalidRequest, match=message):
        client.execute(make())


def test_lists_and_numbers_take_the_type_of_the_models_input(tmp_path):
    with graphpipe.load(onnx_graphs.pair_sum(tmp_path / "m.onnx")) as model:
        total = model.infer({"a": [[1, 2, 3]], "b": [[0.5, 0.5, 0.5]]})["sum"]
        np.testing.assert_array_equal(total, np.array([[1.5, 2.5, 3.5]], np.float32))
        with pytest.raises(graphpipe.InvalidRequest, match="float64"):
            model.infer({"a": np.ones((1, 3)), "b": [[0, 0, 0]]})


def test_outputs_are_torch_tensors_if_asked_for_and_share_the_memory():
    made = []

    def twice(x):
        result = x * 2
        made.append(result.ctypes.data)
        return result

    value = np.arange(6000, dtype=np.float32).reshape(2, 3000)
    tensor = graphpipe.load(twice).infer({"x": value}, outputs_as="torch")["output_0"]
    assert isinstance(tensor, torch().Tensor)
    assert tensor.data_ptr() == made[0]
    np.testing.assert_array_equal(tensor.numpy(), value * 2)


def test_outputs_that_must_not_be_written_to_become_tensors_of_their_own(echo):
    value = np.arange(3)
    value.flags.writeable = False
    echo.infer({"x": value}, outputs_as="torch")["x"] += 1
    np.testing.assert_array_equal(value, [0, 1, 2])


def test_text_has_no_torch_tensor(echo):
    torch()
    with pytest.raises(TypeError, match="output 'x' is text"):
        echo.infer({"x": np.array(["a"], object)}, outputs_as="torch")
    with pytest.raises(ValueError, match="'numpy' or 'torch'"):
        echo.infer({"x": VALUES}, outputs_as="jax")


def test_the_model_runs_on_tensors_end_to_end(tmp_path):
    with graphpipe.load(onnx_graphs.pair_sum(tmp_path / "m.onnx")) as model:
        a = torch().ones(2, 3)
        total = model.infer({"a": a, "b": a * 2}, ["sum"], outputs_as="torch")["sum"]
        assert torch().equal(total, torch().full((2, 3), 3.0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: (i for i in range(3)), "is no array: a generator came; expected an array, a list or a number$"),
        (lambda: {1, 2}, "is no array: a set came"),
        (
            lambda: pytest.importorskip("scipy.sparse").csr_matrix(np.eye(2)),
            r"a csr_matrix came; .*: .toarray\(\) makes",
        ),
        (
            lambda: ["a", 1],
            r"holds text and numbers \('int'\), and a tensor has one type: make the ones of the others$",
        ),
        (lambda: [2**70], "holds whole numbers that 64 bits cannot hold, and no type on the wire has more$"),
        (lambda: [Decimal(1)], r"holds values of Decimal, which have no type on the wire: float\(\) makes numbers"),
        (lambda: [{"a": 1}], "holds values of dict, which have no type on the wire$"),
    ],
)
def test_what_is_no_array_is_called_by_its_name_with_what_would_do(make, words):
    with graphpipe.load("echo") as model, pytest.raises(graphpipe.InvalidRequest, match=words):
        model.execute(make())

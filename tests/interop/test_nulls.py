"""A null has no place in a tensor: wherever it hides it is refused, and nothing else becomes of it."""

from __future__ import annotations

import numpy as np
import pytest

import graphpipe

MASKED = np.ma.array([1.0, 2.0], mask=[False, True])
NULLABLE_TEXT = np.array(["a", None], np.dtypes.StringDType(na_object=None))


@pytest.fixture(scope="module")
def echo():
    with graphpipe.load("echo") as model:
        yield model


@pytest.fixture(scope="module")
def url():
    from tests.serving import serving

    with serving("-m", "echo") as server:
        yield server.url


def pd():
    return pytest.importorskip("pandas")


def pa():
    return pytest.importorskip("pyarrow")


def pl():
    return pytest.importorskip("polars", reason="polars is not among what the tests install")


def dictionary(values):
    return pa().DictionaryArray.from_arrays(pa().array([0, 1, 0]), pa().array(values))


def tensors(values):
    kind = pa().list_(pa().float32(), 2)
    return pa().ExtensionArray.from_storage(pa().fixed_shape_tensor(pa().float32(), [2]), pa().array(values, kind))


def polars_of_arrays(values):
    return pl().Series(values, dtype=pl().Array(pl().Int64, 2))


NULLS = {
    "a nullable Series": lambda: pd().Series([1, None], dtype="Int64"),
    "a Series of floats on Arrow": lambda: pd().Series([1.0, None], dtype="double[pyarrow]"),
    "a Series of text": lambda: pd().Series(["a", None], dtype="str"),
    "a Series of objects": lambda: pd().Series(["a", None], dtype=object),
    "a Series of bools and None": lambda: pd().Series([True, None]),
    "a categorical Series": lambda: pd().Series([1.0, None]).astype("category"),
    "a Categorical": lambda: pd().Categorical([1.0, None]),
    "a nullable Index": lambda: pd().Index(pd().array([1, None], "Float64")),
    "a nullable array": lambda: pd().array([1.0, None], "Float64"),
    "an array on Arrow": lambda: pd().array([1.0, None], "double[pyarrow]"),
    "an array of bools": lambda: pd().array([True, None], "boolean"),
    "a frame with a nullable column": lambda: pd().DataFrame({"a": pd().array([1, None], "Int64")}),
    "a frame with a column on Arrow": lambda: pd().DataFrame({"a": pd().array([1, None], "int32[pyarrow]")}),
    "a frame with a column of text": lambda: pd().DataFrame({"a": ["x", None]}),
    "a frame with a categorical column": lambda: pd().DataFrame({"a": pd().Categorical([1.0, None])}),
    "the second column of a frame": lambda: pd().DataFrame({"null_count": [1.0], "b": pd().array([None], "Float64")}),
    "a Series of Arrow's dictionary": lambda: pd().Series(pd().arrays.ArrowExtensionArray(dictionary([1, None]))),
    "a list of Series": lambda: [pd().Series([1, None], dtype="int32[pyarrow]")] * 2,
    "an array of Arrow's": lambda: pa().array([1, None]),
    "an array of nothing else": lambda: pa().nulls(2),
    "a chunk": lambda: pa().chunked_array([[1], [None]]),
    "a table": lambda: pa().table({"a": [1, 2], "b": [1, None]}),
    "a record batch": lambda: pa().record_batch({"a": [1, 2], "b": [1, None]}),
    "what a dictionary array points to": lambda: dictionary([1, None]),
    "a dictionary of text": lambda: dictionary(["a", None]),
    "the chunks of a dictionary": lambda: pa().chunked_array([dictionary([1, None])]),
    "a run": lambda: pa().RunEndEncodedArray.from_arrays([2, 3], pa().array([1, None])),
    "lists": lambda: pa().array([[1, None], [2, 3]]),
    "lists of one size": lambda: pa().array([[1, None], [2, 3]], pa().list_(pa().int32(), 2)),
    "structs": lambda: pa().array([{"a": 1}, {"a": None}]),
    "an array of tensors": lambda: tensors([[1, None], [2, 3]]),
    "a list of Arrow's arrays": lambda: [pa().array([1, None])] * 2,
    "a polars Series": lambda: pl().Series([1, None]),
    "a polars Series of text": lambda: pl().Series(["a", None]),
    "a polars Series of arrays": lambda: polars_of_arrays([[1, None], [2, 3]]),
    "a polars Series of structs": lambda: pl().Series([{"a": 1}, {"a": None}]),
    "a polars Series of lists": lambda: pl().Series([[1, None], [], [2, 3]]),
    "a polars frame of lists": lambda: pl().DataFrame({"a": [[1, None], [2, 3]]}),
    "a polars frame": lambda: pl().DataFrame({"a": [1, None], "b": [1, 2]}),
    "a polars frame of arrays": lambda: pl().DataFrame({"a": polars_of_arrays([[1, None], [2, 3]])}),
    "a list of polars Series": lambda: [pl().Series([1, None])] * 2,
    "an object array": lambda: np.array(["a", None], object),
    "an object array, as NaN": lambda: np.array(["a", np.nan], object),
    "an object array, as pandas' NA": lambda: np.array(["a", pd().NA], object),
    "an object array, as NaT": lambda: np.array(["a", pd().NaT], object),
    "a list of text": lambda: ["a", None],
    "numpy's text, as None": lambda: NULLABLE_TEXT,
    "numpy's text, as NaN": lambda: np.array(["a", np.nan], np.dtypes.StringDType(na_object=np.nan)),
    "numpy's text, as text": lambda: np.array(["a", "-"], np.dtypes.StringDType(na_object="-")),
    "a list of numpy's text": lambda: [NULLABLE_TEXT],
}  # fmt: skip
MASKS = {
    "a masked array": lambda: MASKED,
    "a list of masked arrays": lambda: [MASKED, MASKED],
    "a list of lists of them": lambda: [[MASKED.data], [MASKED]],
    "a tuple of them": lambda: (MASKED,),
    "a list of numbers and numpy's masked": lambda: [1.0, np.ma.masked],
    "a masked scalar": lambda: np.ma.masked,
}
HOLES = [
    *(pytest.param(make, "has nulls", id=name) for name, make in NULLS.items()),
    *(pytest.param(make, "has masked elements", id=name) for name, make in MASKS.items()),
]


@pytest.mark.parametrize(("make", "words"), HOLES)
def test_a_null_is_refused_wherever_it_hides(echo, url, make, words):
    with pytest.raises(graphpipe.InvalidRequest, match=f"'x' .*{words}.*fill them first"):
        echo.infer({"x": make()})
    for call in (graphpipe.remote.execute, lambda url, value: graphpipe.remote.execute(url, value, cast=True)):
        with pytest.raises(graphpipe.InvalidRequest, match=words):
            call(url, make())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: pd().Series([1.0, np.nan]), [1, np.nan]),
        (lambda: pd().DataFrame({"a": [1.0, np.nan]}), [[1], [np.nan]]),
        (lambda: [1.0, float("nan")], [1, np.nan]),
        (lambda: pd().DataFrame({"a": pd().array([1, 2], "Int64")}), [[1], [2]]),
        (lambda: pd().Categorical([1.0, 2.0]), [1, 2]),
        (lambda: pa().table({"a": [1, 2], "b": [3, 4]}), [[1, 3], [2, 4]]),
        (lambda: pa().array([None, 1, 2])[1:], [1, 2]),
        (lambda: tensors([[None, 0], [1, 2], [3, 4]])[1:], [[1, 2], [3, 4]]),
        (lambda: dictionary([1, 2]), [1, 2, 1]),
        (lambda: polars_of_arrays([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (lambda: pl().DataFrame({"a": [1, 2]}), [[1], [2]]),
        (lambda: pl().Series([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (lambda: pl().Series([[], []], dtype=pl().List(pl().Int64)), [[], []]),
        (lambda: pa().array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (lambda: pa().chunked_array([tensors([[1, 2], [3, 4]])]), [[1, 2], [3, 4]]),
        (lambda: np.ma.array([1.0, 2.0], mask=False), [1, 2]),
        (lambda: [np.ma.array([1.0, 2.0])] * 2, [[1, 2], [1, 2]]),
    ],
)
def test_what_could_have_nulls_and_has_none_is_a_tensor_and_so_is_nan(echo, make, expected):
    np.testing.assert_array_equal(echo.infer({"x": make()})["x"], expected)


def test_a_list_that_contains_itself_is_refused_too(echo):
    endless: list[object] = [np.ma.array([1.0])]
    endless.append(endless)
    with pytest.raises(graphpipe.InvalidRequest, match="'x' is no array: a list that holds itself"):
        echo.infer({"x": endless})


def test_lists_that_a_walk_of_every_way_would_never_end_in_are_refused_at_once(echo):
    twice: list[object] = []
    twice += [twice, twice]
    with pytest.raises(graphpipe.InvalidRequest, match="a list that holds itself"):
        echo.execute(twice)
    deep: list[object] = [1.0]
    for _ in range(100):
        deep = [deep, deep]
    with pytest.raises(graphpipe.InvalidRequest, match="lists in lists, more than 32 deep"):
        echo.execute(deep)


def test_a_list_that_is_there_more_than_once_is_looked_into_and_is_an_array(echo):
    row = [[1.0, 2.0]]
    assert echo.infer({"x": [row, row]})["x"].tolist() == [row, row]
    masked = [MASKED]
    with pytest.raises(graphpipe.InvalidRequest, match="masked elements"):
        echo.infer({"x": [[masked, masked], [masked, masked]]})


@pytest.mark.parametrize(
    "value", [MASKED, np.array(["a", None], np.dtypes.StringDType(na_object=None))], ids=["mask", "text"]
)
def test_a_function_that_gives_nulls_has_failed(value):
    def gives(x):
        return value

    with graphpipe.load(gives) as model, pytest.raises(graphpipe.ModelFailed) as failure:
        model.infer({"x": [1.0]})
    assert "fill them first" in str(failure.value.__cause__)


TEXT = np.array(["ab", "", "ä", "long enough to lie on the heap of the array"], np.dtypes.StringDType())
BYTES = [text.encode() for text in TEXT.tolist()]


def test_numpys_text_of_any_length_travels_as_text(echo, url):
    nullable = TEXT.astype(np.dtypes.StringDType(na_object=None))
    for text in (TEXT, nullable, TEXT[::-1][::-1], TEXT.reshape(2, 2).T.T):
        assert echo.infer({"x": text})["x"].reshape(-1).tolist() == BYTES
        assert graphpipe.remote.execute(url, text).reshape(-1).tolist() == BYTES
    assert graphpipe.remote.execute(url, [TEXT, TEXT]).tolist() == [BYTES, BYTES]
    assert graphpipe.remote.execute(url, np.array("a", np.dtypes.StringDType())).item() == b"a"


def test_a_function_may_give_numpys_text():
    @graphpipe.model(inputs={"x": "float32[n]"}, outputs={"t": "string[n]"})
    def words(x):
        return TEXT[: len(x)]

    def undeclared(x):
        return TEXT[: len(x)]

    for function in (words, undeclared):
        with graphpipe.load(function) as model:
            (text,) = model.infer({"x": [1.0, 2.0]}).values()
            assert text.tolist() == ["ab", ""]


def test_text_of_polars_keeps_its_nuls(echo):
    assert echo.infer({"x": pl().Series(["a\0", "b"])})["x"].tolist() == [b"a\0", b"b"]

"""Frames: columns by name, or one tensor; and a frame back. On a server and in this process alike."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import numpy as np
import pytest

import graphpipe
from tests.serving import serving

pd = pytest.importorskip("pandas")

MODELS = """
import numpy as np
import graphpipe

@graphpipe.model(inputs={"age": "float32[n]", "fare": "int64[n, 1]", "town": "string[n]"},
                 outputs={"sum": "float32[n]", "two": "float32[n, 2]", "town": "string[n]"})
def columns(age, fare, town):
    total = age + fare[:, 0].astype("f4")
    return {"sum": total, "two": np.stack([age, total], 1), "town": town}

@graphpipe.model(inputs={"x": "float32[n, 3]"}, outputs={"y": "float32[n]", "cube": "float32[n, 1, 3]"})
def tensor(x):
    return {"y": x.sum(1), "cube": x[:, None]}
"""
ROWS = {"age": [1.0, 2.0], "fare": [10, 20], "town": ["Köln", "Ulm"]}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "models.py"
    path.write_text(MODELS)
    both = [word for name in ("columns", "tensor") for word in ("--model", f"{name}={path}:{name}")]
    with serving(*both) as server:
        yield path, server.url


@pytest.fixture(params=["Client", "AsyncClient", "load"])
def call(request, sources):
    path, url = sources

    def call(model, method, *args, **kwargs):
        if request.param == "load":
            with graphpipe.load(f"{path}:{model}") as loaded:
                return getattr(loaded, method)(*args, **kwargs)
        if request.param == "Client":
            with graphpipe.Client(f"{url}/models/{model}") as client:
                return getattr(client, method)(*args, **kwargs)

        async def run():
            async with graphpipe.AsyncClient(f"{url}/models/{model}") as client:
                return await getattr(client, method)(*args, **kwargs)

        return asyncio.run(run())

    return call


def frame(**columns):
    return pd.DataFrame({**ROWS, **columns}, index=["first", "second"])


def test_columns_go_by_name_and_a_frame_comes_back_with_its_index(call):
    answer = call("columns", "infer", frame(), as_frame=True)
    assert list(answer.columns) == ["sum", "two_0", "two_1", "town"]
    assert list(answer.index) == ["first", "second"]
    assert answer["sum"].tolist() == [11.0, 22.0]
    assert answer["two_1"].tolist() == [11.0, 22.0]
    assert answer["town"].tolist() == ["Köln", "Ulm"]


@pytest.mark.parametrize(
    "columns",
    [
        {"age": pd.array([1, 2], "Int64")},
        {"fare": [10.0, 20.0]},
        {"age": [True, True], "fare": pd.array([10, 21], "UInt8")},
        {"town": pd.Categorical(["Köln", "Ulm"])},
        {"town": pd.array(["Köln", "Ulm"], "string")},
        {"fare": np.array([10, 20], object)},
        {"age": np.array([1, 2.0], object)},
    ],
    ids=str,
)
def test_what_loses_nothing_is_converted(call, columns):
    answer = call("columns", "infer", frame(**columns), ["sum", "town"])
    assert answer["sum"].tolist() in ([11.0, 22.0], [11.0, 21.0 + 1.0])
    assert answer["town"].tolist() == ["Köln".encode(), b"Ulm"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"fare": [1.5, 2.0]}, "column 'fare' has values that int64 cannot hold: round it first"),
        ({"age": [2**24 + 1, 1]}, "column 'age' has whole numbers over 16777216, which float32 cannot hold exactly"),
        ({"age": [1e300, 1]}, "column 'age' has values that float32 cannot hold"),
        ({"age": ["1", "2"]}, "column 'age' is text, but the model takes float32"),
        ({"age": pd.Categorical(["a", "b"])}, "column 'age' is text, but the model takes float32"),
        ({"town": [1, 2]}, "column 'town' is int64, but the model takes text"),
        ({"age": pd.to_datetime(["2024-01-01", "2024-01-02"])}, "column 'age' holds times"),
        ({"age": pd.array([1, None], "Int64")}, "column 'age' has nulls, which a tensor cannot have; fill them first"),
        ({"town": ["a", None]}, "column 'town' has nulls"),
        ({"town": [pd.Timestamp(0), b"a"]}, "column 'town' holds values of Timestamp, which have no type on the wire"),
        (
            {"town": np.array([1, "a"], object)},
            r"column 'town' holds text and numbers \('int'\), and a tensor has one type",
        ),
        ({"fare": np.array([2**70, 1], object)}, "column 'fare' holds whole numbers that 64 bits cannot hold"),
        ({"fare": [np.nan, 1.0]}, "column 'fare' has values that int64 cannot hold: NaN, .*; fill them first"),
        ({"fare": [Decimal("1.5"), Decimal(2)]}, r"values of Decimal, which have no type on the wire: float\(\) makes"),
        (
            {"age": pd.to_datetime(["2024-01-01", "2024-01-02"]).tz_localize("UTC")},
            "'age' holds values of Timestamp, which have no type on the wire: send the number that the model was trained",
        ),
        ({"weight": [1, 2]}, r"the frame has a column 'weight', which is no input of the model; .*df\[\['age', 'fare'"),
        ({"weight": [1, 2], "size": [1, 2]}, "the frame has columns 'weight', 'size', which are no inputs"),
    ],
    ids=str,
)
def test_what_would_be_lost_or_guessed_is_refused_in_words(call, columns, words):
    with pytest.raises(graphpipe.InvalidRequest, match=words):
        call("columns", "infer", frame(**columns))


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (lambda: frame()[["age", "town"]], "the frame has no column for the model's input 'fare'$"),
        (lambda: frame()[["age"]], "the frame has no column for the model's inputs 'fare', 'town'$"),
        (lambda: frame().rename(columns={"fare": "Fare"}), "input 'fare', and 'Fare' is no input; did you mean 'Fare'"),
        (lambda: pd.DataFrame([[1, 2, 3]]), "names, which are text; 0 is the name of one: set df.columns"),
        (lambda: pd.concat([frame(), frame()], axis=1), "the frame has two columns of the name 'age'"),
    ],
    ids=str,
)
def test_columns_that_are_missing_or_too_many_are_named(call, of, words):
    with pytest.raises(graphpipe.InvalidRequest, match=words):
        call("columns", "infer", of())


def test_a_model_of_one_input_gets_the_columns_as_one_tensor(call):
    rows = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    assert call("tensor", "infer", rows, ["y"])["y"].tolist() == [2.5, 3.5]
    assert call("tensor", "infer", rows, ["y"], as_frame=True)["y"].tolist() == [2.5, 3.5]
    assert call("tensor", "execute", rows, output_name="y").tolist() == [2.5, 3.5]
    assert call("tensor", "execute", rows.astype("float64"), "x", "y").tolist() == [2.5, 3.5]
    with pytest.raises(graphpipe.InvalidRequest, match="input 'x' takes 3 columns, and the frame has 2"):
        call("tensor", "infer", rows[["a", "b"]])
    with pytest.raises(
        graphpipe.InvalidRequest, match=r"columns of text \('b'\)|column 'b' is text, but the model takes"
    ):
        call("tensor", "infer", rows.assign(b=["x", "y"]))


def test_execute_sends_one_tensor_and_says_so(call):
    with pytest.raises(
        graphpipe.InvalidRequest, match=r"the model has 3: infer\(df\) sends the columns by their names"
    ):
        call("columns", "execute", frame())


def test_what_has_no_place_in_a_frame_is_said(call):
    rows = {"x": np.ones((2, 3), np.float32)}
    with pytest.raises(ValueError, match=r"output 'cube' has shape \[2, 1, 3\], which has no place in a frame"):
        call("tensor", "infer", rows, as_frame=True)
    assert call("tensor", "infer", rows, ["y"], as_frame=True)["y"].tolist() == [3.0, 3.0]
    with pytest.raises(graphpipe.InvalidRequest, match="two forms of the same outputs"):
        call("tensor", "infer", rows, ["y"], as_frame=True, outputs_as="torch")
    with pytest.raises(graphpipe.InvalidRequest, match="as_frame is True or False; 'yes' came"):
        call("tensor", "infer", rows, ["y"], as_frame="yes")


def test_arrows_tables_and_polars_frames_go_the_same_way(call):
    pa = pytest.importorskip("pyarrow")
    answer = call("columns", "infer", pa.table(ROWS), as_frame=True)
    assert answer.column("town").to_pylist() == ["Köln", "Ulm"]
    pl = pytest.importorskip("polars", reason="polars is not among what the tests install")
    answer = call("columns", "infer", pl.DataFrame(ROWS), as_frame=True)
    assert answer["sum"].to_list() == [11.0, 22.0]


def test_a_frame_without_rows_is_of_any_type(call):
    for empty in (pd.DataFrame(columns=["age", "fare", "town"]), frame().iloc[:0]):
        answer = call("columns", "infer", empty, as_frame=True)
        assert (len(answer), list(answer.columns)) == (0, ["sum", "two_0", "two_1", "town"])
    assert call("tensor", "execute", pd.DataFrame(columns=["a", "b", "c"]), output_name="y").shape == (0,)


def test_what_only_looks_like_a_frame_is_refused_in_words(call):
    with pytest.raises(
        graphpipe.InvalidRequest, match="is no array: a type came; expected an array, a list or a number"
    ):
        call("tensor", "execute", pd.DataFrame)
    pl = pytest.importorskip("polars", reason="polars is not among what the tests install")
    lazy = pl.DataFrame({"a": [1.0]}).lazy()
    with pytest.raises(graphpipe.InvalidRequest, match=r"a LazyFrame came, which is yet to be computed; .collect\(\)"):
        call("tensor", "execute", lazy)
    with pytest.raises(graphpipe.InvalidRequest, match=r"a LazyFrame came, .*: infer\(frame.collect\(\)\)"):
        call("columns", "infer", lazy)

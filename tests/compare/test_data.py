"""From what a user has to calls: the same calls, whichever form it is in."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pandas
import pyarrow
import pytest
from hypothesis import given
from hypothesis.strategies import booleans, integers, sampled_from
from pyarrow import parquet

from graphpipe import Case, InvalidRequest, Signature, TensorSpec
from graphpipe.comparison.columns import Held, of_npz
from graphpipe.comparison.cut import Cut
from graphpipe.comparison.sources import source_of


def signature(outputs=(), **inputs):
    specs = tuple(TensorSpec.of(name, words) for name, words in inputs.items())
    return Signature(specs, tuple(TensorSpec.of(*each.split(": ")) for each in outputs))


def calls(data, spec, **more):
    source = source_of(data, spec, **more)
    found = list(source)
    assert source.calls == len(found)
    again = list(source)
    assert [call.name for call in again] == [call.name for call in found]
    return found


X = np.arange(15, dtype=np.float32).reshape(5, 3)
Y = np.arange(5)


@pytest.fixture(params=["mapping", "npz", "packed npz", "folder of npy", "parquet", "frame"])
def rows(request, tmp_path):
    """The arrays x [5] and label [5] in one of the forms that have rows."""
    arrays = {"x": X[:, 0], "label": np.array(["a", "b", "c", "d", "e"]), "y": Y}
    if request.param == "mapping":
        return arrays
    if request.param == "folder of npy":
        for name, array in arrays.items():
            np.save(tmp_path / name, array)
        (tmp_path / "README").write_text("nothing")
        return tmp_path
    frame = pandas.DataFrame(arrays)
    if request.param == "frame":
        return frame
    if request.param == "parquet":
        file = tmp_path / "rows.parquet"
        parquet.write_table(pyarrow.Table.from_pandas(frame), file, row_group_size=3)
        return str(file)
    file = tmp_path / "rows.npz"
    (np.savez if request.param == "npz" else np.savez_compressed)(file, **arrays)
    return file


def test_rows_are_cut_into_calls_the_same_way_in_every_form(rows):
    found = calls(rows, signature(x="float32[n]"), batch=2)
    assert [call.name for call in found] == ["rows 0 to 1", "rows 2 to 3", "row 4"]
    assert [(call.rows, call.first_row) for call in found] == [(2, 0), (2, 2), (1, 4)]
    assert [call.inputs["x"].tolist() for call in found] == [[0, 3], [6, 9], [12]]
    assert [call.truth["y"].tolist() for call in found] == [[0, 1], [2, 3], [4]]
    assert {call.inputs["x"].dtype for call in found} == {np.dtype(np.float32)}
    assert [str(each) for call in found for each in call.truth["label"]] == ["a", "b", "c", "d", "e"]
    assert [call.truth.keys() for call in found] == 3 * [{"y", "label"}]


def test_what_has_no_rows_is_in_every_call():
    found = calls({"x": X, "t": np.float32(7)}, signature(x="float32[n, 3]", t="float32"), batch=4)
    assert [(len(call.inputs["x"]), call.inputs["t"].item()) for call in found] == [(4, 7), (1, 7)]


def test_one_axis_more_than_the_input_has_is_a_call_for_each():
    pictures = np.zeros((3, 4, 6, 3), np.uint8)
    found = calls({"picture": pictures, "t": np.float32(1), "name": ["a", "b", "c"]},
                  signature(picture="uint8[4, 6, 3]", t="float32"))  # fmt: skip
    assert [call.inputs["picture"].shape for call in found] == 3 * [(4, 6, 3)]
    assert [call.truth["name"].tolist() for call in found] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="leave the batch out"):
        source_of({"picture": pictures}, signature(picture="uint8[4, 6, 3]"), batch=2)
    (whole,) = calls({"picture": pictures[0]}, signature(picture="uint8[4, 6, 3]"))
    assert whole.inputs["picture"].shape == (4, 6, 3)


def test_text_that_is_a_call_for_each_row_stays_an_array():
    found = calls({"words": np.array(["a", "bc"])}, signature(words="string"))
    assert [(type(call.inputs["words"]), call.inputs["words"].item()) for call in found] == [
        (np.ndarray, "a"), (np.ndarray, "bc"),
    ]  # fmt: skip


def test_a_number_of_rows_that_the_input_fixes_is_that_of_each_call():
    found = calls({"x": np.zeros((6, 3), np.float32), "y": np.arange(6)}, signature(x="float32[2, 3]"), batch=5)
    assert [(call.rows, call.truth["y"].tolist()) for call in found] == [(2, [0, 1]), (2, [2, 3]), (2, [4, 5])]
    with pytest.raises(ValueError, match="each call takes 4 rows, and 6 are not a multiple"):
        source_of({"x": np.zeros((6, 3))}, signature(x="float32[4, 3]"))
    with pytest.raises(ValueError, match="take 2 and 4 rows in one call"):
        source_of({"x": np.zeros((8, 3)), "z": np.zeros(8)}, signature(x="float32[2, 3]", z="float32[4]"))


def test_columns_side_by_side_are_the_only_input(tmp_path):
    frame = pandas.DataFrame({"a": [1.0, 2, 3], "b": [4, 5, 6], "kind": [0, 1, 0]})
    spec = signature(["kind: int64[n]"], features="float32[n, 2]")
    for data in (frame, pyarrow.Table.from_pandas(frame)):
        found = calls(data, spec, batch=2)
        assert [call.inputs["features"].tolist() for call in found] == [[[1, 4], [2, 5]], [[3, 6]]]
        assert [call.truth["kind"].tolist() for call in found] == [[0, 1], [0]]
    frame.rename(columns={"kind": "species"}).to_parquet(tmp_path / "f.parquet")
    with pytest.raises(InvalidRequest, match="takes 2 columns, and the frame has 3"):
        list(source_of(tmp_path / "f.parquet", spec))
    (call, *_) = calls(tmp_path / "f.parquet", spec, truth=["species"])
    assert call.truth["species"].tolist() == [0]


def test_a_folder_of_npz_has_a_call_in_each_with_arrays_of_any_size(tmp_path):
    for name, count in (("b", 4), ("a", 2)):
        np.savez(tmp_path / f"{name}.npz", x=np.zeros(count, np.float32), corners=np.zeros((count, 4)))
    found = calls(tmp_path, signature(x="float32[n]"))
    assert [(call.name, call.rows, call.truth["corners"].shape) for call in found] == [
        ("a.npz", 2, (2, 4)), ("b.npz", 4, (4, 4)),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="leave the batch out"):
        source_of(tmp_path, signature(x="float32[n]"), batch=2)


def test_cases_and_mappings_take_the_types_of_the_problem():
    spec = signature(["out: float32[n]"], x="float32[n]")
    case = Case({"x": [1, 2]}, {"out": [3, 4]}, name="small")
    found = calls([case, {"x": [1.5], "out": [2], "more": 1}], spec)
    assert [(call.name, call.rows, call.inputs["x"].dtype) for call in found] == [
        ("small", 2, np.float32), ("case 1", 1, np.float32),
    ]  # fmt: skip
    assert found[0].truth["out"].dtype == np.float32
    assert found[1].truth.keys() == {"out", "more"}


def test_what_is_expected_can_be_named(tmp_path):
    data = {"x": X, "y": Y, "z": Y}
    with pytest.raises(ValueError, match="has 'z', which is no input and not among what is expected: 'y'"):
        source_of(data, signature(x="float32[n, 3]"), truth=["y"])
    with pytest.raises(ValueError, match="has no 'label'; it has 'x', 'y', 'z'"):
        source_of(data, signature(x="float32[n, 3]"), truth=["label"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"y": X}, "has no 'x', which the problem takes; it has 'y'"),
        ({"picturs": X}, "has no 'picture', which the problem takes; it has 'picturs'; did you mean 'picturs'"),
        ({"x": X, "z": Y[:3]}, r"different numbers of rows \('x' 5, 'z' 3\)"),
        ({"x": X[:0], "z": Y[:0]}, "no rows in it"),
        (7, "a int came as data|an int came as data"),
        ([3], "case 0 is an? int"),
        ("nowhere.npz", "no such file or folder"),
    ],
)
def test_data_that_do_not_fit_are_refused_in_words(data, words):
    spec = signature(x="float32[n, 3]", z="int64[m]") if isinstance(data, dict) and "z" in data else None
    if "picture" in words:
        spec = signature(picture="float32[n, 3]")
    with pytest.raises(ValueError, match=words):
        list(source_of(data, spec or signature(x="float32[n, 3]")))


@given(
    rows=integers(1, 40),
    batch=integers(1, 50),
    fixed=sampled_from([None, 1, 2, 3]),
    packed=booleans(),
    stacked=booleans(),
)
def test_however_it_is_cut_every_row_is_asked_once_and_in_order(rows, batch, fixed, packed, stacked):
    x = np.arange(rows * 2, dtype=np.int64).reshape(rows, 2)
    axes = "2" if stacked else f"{fixed or 'n'}, 2"
    data = {"x": x, "y": x[:, 0]}
    if packed:
        stream = io.BytesIO()
        np.savez(stream, **data)
        data = of_npz(stream)
    if stacked:
        batch = 1
    elif fixed and rows % fixed:
        return
    columns = data if packed else {name: Held(array) for name, array in data.items()}
    found = list(Cut(columns, signature(x=f"int64[{axes}]"), batch, (), "it"))
    inputs = [call.inputs["x"].reshape(-1, 2) for call in found]
    assert np.concatenate(inputs).tolist() == x.tolist()
    assert [y for call in found for y in np.atleast_1d(call.truth["y"]).tolist()] == x[:, 0].tolist()
    assert sum(call.rows for call in found) == rows if not (fixed == rows and not stacked) else len(found) == 1


# --- files from anywhere ---


def test_a_large_npz_is_read_some_rows_at_a_time(tmp_path):
    rows = np.zeros((2000, 1000), np.float32)
    rows[:, 0] = np.arange(2000)
    np.savez_compressed(tmp_path / "large.npz", x=rows)
    source = source_of(tmp_path / "large.npz", signature(x="float32[n, 1000]"), batch=50)
    tracemalloc.start()
    first = [call.inputs["x"][0, 0] for call in source]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first == list(range(0, 2000, 50))
    assert peak < rows.nbytes / 8


def test_arrays_in_fortran_order_are_the_same_arrays(tmp_path):
    np.savez(tmp_path / "f.npz", x=np.asfortranarray(X))
    found = calls(tmp_path / "f.npz", signature(x="float32[n, 3]"), batch=2)
    assert np.concatenate([call.inputs["x"] for call in found]).tolist() == X.tolist()


def npz(tmp_path, **members):
    with zipfile.ZipFile(tmp_path / "hostile.npz", "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return tmp_path / "hostile.npz"


def npy(array, **more):
    stream = io.BytesIO()
    np.save(stream, array, **more)
    return stream.getvalue()


def head(shape):
    return npy(np.zeros(4, np.float32)).replace(b"(4,)", shape)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no .npz file that can be read"),
        (b"\x93NUMPY\x09\x00v\x00", "format 9.0 is not known"),
        (npy(np.array([print], object), allow_pickle=True), "pickled objects"),
        (head(b"(4000000000,)"), "has not as many bytes as its shape"),
        (head(b"(-1,)"), "no .npz file that can be read"),
        (npy(X)[:-1], "has not as many bytes as its shape"),
        (npy(np.zeros((0, 3))), "no rows in it"),
    ],
)
def test_files_that_lie_are_refused_before_anything_is_read(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        source_of(npz(tmp_path, x=content), signature(x="float32[n, 3]"))


def test_files_of_another_kind_are_named(tmp_path):
    (tmp_path / "x.npz").write_text("no zip")
    (tmp_path / "x.parquet").write_text("no parquet")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.npy").write_text("no array")
    (tmp_path / "x.mat").write_text("")
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("x.npz", "no .npz file"), ("x.parquet", "no Parquet file"), ("folder", "no array in .npy format"),
        ("x.mat", "is no data"), ("empty", "no .npz and no .npy file"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            source_of(tmp_path / name, signature(x="float32[n]"))

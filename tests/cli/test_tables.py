"""What a table becomes: CSV, Parquet, JSON's objects and rows; by name, or side by side."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from graphpipe.cli.inputs import values_of
from graphpipe.cli.presets import ImageForm
from graphpipe.signature import TensorSpec

PLAIN = ImageForm.of()
AGE, FARE = TensorSpec("age", np.dtype("i8"), ("n",)), TensorSpec("fare", np.dtype("f4"), ("n", 1))
NAME, ALIVE = TensorSpec("name", np.dtype(object), ("n",)), TensorSpec("alive", np.dtype(bool), ("n",))
WIDE = TensorSpec("x", np.dtype("f4"), ("n", 2))

PEOPLE = "age,fare,name,alive\n41,7.25,Ann,true\n7,31,Bo,0\n"
WANTED = {"age": [41, 7], "fare": [[7.25], [31]], "name": ["Ann", "Bo"], "alive": [True, False]}
CALLED = """
import numpy as np
from typing import Annotated
from numpy.typing import NDArray

def total(age: Annotated[NDArray[np.int64], "n"], fare: Annotated[NDArray[np.float32], "n", 1]):
    return age + fare[:, 0]

def wide(x: Annotated[NDArray[np.float32], "n", 2]):
    return x.sum(axis=1)
"""


def values(text, *specs):
    return dict(values_of([str(text)], specs, PLAIN))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The same people in every form."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.csv").write_text(PEOPLE)
    (tmp_path / "bom.csv").write_text(PEOPLE, "utf-8-sig")
    (tmp_path / "spreadsheet.csv").write_text(PEOPLE.replace(",", ";"))
    (tmp_path / "people.tsv").write_text(PEOPLE.replace(",", "\t"))
    columns = {"age": [41, 7], "fare": [7.25, 31], "name": ["Ann", "Bo"], "alive": [True, False]}
    (tmp_path / "columns.json").write_text(json.dumps(columns))
    rows = [{name: column[i] for name, column in columns.items()} for i in range(2)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "two.csv").write_text("a,b\n1,2\n3,4\n")
    return tmp_path


FORMS = ["people.csv", "bom.csv", "spreadsheet.csv", "people.tsv", "columns.json", "rows.json"]


@pytest.mark.parametrize("form", FORMS)
def test_each_column_is_the_input_of_its_name_in_the_models_type(files, form):
    assert values(form, AGE, FARE, NAME, ALIVE) == WANTED
    assert values(form, ALIVE, NAME, FARE, AGE) == WANTED
    written = (files / form).read_text() if form.endswith("json") else form
    assert values(written, AGE, FARE, NAME, ALIVE) == WANTED


def test_parquet_too(files):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(json.loads((files / "columns.json").read_text())), "people.parquet")
    assert values("people.parquet", AGE, FARE, NAME, ALIVE) == WANTED
    assert values("people.parquet:age,fare", WIDE) == {"x": [[41, 7.25], [7, 31]]}
    parquet.write_table(pyarrow.table({"age": [1, None], "fare": [1.0, 2.0]}), "gaps.parquet")
    with pytest.raises(ValueError, match=r"^gaps.parquet: row 2 of column 'age' is empty, and a tensor has no empty"):
        values("gaps.parquet", AGE, FARE)
    (files / "broken.parquet").write_bytes(b"not at all")
    with pytest.raises(ValueError, match="broken.parquet: no Parquet file"):
        values("broken.parquet", AGE)


def test_the_columns_side_by_side_are_a_models_one_input(files):
    assert values("two.csv", WIDE) == {"x": [[1.0, 2.0], [3.0, 4.0]]}
    assert values('{"a": [1, 3], "b": [2, 4]}', WIDE) == {"x": [[1, 2], [3, 4]]}
    assert values('[{"a": 1, "b": 2}]', WIDE) == {"x": [[1, 2]]}
    assert values('{"a": 1, "b": 2}', WIDE) == {"x": [[1, 2]]}
    assert values("x=two.csv", WIDE, AGE) == {"x": [[1.0, 2.0], [3.0, 4.0]]}
    assert values("two.csv", TensorSpec("x")) == {"x": [[1, 2], [3, 4]]}
    assert values('{"x": [1, 2], "y": [3, 4]}', WIDE) == {"x": [[1, 3], [2, 4]]}
    assert values('{"x": [[1, 2], [3, 4]]}', WIDE) == {"x": [[1, 2], [3, 4]]}


def test_numbers_without_names_above_them_lose_no_row(files):
    (files / "numbers.csv").write_text("1,2\n3,4\n")
    assert values("numbers.csv", WIDE) == {"x": [[1.0, 2.0], [3.0, 4.0]]}
    with pytest.raises(
        ValueError, match="its first line is numbers, and no names of columns; the model takes 'age', 'fare'"
    ):
        values("numbers.csv", AGE, FARE)


def test_some_columns_can_be_chosen(files):
    assert values("people.csv:fare,age", WIDE) == {"x": [[7.25, 41], [31, 7]]}
    assert values("people.csv:age,fare", AGE, FARE) == {"age": [41, 7], "fare": [[7.25], [31]]}
    assert values("age=people.csv:age", AGE, FARE) == {"age": [41, 7]}
    assert values("age=people.csv:fare", TensorSpec("age", np.dtype("f4"), ("n", 1)), FARE) == {"age": [[7.25], [31]]}


def test_one_row_is_a_table_too_and_a_type_that_is_not_known_is_guessed(files):
    assert values('{"age": 41, "fare": 7}', AGE, FARE) == {"age": [41], "fare": [[7]]}
    a, b, c = (TensorSpec(name) for name in "abc")
    (files / "x.csv").write_text("a,b,c\n1,1.5,x\n2,2,1\n")
    assert values("x.csv", a, b, c) == {"a": [1, 2], "b": [1.5, 2.0], "c": ["x", "1"]}


@pytest.mark.parametrize(
    ("text", "specs", "message"),
    [
        ("people.csv", (AGE, FARE), "people.csv: columns 'name', 'alive' are no input of the model; the model takes 'age', "
         "'fare'; leave them out: --input people.csv:age,fare"),
        ('{"agee": [1], "fare": [2]}', (AGE, FARE), "column 'agee' is no input of the model; did you mean 'age'?; the"),
        ("two.csv", (TensorSpec("x", np.dtype("f4"), ("n", 3)),), "two.csv: 2 columns ('a', 'b'), but the model takes 3: x"),
        ("two.csv", (TensorSpec("x", np.dtype("f4"), ("n", 2, 2)),), "2 columns are [n, 2], but the model takes x float32"),
        ("two.csv:c", (WIDE,), "two.csv: there is no column 'c'; its columns are 'a', 'b'"),
        ("two.csv:", (WIDE,), "name a column behind the colon; its columns are 'a', 'b'"),
        ("words.csv", (AGE,), "words.csv: row 2 of column 'age' is 'old', and the model takes a whole number (int64) there"),
        ("gap.csv", (AGE, FARE), "row 1 of column 'fare' is empty, and a tensor has no empty places; fill it first"),
        ("ragged.csv", (AGE, FARE), "ragged.csv: row 2 has 1 cell, and there are 2 columns"),
        ("twice.csv", (AGE,), "two columns are called 'age'"),
        ("empty.csv", (AGE,), "no line is in it"),
        ("none.csv", (AGE,), "none.csv"),
        ("index.csv", (WIDE,), "index.csv: column 1 has no name (pandas' index, perhaps, which to_csv(index=False) does not "
         "write); leave it out: --input index.csv:a"),
        ("quote.csv", (NAME,), "quote.csv: no CSV: unexpected end of data"),
        ("python.csv", (AGE,), "row 1 of column 'age' is '1_0', and the model takes a whole number"),
        ("latin.csv", (NAME,), "latin.csv: no CSV in UTF-8 (invalid continuation byte at byte 7); save it as UTF-8"),
        ('[{"age": 1}, {"fare": 1}]', (AGE,), "rows 1 and 2 have other columns"),
        ('[{"age": 1}, 2]', (AGE,), "row 2 is no object, and others are"),
        ('{"age": [1, null]}', (AGE,), "row 2 of column 'age' is empty"),
        ('{"a": [1, 2], "b": [1]}', (WIDE,), "column 'b' has 1 row, and 'a' 2"),
        ("{}", (AGE,), "an object without anything in it"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_with_the_names(files, text, specs, message):
    for name, content in (
        ("words", "age\n1\nold\n"), ("gap", "age,fare\n1,\n"), ("ragged", "age,fare\n1,2\n3\n"), ("twice", "age,age\n1,2\n"),
        ("empty", ""), ("index", ",a\n0,1\n"), ("quote", 'name\n"Ann\nBo\n'), ("python", "age\n1_0\n"),
    ):  # fmt: skip
        (files / f"{name}.csv").write_text(content)
    (files / "latin.csv").write_bytes("name\nZoë\n".encode("latin-1"))
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        values(text, *specs)


def test_the_commands_take_tables(graphpipe, folder, files):
    (files / "called.py").write_text(CALLED)
    for form in ("people.csv:age,fare", '{"age": [41, 7], "fare": [7.25, 31]}', '[{"fare": 7.25, "age": 41}]'):
        status, out, err = graphpipe("run", "called:total", "-i", form, "--json")
        assert (status, err) == (0, "")
        assert json.loads(out)["output_0"]["data"][0] == 48.25
    status, out, err = graphpipe("run", "called:wide", "-i", "two.csv", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["output_0"]["data"] == [3, 7]
    # What is missing is the model's to say.
    status, out, err = graphpipe("run", "called:total", "-i", "people.csv:age")
    assert (status, out) == (1, "")
    assert "missing input 'fare'; 'age' came; the model's inputs are 'age', 'fare'" in err


def test_a_server_is_asked_with_a_table_as_well(graphpipe, url, folder):
    digit = np.load("digit.npy")
    lines = [",".join(f"p{i}" for i in range(64)), *(",".join(map(str, row)) for row in digit.reshape(-1, 64))]
    (folder / "digits.csv").write_text("\n".join(lines))
    status, out, err = graphpipe("execute", url, "-i", "digits.csv", "--ask", "label", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["label"]["data"] == [7]
    out = graphpipe("run", "echo", "-i", '{"a": [1, 2], "b": [1.5, 2.5]}', "--json")[1]
    assert {name: output["data"] for name, output in json.loads(out).items()} == {"a": [1, 2], "b": [1.5, 2.5]}


def test_a_cell_may_be_a_whole_document(files):
    (files / "long.csv").write_text("name\n" + "a" * 200_000 + "\n")
    assert len(values("long.csv", NAME)["name"][0]) == 200_000


def test_a_folder_without_a_table_is_no_answer_without_outputs(files):
    pytest.importorskip("pyarrow")
    (files / "nothing.parquet").mkdir()
    with pytest.raises(ValueError, match="nothing.parquet: no column is in it"):
        values("nothing.parquet", AGE)

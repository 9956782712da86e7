"""A problem's file in three formats: what is written is read back, and a file may hold anything at all."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from graphpipe import Case, Problem, ProblemError
from graphpipe.problem import arrays, files

TOML = """\
name = "detection"
description = "Find things in a picture."

[inputs]
picture = "uint8[h, w, 3]"
threshold = { dtype = "float32", description = "0 to 1" }

[outputs]
corners = { type = "float32[found, 4]", description = "left, top, right, bottom" }
label = "string[found]"

[[tests]]
name = "nothing there"
atol = 0.01
inputs = { picture = { file = "arrays/dark.npy" }, threshold = 0.5 }
outputs = { corners = [], label = [] }

[[tests]]
inputs = "arrays/bright.npz"
[tests.outputs]
corners = [[0, 0, 1, 2]]
label = ["cat"]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "arrays").mkdir()
    dark = np.zeros((2, 3, 3), np.uint8)
    np.save(tmp_path / "arrays" / "dark.npy", dark)
    np.savez(tmp_path / "arrays" / "bright.npz", picture=np.asfortranarray(dark + 255), threshold=np.float32(0.25))
    return tmp_path


def read(folder, text, name="p.toml"):
    (folder / name).write_text(text)
    return Problem.read(folder / name)


def test_a_file_says_all_of_a_problem(folder):
    problem = read(folder, TOML)
    assert (problem.name, problem.description) == ("detection", "Find things in a picture.")
    assert [(spec.name, spec.text, spec.description) for spec in (*problem.inputs, *problem.outputs)] == [
        ("picture", "uint8[h, w, 3]", ""),
        ("threshold", "float32", "0 to 1"),
        ("corners", "float32[found, 4]", "left, top, right, bottom"),
        ("label", "string[found]", ""),
    ]
    nothing, bright = problem.tests
    assert (nothing.name, nothing.rtol, nothing.atol) == ("nothing there", 1e-5, 0.01)
    assert nothing.outputs["corners"].shape == (0, 4)
    assert nothing.inputs["picture"].shape == (2, 3, 3)
    assert bright.inputs["picture"].min() == 255
    assert bright.inputs["threshold"] == np.float32(0.25)
    assert bright.outputs["label"].tolist() == [b"cat"]


def test_the_three_formats_say_the_same(folder):
    problem = read(folder, TOML)
    for name in ("out.toml", "out.json", "out.yaml", "out.yml"):
        problem.write(folder / name)
        assert Problem.read(folder / name) == problem
    assert Problem.from_dict(json.loads(json.dumps(problem.to_dict()))) == problem


def test_large_arrays_go_beside_the_file(folder):
    picture = np.arange(30_000, dtype=np.float32).reshape(100, 300)
    problem = Problem.of({"x": "float32[n, m]"}, {"y": "float32"}, tests=[Case({"x": picture}, {"y": picture.T})])
    problem.write(folder / "large.toml")
    assert (folder / "large.toml").stat().st_size < 1000
    assert Problem.read(folder / "large.toml") == problem
    assert sorted(path.name for path in folder.iterdir()) == ["arrays", "large.npz", "large.toml"]


def test_a_file_is_replaced_whole_or_not_at_all(folder):
    problem = Problem.of({"x": "float32"}, {"y": "float32"})
    problem.write(folder / "p.toml")
    before = (folder / "p.toml").read_text()
    (folder / "p.json").mkdir()
    with pytest.raises(ProblemError, match=r"p\.json: "):
        problem.write(folder / "p.json")
    problem.write(folder / "p.toml")
    assert (folder / "p.toml").read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == ["arrays", "p.json", "p.toml"]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("p.toml", "name = ", r"p\.toml: not TOML: Invalid value"),
        ("p.toml", "name = 1 2\n", r"p\.toml: not TOML: .*line 1"),
        ("p.json", '{"inputs": ', r"p\.json: not JSON: .*line 1"),
        ("p.json", '{"name": "a", "name": "b"}', "p.json: not JSON: 'name' is there twice in one object"),
        ("p.yaml", "inputs: [", r"p\.yaml: not YAML: .*line 1"),
        ("p.yaml", "inputs: {x: float32, x: int8}", "p.yaml: not YAML: a key is there twice"),
        ("p.yaml", "a: &a [1, 2]\nb: [*a, *a]", r"p\.yaml: not YAML: references .*line 2"),
        ("p.yaml", "!!python/object/apply:os.system ['true']", "p.yaml: not YAML: could not determine a constructor"),
        ("p.yaml", "", r"p\.yaml: expected a table with inputs and outputs; None came"),
        ("p.json", "[" * 100_000, "p.json: not JSON: lists in lists"),
        ("p.yaml", "[" * 1_500, "p.yaml: not YAML: lists in lists"),
        ("p.toml", "a = " + "[" * 5_000, "p.toml: not TOML: "),
        ("p.json", f'{{"inputs": {"1" * 5000}}}', "p.json: not JSON: "),
        ("p.json", "3", "expected a table with inputs and outputs; 3 came"),
        ("p.toml", "[inputs]\nx = 'float32'", "a problem has outputs; there are none"),
        ("p.toml", "[input]\nx = 'float32'", "there is no key 'input'; did you mean 'inputs'"),
        ("p.toml", "name = 3\n[inputs]\n[outputs]\ny = 'any'", "name: expected text; 3 came"),
        ("p.toml", "tests = 3\n[inputs]\n[outputs]\ny = 'any'", "tests: expected a list of tables; 3 came"),
        ("p.ini", "", r"a problem's file is called \.toml, \.json or \.yaml; 'p\.ini' came"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_problem_is_refused_with_its_name(tmp_path, name, text, why):
    with pytest.raises(ProblemError, match=why):
        read(tmp_path, text, name)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ProblemError, match=r"gone\.toml: No such file"):
        Problem.read(tmp_path / "gone.toml")
    (tmp_path / "p.toml").mkdir()
    with pytest.raises(ProblemError, match=r"p\.toml: Is a directory"):
        Problem.read(tmp_path / "p.toml")
    (tmp_path / "q.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ProblemError, match=r"q\.toml: not UTF-8"):
        Problem.read(tmp_path / "q.toml")
    with (tmp_path / "r.json").open("wb") as file:
        file.truncate(files._FILE_BYTES_MAX + 1)
    with pytest.raises(ProblemError, match="larger arrays belong into an .npz file"):
        Problem.read(tmp_path / "r.json")


def test_yaml_without_its_library_says_what_to_install(tmp_path):
    (tmp_path / "p.yaml").write_text("name: p")
    code = (
        "import sys; sys.modules['yaml'] = None\n"
        "import graphpipe\n"
        f"try: graphpipe.Problem.read({str(tmp_path / 'p.yaml')!r})\n"
        "except graphpipe.ProblemError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "YAML needs PyYAML (pip install pyyaml); TOML and JSON need nothing" in run.stdout


# --- arrays in files --------------------------------------------------------------------------------------------------


def with_test(folder, inputs):
    table = {"inputs": {"x": "any"}, "outputs": {"y": "any"}, "tests": [{"inputs": inputs}]}
    return read(folder, json.dumps(table), "p.json").tests[0].inputs["x"]


def npy(array, allow_pickle=False):
    made = io.BytesIO()
    np.lib.format.write_array(made, np.asanyarray(array), allow_pickle=allow_pickle)
    return made.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.float16(1.5),
        np.zeros((0, 4), np.uint64),
        np.array([True, False]),
    ],
    ids=["big-endian", "columns", "scalar", "empty", "bool"],
)
def test_an_array_is_read_as_numpy_reads_it(folder, array):
    (folder / "x.npy").write_bytes(npy(array))
    got = with_test(folder, {"x": {"file": "x.npy"}})
    assert (got.dtype, got.shape) == (np.asarray(array).dtype.newbyteorder("="), np.asarray(array).shape)
    np.testing.assert_array_equal(got, array)


def test_text_in_a_file_is_text(folder):
    np.savez(folder / "x.npz", x=np.array(["é", "b"]), y=np.array([b"c", b""]))
    assert with_test(folder, {"x": {"file": "x.npz", "key": "x"}}).tolist() == ["é".encode(), b"b"]
    assert with_test(folder, {"x": {"file": "x.npz", "key": "y"}}).tolist() == [b"c", b""]


def archive_of(**members):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return made.getvalue()


HEAD = npy(np.zeros(4))
HUGE = HEAD[:10] + HEAD[10:].replace(b"(4,)", b"(2305843009213693951,)", 1)[: len(HEAD) - 10]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.npy", npy(np.array([{"a": 1}], object), allow_pickle=True), "holds Python objects, which are not read"),
        ("x.npy", b"", "no array in .npy format"),
        ("x.npy", b"\x93NUMPY\x01\x00\xff\xff{", "no array in .npy format"),
        ("x.npy", HUGE, "its header says|no array in .npy format"),
        ("x.npy", HEAD[:-8], "has 24 bytes of data, and its header says 32"),
        ("x.npy", HEAD + b"more", "has 36 bytes of data, and its header says 32"),
        ("x.npy", HEAD.replace(b"(4,)", b"(-4,)").replace(b" \n", b"\n", 1), "no array|its header says"),
        ("x.npy", npy(np.zeros(2, [("a", "i4"), ("é", "i4")])), "no array in .npy format|which does not travel"),
        ("x.npy", npy(np.zeros(2, "c8")), "complex64, which does not travel"),
        ("x.npz", b"PK nonsense", "is no .npz file"),
        ("x.npz", archive_of(x=b"nonsense"), "no array in .npy format"),
        ("x.npz", archive_of(x=HEAD)[:-30], "is no .npz file"),
        ("x.npz", archive_of(), "has no array ''; it has none"),
        ("x.npz", archive_of(a=HEAD, b=HEAD), "has no array ''; it has 'a', 'b'"),
        ("x.bin", HEAD, r"expected an \.npy file"),
    ],
    ids=str,
)
def test_a_file_of_arrays_may_hold_anything(folder, name, content, why):
    (folder / name).write_bytes(content)
    with pytest.raises(ProblemError, match=rf"p\.json: tests\[0\]\.inputs.*({why})"):
        with_test(folder, {"x": {"file": name}})


def test_a_bomb_is_not_unpacked(folder, monkeypatch):
    monkeypatch.setattr(arrays, "BYTES_MAX", 1000)
    monkeypatch.setattr(arrays.Room.__init__, "__defaults__", (1000,))
    (folder / "x.npz").write_bytes(archive_of(x=npy(np.zeros(100, np.uint8)), y=npy(np.zeros(2000, np.uint8))))
    assert with_test(folder, {"x": {"file": "x.npz", "key": "x"}}).size == 100
    with pytest.raises(ProblemError, match="at most 1,000 bytes together"):
        with_test(folder, {"x": {"file": "x.npz", "key": "y"}})


def test_a_member_that_is_more_than_it_says_is_cut(folder):
    content = bytearray(archive_of(x=npy(np.zeros(100_000, np.uint8))))
    # What the archive's directory says of its size, which is all that anybody knows before it is unpacked.
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = (1000).to_bytes(4, "little")
    (folder / "x.npz").write_bytes(bytes(content))
    with pytest.raises(ProblemError, match="Bad CRC|header says"):
        with_test(folder, {"x": {"file": "x.npz"}})


@pytest.mark.parametrize(
    "file", ["../outside.npy", "{}/outside.npy", "arrays/../../outside.npy", "link.npy", "ring.npy"]
)
def test_a_file_elsewhere_is_not_read(folder, file):
    inside = folder / "inside"
    inside.mkdir()
    (folder / "outside.npy").write_bytes(HEAD)
    (inside / "link.npy").symlink_to(folder / "outside.npy")
    (inside / "ring.npy").symlink_to(inside / "ring.npy")
    with pytest.raises(ProblemError, match="files lie beside the problem|[Ll]oop|Too many levels|there is no file"):
        with_test(inside, {"x": {"file": file.format(folder)}})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"file": "gone.npy"}, "there is no file 'gone.npy' beside the problem"),
        ({"file": "a\0b.npy"}, "embedded null"),
        ({"file": 3}, "file and key are text; 3 came"),
        ({"file": "x.npy", "dtype": "f4"}, "there is no key 'dtype'"),
        ({"dtype": "float32"}, "expected lists and numbers, or a table with file, data or base64"),
        ({"data": [1]}, "data needs dtype and shape beside it"),
        ({"data": [1], "dtype": "any", "shape": [1]}, "an array is of some type"),
        ({"data": [1], "dtype": "float32", "shape": [2]}, r"1 elements came, and a shape of \[2\] has 2"),
        ({"data": [1], "dtype": "float32", "shape": [2**40, 2**40]}, "1 elements came"),
        ({"data": [1], "dtype": "float32", "shape": [-1]}, "a size is a number, 0 or more; -1 came"),
        ({"data": ["a"], "dtype": "float32", "shape": [1]}, "no float32: 'a' came"),
        ({"data": [[1], [2, 3]], "dtype": "float32", "shape": [1]}, "no float32: a list came"),
        ({"data": [1.5], "dtype": "int8", "shape": [1]}, "no int8: 1.5 came"),
        ({"data": [1], "dtype": "bool", "shape": [1]}, "no bool: 1 came"),
        ({"data": [1e39], "dtype": "float32", "shape": [1]}, "no list of float32: overflow"),
        ({"data": [300], "dtype": "uint8", "shape": [1]}, "no list of uint8"),
        ({"data": [3], "dtype": "string", "shape": [1]}, "object array with an element of type int"),
        ({"base64": "AAAA!", "dtype": "float32", "shape": [1]}, "base64: "),
        ({"base64": "AAAA", "dtype": "float32", "shape": [1]}, "3 bytes are no whole number of float32"),
        ({"base64": "AAAA", "dtype": "string", "shape": [1]}, "of text it is a list"),
        ({"data": [], "base64": "", "dtype": "float32", "shape": [0]}, "expected lists and numbers, or a table with"),
        ([1, [2]], "ragged list"),
        (None, "null"),
    ],
)
def test_a_value_that_is_no_array_is_refused_with_its_place(folder, value, why):
    with pytest.raises(ProblemError, match=rf"tests\[0\]\.inputs.*{why}"):
        with_test(folder, {"x": value})

"""A package is made whole or not at all, the same each time, and has been tested where nothing else helped it."""

from __future__ import annotations

import os
import stat
import sys

import numpy as np
import pytest

import graphpipe
from graphpipe.package import Package, create
from graphpipe.package.contents import manifest_at
from tests.package.making import ADDITION, TEST, manifest, onnx_adder, python_adder


def add(inputs, package, **options):
    with graphpipe.load(package, **options) as model:
        return model.infer(inputs)["out"].tolist()


@pytest.mark.parametrize("name", ["adder", "adder.zip"])
def test_a_folder_and_a_zip_are_models_that_answer_by_the_problems_names(tmp_path, name):
    package = onnx_adder(tmp_path / name)
    assert package == tmp_path / name
    assert package.is_dir() == (name == "adder")
    with graphpipe.load(package) as model:
        assert model.name == "adder"
        assert str(model.signature) == "(x float32 [n], y float32 [n]) -> (out float32 [n])"
        assert model.infer({"x": [1, 2], "y": [3, 4]})["out"].tolist() == [4, 6]
        assert model.version == manifest_at(str(package)).digest
        assert model.description == "Adds two vectors."
        assert model.model.runtime.startswith("onnxruntime")
        with pytest.raises(graphpipe.InvalidRequest, match="'n' is 2.*'x'|there n is 2|where n is 2|axis 0"):
            model.infer({"x": [1, 2], "y": [3]})


def test_equal_inputs_make_equal_bytes(tmp_path):
    one, other = (onnx_adder(tmp_path / name, self_test=False) for name in ("one.zip", "other.zip"))
    os.utime(tmp_path / "other.zip.onnx", (1, 1))
    again = onnx_adder(tmp_path / "one.zip", self_test=False, overwrite=True)
    assert again.read_bytes() == one.read_bytes()
    # The file's own name is a part of it.
    assert manifest_at(str(one)).source != manifest_at(str(other)).source


def test_a_packages_folder_and_its_zip_are_one_package(tmp_path):
    model = tmp_path / "model.onnx"
    folder = onnx_adder(tmp_path / "adder", self_test=False)
    os.rename(tmp_path / "adder.onnx", model)
    said = {"model": model, "problem": ADDITION, "self_test": False, "name_map": manifest(folder).name_map}
    assert (
        manifest(create(tmp_path / "a", **said)).digest == manifest_at(str(create(tmp_path / "a.zip", **said))).digest
    )


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"test_data": {"inputs": {"x": [1], "y": [2]}, "outputs": {"out": [4]}}}, "3.0 where 4.0 was expected"),
        ({"test_data": {"inputs": {"x": [1]}}}, "'y' missing"),
        ({"test_data": {"inputs": {"x": [1], "y": ["a"]}}}, "test_data|tests"),
        ({"problem": graphpipe.Problem.of({"x": "float64[n]"}, {"sum": "float32"})}, "input 'x' is float64"),
        ({"model": "no_such.onnx", "name_map": {}}, "no_such.onnx"),
        ({"model": "no_such", "name_map": {}}, "not a kind of model"),
        ({"model": 7}, "an int is no model that can be packed"),
        ({"model": lambda x: x}, "no name in its file"),
        ({"model": "echo"}, "in graphpipe itself"),
        ({"model": "http://127.0.0.1:9/models/x"}, "a server's"),
        ({"model": "numpy:add"}, "an installed library"),
        ({"model": "no_such_module:f"}, "no module no_such_module"),
        ({"problem": 7}, "INPUT_SPEC, OUTPUT_SPEC"),
        ({"problem": "no_such.toml"}, "no_such.toml"),
        ({"framework_version": ">=one"}, "no version|no requirement"),
        ({"framework_version": "<0.1"}, "needs onnxruntime<0.1, and .* is installed here"),
        ({"platform": "no_such"}, "no platform 'no_such'"),
        ({"custom_ops": ["no_such.so"]}, "no library of operators"),
        ({"code": ["no_such.py"]}, "no file or folder"),
        ({"requirements": [1]}, "a list of texts"),
        ({"model_sha256": "0" * 64}, "--model-sha256 says 0000"),
        ({"upstream_api_key_file": "x"}, "upstream_api_key_file does nothing for a package"),
        ({"python": "no_such"}, "no environment of this name"),
        ({"save_as": ".onnx", "model": "adder.py:f"}, "adder.py"),
    ],
)
def test_what_cannot_be_made_is_said_and_leaves_nothing(tmp_path, monkeypatch, more, why):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(graphpipe.LoadError, match=why):
        if "problem" in more:
            more = {"test_data": (), **more}
        onnx_adder(tmp_path / "adder.zip", **more)
    assert os.listdir(tmp_path) == ["adder.zip.onnx"]


def test_an_option_that_does_not_exist_is_a_type_error(tmp_path):
    with pytest.raises(TypeError, match="no setting 'divice'"):
        onnx_adder(tmp_path / "adder", divice="cpu")


def test_only_a_package_is_overwritten_and_only_if_that_is_said(tmp_path):
    package = onnx_adder(tmp_path / "adder", self_test=False)
    with pytest.raises(graphpipe.PackageError, match="is there already.*overwrite=True"):
        onnx_adder(package)
    before = manifest(package).digest
    with pytest.raises(graphpipe.PackageError, match="fails its self-test"):
        onnx_adder(package, overwrite=True, test_data={"inputs": {"x": [1], "y": [2]}, "outputs": {"out": [4]}})
    assert manifest(package).digest == before
    python_adder(package, overwrite=True, self_test=False)
    assert add({"x": [1], "y": [2]}, package) == [3]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("the only copy")
    (tmp_path / "mine.zip").write_text("the only copy")
    for name in ("mine", "mine.zip"):
        with pytest.raises(graphpipe.PackageError, match="only a package is overwritten"):
            onnx_adder(tmp_path / name, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "the only copy"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_everybody_who_may_look_into_the_folder_may_read_the_package(tmp_path):
    package = onnx_adder(tmp_path / "adder", self_test=False)
    assert {stat.S_IMODE(each.stat().st_mode) for each in (package, *package.rglob("*"))} == {0o755, 0o644}


# --- code -------------------------------------------------------------------------------------------------------------


def test_two_packages_with_modules_of_one_name_have_their_own(tmp_path):
    packages = []
    for name, operator in (("plus", "+"), ("minus", "-")):
        folder = tmp_path / f"{name}_code"
        (folder / "inner").mkdir(parents=True)
        (folder / "model.py").write_text("from inner import parts\ndef run(x, y):\n    return parts.of(x, y)\n")
        (folder / "inner" / "__init__.py").write_text("")
        (folder / "inner" / "parts.py").write_text("from .deep import of\n")
        (folder / "inner" / "deep.py").write_text(f"def of(x, y):\n    return x {operator} y\n")
        packages.append(create(tmp_path / f"{name}.zip", model=f"{folder}/model.py:run", code=folder, problem=ADDITION))
    with graphpipe.load(packages[0]) as plus, graphpipe.load(packages[1]) as minus:
        for _ in range(2):
            assert plus.infer({"x": [5], "y": [2]})["out"].tolist() == [7]
            assert minus.infer({"x": [5], "y": [2]})["out"].tolist() == [3]


def test_code_that_lacks_a_module_fails_the_self_test_though_the_module_is_here(tmp_path, monkeypatch):
    (tmp_path / "adder.py").write_text("from helper import plus\ndef add(x, y):\n    return plus(x, y)\n")
    (tmp_path / "helper.py").write_text("def plus(x, y):\n    return x + y\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(graphpipe.PackageError, match="No module named 'helper'"):
        create(tmp_path / "p", model="adder.py:add", code="adder.py", problem=ADDITION)
    create(tmp_path / "p", model="adder:add", code=["adder.py", "helper.py"], problem=ADDITION)
    assert add({"x": [1], "y": [2]}, tmp_path / "p") == [3]
    with pytest.raises(graphpipe.PackageError, match="not among the package's code"):
        create(tmp_path / "q", model="adder.py:add", code="helper.py", problem=ADDITION)


def test_a_class_of_a_package_of_python_finds_its_data_beside_it(tmp_path, monkeypatch):
    library = tmp_path / "lib"
    (library / "data").mkdir(parents=True)
    (library / "__init__.py").write_text("")
    (library / "__pycache__").mkdir()
    (library / "__pycache__" / "x.pyc").write_bytes(b"x")
    (library / ".hidden").write_text("x")
    (library / "data" / "bias.txt").write_text("10")
    (library / "model.py").write_text(
        "from pathlib import Path\n"
        "class Adder:\n"
        "    def __init__(self):\n"
        "        self.bias = int((Path(__file__).parent / 'data' / 'bias.txt').read_text())\n"
        "    def __call__(self, x, y):\n"
        "        return x + y + self.bias\n"
    )
    monkeypatch.chdir(tmp_path)
    package = create("p.zip", model="lib.model:Adder", code=[library], problem=ADDITION, self_test=False)
    assert set(manifest_at(str(package)).files) == {
        "code/lib/__init__.py",
        "code/lib/model.py",
        "code/lib/data/bias.txt",
    }
    assert add({"x": [1], "y": [2]}, package) == [13]


def test_a_function_that_is_here_is_packed_with_its_file(tmp_path):
    from tests.package import functions

    package = create(tmp_path / "p", model=functions.add, problem=ADDITION, test_data=TEST)
    assert manifest(package).source == "code/functions.py:add"
    assert manifest(package).framework == "numpy"
    assert add({"x": [1], "y": [2]}, package) == [3]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("import sys; sys.exit(3)", "SystemExit"),
        ("import os; os._exit(3)", "ended with status 3, and said nothing"),
        ("import os; print('so it ends', flush=True); os.kill(os.getpid(), 9)", "ended by SIGKILL: so it ends"),
        ("import ctypes; ctypes.string_at(0)", "ended by SIGSEGV"),
        ("raise BaseException('no')", "BaseException: no"),
        ("import time; time.sleep(60)", "not over in 2 s"),
        (
            "import subprocess, threading, time; subprocess.Popen(['sleep', '3'], start_new_session=True); "
            "threading.Thread(target=time.sleep, args=[60]).start(); print('x' * 3_000_000); raise ValueError('no')",
            "no",
        ),
    ],
)
def test_a_model_that_ends_hangs_or_raises_ends_its_own_process_alone(tmp_path, body, why):
    (tmp_path / "adder.py").write_text(f"def add(x, y):\n    {body}\n")
    with pytest.raises(graphpipe.PackageError, match=why):
        create(
            tmp_path / "p", model=f"{tmp_path}/adder.py:add", problem=ADDITION, test_data=TEST,
            timeout_s=2 if "not over" in why else 60,
        )  # fmt: skip
    assert os.listdir(tmp_path) == ["adder.py"]


def test_code_that_ends_the_process_while_it_is_imported_is_no_package(tmp_path):
    (tmp_path / "adder.py").write_text("import os\nos._exit(0)\n")
    with pytest.raises(graphpipe.PackageError, match="ended with status 0, and said nothing"):
        create(tmp_path / "p", model=f"{tmp_path}/adder.py:add", problem=ADDITION)


# --- what goes along --------------------------------------------------------------------------------------------------


def test_tests_are_messages_that_any_client_may_send(tmp_path, serve):
    import urllib.request

    from graphpipe.wire import decode_infer_response

    package = onnx_adder(tmp_path / "adder", self_test=False)
    server = serve("--model", package)
    answer = urllib.request.urlopen(server.url, (package / "tests" / "0.request").read_bytes(), 30).read()
    assert decode_infer_response(answer).outputs[0].tolist() == [4, 6]


def test_every_type_is_kept_in_tests(tmp_path):
    types = ["bool", "float16", "float64", "int8", "uint8", "int64", "uint64", "string"]
    specs = {f"a_{name}": f"{name}[n, 2]" for name in types}
    values = {f"a_{name}": np.array([[0, 1], [1, 0]]).astype(name) for name in types[:-1]}
    values["a_string"] = np.array([[b"\0\xff", b""], [b"x", "ä".encode()]], object)
    outputs = {f"b{name[1:]}": array for name, array in values.items()}
    (tmp_path / "same.py").write_text(
        "def same(**values):\n    return {f'b{name[1:]}': value for name, value in values.items()}\n"
    )
    tests = [
        {"inputs": values, "outputs": outputs, "rtol": 0, "atol": 0, "name": "all"},
        {"inputs": {name: array[:0] for name, array in values.items()}, "name": "none"},
    ]
    problem = graphpipe.Problem.of(specs, {f"b{name[1:]}": text for name, text in specs.items()}, tests=tests)
    package = create(tmp_path / "p", model=f"{tmp_path}/same.py:same", problem=problem, self_test=False)
    from graphpipe.package.recorded import problem_of

    kept = problem_of(manifest(package), package)
    assert kept.tests == problem.tests
    assert kept == problem


def test_options_that_are_the_models_are_kept_and_those_of_the_machine_are_not(tmp_path):
    from tests import onnx_graphs

    file = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    problem = graphpipe.Problem.of({"a": "float32[n, 3]", "b": "float32[n, 3]"}, {"sum": "float32[n, 3]"})
    package = create(
        tmp_path / "p",
        model=file,
        problem=problem,
        outputs=["sum"],
        intra_threads=2,
        requirements=["onnxruntime  # any", "# none", ""],
        framework_version=">=1.0",
    )
    kept = manifest(package)
    assert kept.options == {"outputs": ["sum"]}
    assert kept.requirements == ("onnxruntime",)
    assert (kept.framework, kept.framework_range) == ("onnxruntime", ">=1.0")
    assert kept.python == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_tensors_that_lie_beside_an_onnx_file_come_along(tmp_path):
    import onnx
    from onnx import numpy_helper

    from tests import onnx_graphs

    file = onnx_graphs.save(
        tmp_path / "bias.onnx",
        [onnx_graphs.helper.make_node("Add", ["x", "bias"], ["out"])],
        [("x", onnx_graphs.FLOAT, ["n"])],
        [("out", onnx_graphs.FLOAT, ["n"])],
        [numpy_helper.from_array(np.full(1, 7, np.float32), "bias")],
        save_as_external_data=True, location="weights.bin", size_threshold=0,
    )  # fmt: skip
    assert onnx.load(file, load_external_data=False).graph.initializer[0].external_data
    problem = graphpipe.Problem.of({"x": "float32[n]"}, {"out": "float32[n]"})
    package = create(tmp_path / "p.zip", model=file, problem=problem, self_test=False)
    assert set(manifest_at(str(package)).files) == {"model/bias.onnx", "model/weights.bin"}
    assert add({"x": [1]}, package) == [8]


def test_an_onnx_model_that_is_here_is_written(tmp_path):
    import onnx

    from tests import onnx_graphs

    proto = onnx.load(onnx_graphs.pair_sum(tmp_path / "sum.onnx"))
    problem = ([{"name": "a", "dtype": "float32", "shape": ("n", 3)}, {"name": "b", "dtype": "float32", "shape": ("n", 3)}],
               [{"name": "out", "dtype": "float32", "shape": ("n", 3)}])  # fmt: skip
    package = create(tmp_path / "p", model=proto, problem=problem, name_map={"out": "sum"}, self_test=False)
    with graphpipe.load(package) as model:
        assert model.infer({"a": [[1, 2, 3]], "b": [[1, 1, 1]]})["out"].tolist() == [[2, 3, 4]]


def test_a_package_is_no_model_for_a_package(tmp_path):
    package = onnx_adder(tmp_path / "adder", self_test=False)
    with pytest.raises(graphpipe.PackageError, match="it is a package already"):
        create(tmp_path / "p", model=package, problem=ADDITION)


def test_packages_come_with_a_bare_import_and_cost_it_nothing():
    import subprocess

    code = "import graphpipe, sys; before = set(sys.modules); graphpipe.package; print('numpy' in sys.modules)"
    code += "; graphpipe.package.create; print('onnxruntime' in sys.modules or 'torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def test_the_folder_of_a_zip_is_told_by_its_content(tmp_path):
    package = onnx_adder(tmp_path / "adder.zip", self_test=False)
    one = Package.at(str(package)).folder
    os.rename(package, tmp_path / "other.zip")
    assert Package.at(str(tmp_path / "other.zip")).folder == one

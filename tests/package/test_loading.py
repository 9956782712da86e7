"""Packages that are loaded: from a URL, on a server, in processes of their own, with the framework that they need."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys

import numpy as np
import pytest

import graphpipe
from graphpipe.package import create
from tests import onnx_graphs
from tests.backends.test_download import file, site  # noqa: F401 - a fixture
from tests.package.making import ADDITION, changed, edited, onnx_adder, python_adder
from tests.serving import environment, run_to_end


def answer(model):
    return model.infer({"x": [1], "y": [2]})["out"].tolist()


def served(site, package):  # noqa: F811
    content = package.read_bytes()
    site.answers = [file(content)]
    return f"{site.url}/models/adder.zip", hashlib.sha256(content).hexdigest()


def test_a_package_at_a_url_is_a_model(site, tmp_path):  # noqa: F811
    url, _ = served(site, onnx_adder(tmp_path / "p.zip", self_test=False))
    with graphpipe.load(url) as model:
        assert model.name == "adder"
        assert answer(model) == [3]


def test_code_that_came_from_a_url_is_run_only_if_somebody_says_so(site, tmp_path):  # noqa: F811
    ran = tmp_path / "ran"
    (tmp_path / "bad.py").write_text(f"open({str(ran)!r}, 'w').close()\ndef add(x, y):\n    return x + y\n")
    package = create(tmp_path / "p.zip", model=f"{tmp_path}/bad.py:add", problem=ADDITION, self_test=False)
    url, sha256 = served(site, package)
    for options in ({}, {"isolate": 1}, {"backend": "package"}):
        with pytest.raises(graphpipe.LoadError, match="came from a URL, and brings code of its own.*--trust-model"):
            graphpipe.load(url, **options)
    assert not ran.exists()
    with graphpipe.load(url, model_sha256=sha256) as model:
        assert answer(model) == [3]
    assert ran.exists()
    with graphpipe.load(url, trust_model=True) as model:
        assert answer(model) == [3]
    # One that lies here was named by whoever runs it.
    with graphpipe.load(package) as model:
        assert answer(model) == [3]


def test_a_library_of_operators_that_came_from_a_url_is_not_loaded_either(site, tmp_path):  # noqa: F811
    package = onnx_adder(tmp_path / "p", self_test=False)
    changed(package, "ops/x.so", b"\x7fELF")
    edited(package, lambda said: said["model"]["options"].update(custom_ops=["ops/x.so"]))
    shutil.make_archive(str(tmp_path / "p"), "zip", package)
    url, _ = served(site, tmp_path / "p.zip")
    with pytest.raises(graphpipe.LoadError, match="came from a URL"):
        graphpipe.load(url)
    with pytest.raises(graphpipe.LoadError, match="cannot load these operators"):
        graphpipe.load(url, trust_model=True)


def test_a_server_tests_a_package_before_it_is_ready(tmp_path, serve):
    package = onnx_adder(tmp_path / "adder.zip", self_test=False)
    server = serve("--model", package)
    with graphpipe.Client(server.url) as client:
        assert client.infer({"x": np.float32([1]), "y": np.float32([2])})["out"].tolist() == [3]
        assert client.metadata().description == "Adds two vectors."
    wrong = {"inputs": {"x": [1], "y": [2]}, "outputs": {"out": [4]}}
    python_adder(tmp_path / "wrong", self_test=False, test_data=wrong)
    for more in ((), ("--isolate", "1")):
        run = run_to_end("--model", tmp_path / "wrong", "--listen", "127.0.0.1:0", *more)
        assert run.returncode == 1
        assert "3.0 where 4.0 was expected" in run.stderr
        assert "listening" not in run.stdout


def test_options_of_the_machine_reach_the_model_and_others_are_refused(tmp_path):
    package = onnx_adder(tmp_path / "p", self_test=False)
    with graphpipe.load(package, intra_threads=2, providers=["cpu"]) as model:
        assert answer(model) == [3]
    with pytest.raises(graphpipe.LoadError, match="no execution provider 'nope'"):
        graphpipe.load(package, providers=["nope"])
    for option in ({"outputs": ["out"]}, {"signature": "x"}, {"tags": ["x"]}, {"upstream_api_key_file": "x"}):
        with pytest.raises(graphpipe.LoadError, match="does nothing for"):
            graphpipe.load(package, **option)


def test_options_that_are_the_models_go_along(tmp_path):
    file = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    problem = graphpipe.Problem.of({"a": "float32[n, k]", "b": "float32[n, k]"}, {"sum": "float32[n, 3]"})
    package = create(
        tmp_path / "p.zip", model=file, problem=problem, pad=["a:1:0", "b:1:-1"], outputs=["sum"],
        test_data={"inputs": {"a": [[1, 2]], "b": [[1, 2]]}, "outputs": {"sum": [[2, 4, -1]]}},
    )  # fmt: skip
    file.unlink()
    with graphpipe.load(package) as model:
        assert model.infer({"a": [[1]], "b": [[1]]})["sum"].tolist() == [[2, -1, -1]]
        assert list(model.infer({"a": [[1]], "b": [[1]]})) == ["sum"]


def test_a_model_that_breaks_its_promise_is_a_model_that_failed(tmp_path):
    (tmp_path / "adder.py").write_text(
        "def add(x, y):\n    return (x + y).astype('float64' if len(x) > 2 else 'float32')\n"
    )
    package = create(tmp_path / "p", model=f"{tmp_path}/adder.py:add", problem=ADDITION, self_test=False)
    with graphpipe.load(package) as model:
        assert answer(model) == [3]
        with pytest.raises(graphpipe.ModelFailed, match=r"'out' is float64\[3\], and float32\[n\] was promised"):
            model.infer({"x": [1, 2, 3], "y": [1, 2, 3]})


def test_a_package_may_be_in_processes_of_its_own(tmp_path):
    package = python_adder(tmp_path / "p.zip", self_test=False)
    with graphpipe.load(package, isolate=2) as model:
        assert answer(model) == [3]
        model.self_test()
        assert str(model.signature) == "(x float32 [n], y float32 [n]) -> (out float32 [n])"
        assert len(model.version) == 64


def test_a_framework_of_another_version_is_looked_for_among_the_environments(tmp_path, monkeypatch):
    """The other environment is this interpreter again, under a record that says otherwise."""
    package = onnx_adder(tmp_path / "p", self_test=False)
    edited(package, lambda said: said["framework"].update(range=">=0.5,<0.6"))
    monkeypatch.setenv("GRAPHPIPE_VENVS", str(tmp_path / "venvs"))
    with pytest.raises(graphpipe.LoadError, match=r"needs onnxruntime>=0.5,<0.6, and .* graphpipe venv create NAME"):
        graphpipe.load(package)
    folder = tmp_path / "venvs" / "old"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "bin" / "pyvenv.cfg").touch()
    shutil.copy(os.path.join(sys.prefix, "pyvenv.cfg"), folder / "pyvenv.cfg")
    (folder / "lib").symlink_to(os.path.join(sys.prefix, "lib"))
    record = {"python": "3.11.0", "packages": {"onnxruntime": "0.5.1"}}
    (folder / "graphpipe-venv.json").write_text(json.dumps(record))
    with graphpipe.load(package) as model:
        assert answer(model) == [3]
        assert "onnxruntime" in model.model.runtime
        assert type(model.model.posed.model).__name__ == "IsolatedModel"
    with pytest.raises(graphpipe.LoadError, match=r"needs onnxruntime>=0.5,<0.6, and --python .* has"):
        graphpipe.load(package, python=sys.executable)


def test_a_packages_own_problem_may_be_behind_another(tmp_path):
    package = onnx_adder(tmp_path / "p", self_test=False)
    wider = graphpipe.Problem.of({"x": "float32[n]", "y": "float32[n]"}, {"out": "float32[n]"}, name="mine")
    with graphpipe.load(package, problem=wider) as model:
        assert answer(model) == [3]
    other = graphpipe.Problem.of({"x": "float32[n]"}, {"out": "float32[n]"})
    with pytest.raises(graphpipe.LoadError, match="the model takes 'y' too"):
        graphpipe.load(package, problem=other)


def test_a_manifest_names_its_package(tmp_path):
    package = onnx_adder(tmp_path / "p", self_test=False)
    with graphpipe.load(package / "graphpipe.json") as model:
        assert answer(model) == [3]


@pytest.mark.slow  # its processes take seconds
def test_two_processes_may_unpack_one_zip_at_once(tmp_path, cache):
    import subprocess

    package = python_adder(tmp_path / "p.zip", self_test=False)
    code = (
        "import sys, graphpipe\nfor _ in range(2):\n"
        "    with graphpipe.load(sys.argv[1]) as model: print(model.infer({'x': [1], 'y': [2]})['out'])"
    )
    ran = [
        subprocess.Popen([sys.executable, "-c", code, str(package)], stdout=subprocess.PIPE, env=environment())
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in ran] == [b"[3.]\n" * 2] * 3
    assert len([name for name in os.listdir(cache) if not name.endswith(".lock")]) == 1

"""How an isolated model is asked for, what it says of itself, and what is said where it cannot be had."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.backends.isolated.hello import Loaded
from graphpipe.backends.isolated.interpreter import path_for, working_folder
from graphpipe.errors import InvalidRequest, LoadError
from graphpipe.server.life.warmup import prove
from graphpipe.signature import Signature
from tests.isolation.conftest import MODELS, source

REFUSES = Path(__file__).with_name("refuses.py")


def test_it_says_the_same_of_itself_as_in_this_process():
    with graphpipe.load("tests.isolation.declared:Declared") as here:
        with graphpipe.load("tests.isolation.declared:Declared", isolate=True) as apart:
            assert apart.signature == here.signature
            assert (apart.name, apart.description, apart.version) == (here.name, here.description, here.version)
            assert (apart.model.kind, apart.model.threads) == (here.model.kind, here.model.threads)
            x = np.ones((2, 4), np.float32)
            assert np.array_equal(apart.infer({"x": x})["y"], here.infer({"x": x})["y"])
            with pytest.raises(InvalidRequest, match=r"\[2, 5\]"):
                apart.infer({"x": np.ones((2, 5), np.float32)})
            assert apart.infer({"x": x}, config="doubled", timeout=100)["y"].tolist() == [8.0, 8.0]


def test_a_models_own_test_runs_where_the_model_is():
    with graphpipe.load("tests.isolation.declared:Tested", isolate=1) as model:
        with pytest.raises(
            LoadError, match="model 'Tested' failed its own test: ArithmeticError: two and two are five"
        ):
            prove(model.model, "Tested")
        assert model.infer({"x": np.ones((2, 4), np.float32)})["y"].tolist() == [4.0, 4.0]


def test_what_a_process_says_of_itself_is_looked_at():
    said = json.loads(Loaded(Signature((), ()), "python", ["pad"]).to_bytes())
    assert Loaded.from_bytes(json.dumps(said).encode()).backend == "python"
    for name, wrong in (("version", {}), ("backend", ["x"]), ("threads", -3), ("threads", 0.5), ("threads", True),
                        ("tests", 1), ("uses", [{}]), ("uses", None), ("signature", None), ("signature", {})):  # fmt: skip
        with pytest.raises((ValueError, TypeError, KeyError)):
            Loaded.from_bytes(json.dumps({**said, name: wrong}).encode())


def test_a_working_folder_that_is_gone_is_no_reason(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.syspath_prepend("relative")
    path, is_whole = path_for(sys.executable)
    assert is_whole
    assert all(map(os.path.isabs, path))
    assert working_folder() == ""


def test_a_function_that_is_here_already_is_to_be_named():
    with pytest.raises(LoadError, match="module:function"):
        graphpipe.load(lambda x: x, isolate=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{REFUSES}:f", "RuntimeError: this one is not for loading"),
        (f"{MODELS}:none", "models.py has no 'none'|has no 'none'"),
        ("nothing_here.onnx", "nothing_here.onnx"),
    ],
)
def test_what_cannot_be_loaded_is_said_as_if_it_were_in_this_process(text, words):
    with pytest.raises(LoadError, match=words) as apart:
        graphpipe.load(text, isolate=1)
    with pytest.raises(LoadError) as here:
        graphpipe.load(text)
    assert str(apart.value) == str(here.value)


def test_a_process_that_ends_while_it_loads_is_said_with_its_last_words(monkeypatch):
    monkeypatch.setenv("LEAVE_WHILE_LOADING", "1")
    with pytest.raises(LoadError, match=r"ended with status 7 while it loaded.*this is the last word"):
        graphpipe.load(f"{REFUSES}:f", isolate=1)


@pytest.mark.slow
def test_options_of_loading_reach_the_process_and_others_are_refused():
    with pytest.raises(LoadError, match="--signature does nothing"):
        graphpipe.load(source("double"), isolate=1, signature="other")
    with pytest.raises(LoadError, match="--outputs does nothing"):
        graphpipe.load("tests.isolation.declared:Declared", isolate=1, outputs=["z"])
    with graphpipe.load(source("several"), isolate=1, outputs=["sum", "flags"]) as model:
        assert list(model.infer({"x": np.ones(4)})) == ["sum", "flags"]


@pytest.mark.parametrize("isolate", [-1, 1000, "many", 1.5])
def test_a_number_of_processes_that_is_none_is_refused(isolate):
    with pytest.raises(TypeError, match="isolate"):
        graphpipe.load("echo", isolate=isolate)


def test_false_is_no_process():
    with graphpipe.load("echo", isolate=False) as model:
        assert type(model.model).__name__ == "Echo" or "Isolated" not in type(model.model).__name__


def test_an_interpreter_is_named_by_its_path(tmp_path):
    with graphpipe.load(source("double"), python=sys.executable) as model:
        assert (model.execute(np.ones(3)) == 2).all()
    with pytest.raises(LoadError, match="there is no interpreter"):
        graphpipe.load(source("double"), python=str(tmp_path / "python"))
    with pytest.raises(LoadError, match="nobody_made_this"):
        graphpipe.load(source("double"), python="nobody_made_this")


def test_another_interpreter_gets_nothing_that_is_installed_for_this_one(tmp_path):
    bare = tmp_path / "bare"
    (bare / "bin").mkdir(parents=True)
    # The same program in an environment of its own, which has only what we link into it.
    (bare / "bin" / "python").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}")
    (bare / "pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\ninclude-system-site-packages = false\n")
    packages = bare / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    with pytest.raises(LoadError, match=r"bare/bin/python has no numpy, .* -m pip install numpy"):
        graphpipe.load("echo", isolate=1, python=str(bare))
    for folder in Path(np.__file__).parent.parent.glob("numpy*"):
        (packages / folder.name).symlink_to(folder)
    with graphpipe.load("tests.isolation.declared:installed", isolate=1, python=str(bare)) as model:
        assert model.infer({"x": np.ones(1)})["there"].tolist() == [b"numpy"]
    with graphpipe.load("tests.isolation.declared:installed", isolate=1) as model:
        assert model.infer({"x": np.ones(1)})["there"].tolist() == [b"numpy", b"click", b"pytest"]

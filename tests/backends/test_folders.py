"""Folders that hold one model, and models whose names have odd characters."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphpipe
from graphpipe.backends.find import default_name
from graphpipe.errors import LoadError
from graphpipe.server.settings.configuration import configure
from tests import onnx_graphs

ROW = np.ones((1, 4), np.float32)


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model_at(path, factor):
    path.parent.mkdir(parents=True, exist_ok=True)
    return onnx_graphs.scaled(path, factor)


def answer(source):
    with graphpipe.load(source) as model:
        return next(iter(model.infer({model.signature.input_names[0]: ROW}).values())).tolist()[0][0]


def test_a_folder_that_holds_one_model_is_that_model(in_folder):
    model_at(in_folder / "cats.v2" / "model.onnx", 2)
    for extra in ("README.md", "labels.txt", ".hidden.onnx", "config.pbtxt", "model.graphpipe.json.bak"):
        (in_folder / "cats.v2" / extra).write_text("")
    for source in ("cats.v2", "cats.v2/", in_folder / "cats.v2"):
        assert answer(source) == 2
        assert graphpipe.load(source).name == "cats.v2"


def test_of_numbered_versions_the_highest_that_has_a_model_is_the_model(in_folder):
    for version in (1, 2, 10):
        model_at(in_folder / "cats" / str(version) / "model.onnx", version)
    (in_folder / "cats" / "11").mkdir()  # being copied
    (in_folder / "cats" / "config.pbtxt").write_text("")
    assert answer("cats") == 10
    assert answer("cats/2") == 2
    assert default_name("cats") == default_name("cats/2") == "cats"


def test_a_mount_with_one_models_folder_in_it_is_that_model(in_folder):
    model_at(in_folder / "mnt" / "cats" / "1" / "model.onnx", 3)
    (in_folder / "mnt" / "lost+found.txt").write_text("")
    assert answer("mnt") == 3
    (in_folder / "mnt" / "dogs").mkdir()
    with pytest.raises(LoadError, match="mnt: there is no model in this folder"):
        graphpipe.load("mnt")


def test_a_folder_with_several_models_or_none_says_so_in_one_line(in_folder):
    (in_folder / "none").mkdir()
    with pytest.raises(LoadError, match="none: there is no model in this folder, nor in a numbered version of it"):
        graphpipe.load("none")
    for name in "ab":
        model_at(in_folder / "two" / f"{name}.onnx", 1)
    words = "two: there are 2 models in this folder; name one of them: two/a.onnx, two/b.onnx"
    with pytest.raises(LoadError, match=f"^{re.escape(words)}$"):
        graphpipe.load("two")


def named(text):
    [model] = configure({"model": [text]}, {}).models
    return model.name, model.source


def test_a_models_file_may_have_an_equals_sign_in_its_name(in_folder):
    for name in ("path=with=equals.onnx", "b.onnx", "a=b.onnx"):
        (in_folder / name).write_text("")
    (in_folder / "x=y.py").write_text("")
    assert named("path=with=equals.onnx") == ("path=with=equals", "path=with=equals.onnx")
    assert named("NAME=path=with=equals.onnx") == ("NAME", "path=with=equals.onnx")
    assert named("x=y.py:f") == ("f", "x=y.py:f")
    assert named("NAME=no=such.onnx") == ("NAME", "no=such.onnx")
    assert named("a=b.onnx") == ("a", "b.onnx"), "both are there: it is NAME=SOURCE, as ever"
    assert named("./a=b.onnx")[1] == "./a=b.onnx"


@pytest.mark.parametrize(
    "source", ["http://host/m.onnx?sig=a=b", "unix:/tmp/a=b.sock", "remote:http://host:9000/x?y=z", "dir/a=b.onnx"]
)
def test_a_source_with_an_equals_sign_goes_with_or_without_a_name(source):
    assert named(source)[1] == source
    assert named(f"NAME={source}") == ("NAME", source)

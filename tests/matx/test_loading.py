"""Modules of MATXScript, scripted, saved, loaded and served: in an environment that is found by itself."""

from __future__ import annotations

import gc
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, LoadError, ModelFailed
from tests.serving import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TEXT = [{"name": "text", "dtype": "string", "shape": []}]


def copied(found, name: str, folder: Path, **described) -> Path:
    """A copy of a module, described as is told."""
    shutil.copytree(found.module(name), folder / name)
    (folder / name / "model.spec.graphpipe.json").write_text(json.dumps(described))
    return folder / name


def test_a_folder_is_served_and_each_process_is_one_more_call_at_once(found, tmp_path):
    model = ["--model", found.module("text2ids"), "--isolate", "2"]
    with serving(*model, env={"GRAPHPIPE_VENVS": str(tmp_path / "venvs")}) as server:
        with graphpipe.Client(server.url) as client:
            assert client.infer({"text": "hello world unknown"})["ids"].tolist() == [0, 1, 2]
            assert client.infer({"text": ""})["ids"].tolist() == []
            assert client.infer({"text": b"\xff\0 world"})["ids"].tolist() == [2, 1]
            about = client.metadata()
            assert [each.name for each in about.inputs + about.outputs] == ["text", "ids"]
            with pytest.raises(InvalidRequest, match="takes string"):
                client.infer({"text": 3})
        # It is imported without a word of cards that are not there.
        assert "cuda" not in server.log


def test_lists_of_texts_come_as_what_the_description_says(found, tmp_path):
    texts = np.array(["Ä B".encode(), b"", "Ω".encode()], object)
    asked = {"name": "words", "dtype": "string", "shape": ["n"]}
    outputs = [{"name": "lowered", "dtype": "string", "shape": ["n"]}, {"name": "count", "dtype": "int64", "shape": []}]
    path = copied(found, "lowered", tmp_path / "str", inputs=[{**asked, "text": "str"}], outputs=outputs)
    with graphpipe.load(path) as model:
        answer = model.infer({"words": texts})
        assert [each.decode() for each in answer["lowered"]] == ["ä b", "", "ω"]
        assert answer["count"] == 3
        empty = model.infer({"words": np.empty(0, object)})["lowered"]
        assert (empty.shape, empty.dtype) == ((0,), object)
        with pytest.raises(InvalidRequest, match="'words': its function takes a str, and this is no UTF-8"):
            model.infer({"words": np.array([b"a", b"\xc3"], object)})
    path = copied(found, "lowered", tmp_path / "bytes", inputs=[asked])
    with graphpipe.load(path) as model:
        with pytest.raises(ModelFailed):
            model.infer({"words": texts})
    path = copied(found, "lowered", tmp_path / "wrong", inputs=[{**asked, "text": "utf-16"}])
    with pytest.raises(LoadError, match='\'words\': expected "text": "bytes" or "str"; \'utf-16\' came'):
        graphpipe.load(path)
    path = copied(found, "lowered", tmp_path / "other", inputs=[{"name": "phrases"}])
    with pytest.raises(LoadError, match="there is no input 'phrases'; there are 'words'"):
        graphpipe.load(path)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"])
def test_arrays_go_through_as_they_are(scaled, dtype):
    x = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    answer = scaled.infer({"x": x, "factor": 1.5, "times": 4, "rows": [[1, 2], [3, 4]]})
    assert set(answer) == {"x", "product", "total"}
    assert answer["x"].dtype == x.dtype
    assert np.array_equal(answer["x"], x)
    assert (answer["product"], answer["total"]) == (6.0, 10)


def test_unsigned_arrays_become_signed_ones_and_what_does_not_fit_is_refused(scaled):
    rest = {"factor": 1.0, "times": 1, "rows": [[1]]}
    for dtype in (np.uint32, np.uint64):
        x = scaled.infer({"x": np.array([7, 2**31], dtype), **rest})["x"]
        assert (x.dtype, x.tolist()) == (np.int64, [7, 2**31])
    for name in ("x", "rows"):
        with pytest.raises(InvalidRequest, match="MATXScript's integers end at 9223372036854775807"):
            scaled.infer({"x": [1.0], **rest, name: np.array([[2**63]], np.uint64)})
    assert scaled.infer({"x": np.zeros((0, 3), np.float32), **rest})["x"].shape == (0, 3)


@pytest.fixture(scope="module")
def scaled(matx):
    with graphpipe.load(matx.module("scaled"), python=matx.python) as model:
        yield model


def test_what_a_function_raises_is_told_with_its_line_and_what_hangs_is_ended(found, tmp_path):
    model = ["--model", found.module("odd"), "--outputs", "number"]
    with serving(*model, env={"GRAPHPIPE_VENVS": str(tmp_path / "venvs")}, tracebacks=True) as server:
        with graphpipe.Client(server.url) as client:
            assert client.infer({"text": "41"})["number"] == 41
            with pytest.raises(ModelFailed):
                client.infer({"text": "forty"})
        with graphpipe.Client(server.url, timeout=1) as client:
            with pytest.raises(graphpipe.GraphPipeError, match="gave no answer|timed out|no answer|deadline"):
                client.infer({"text": "hang"})
        # Its process is ended, and another one is started: whoever asks waits for that.
        with graphpipe.Client(server.url, timeout=60) as client:
            assert client.infer({"text": "43"})["number"] == 43
        assert "modules.py, line" in server.log
        assert "c_runtime_api.cc" not in server.log


def test_operators_of_ones_own_are_loaded_by_name_or_from_beside(found, tmp_path):
    with pytest.raises(LoadError, match="cannot load it: Op is not registered : CountCommas"):
        graphpipe.load(found.module("commas"))
    with pytest.raises(LoadError, match="there is no library"):
        graphpipe.load(found.module("commas"), custom_ops=["none.so"])
    with graphpipe.load(found.module("commas"), custom_ops=[found.module("libcommas.so")]) as model:
        one = model.model.version
        assert {name: int(each) for name, each in model.infer({"text": "12"}).items()} == {
            "output_0": 0,
            "output_1": 12,
        }
    shutil.copytree(found.module("commas"), tmp_path / "beside")
    shutil.copy(found.module("libcommas.so"), tmp_path / "beside")
    problem = graphpipe.Problem.of(
        TEXT, [{"name": name, "dtype": "int64", "shape": []} for name in ("commas", "number")]
    )
    with graphpipe.load(tmp_path / "beside", problem=problem) as model:
        assert model.infer({"text": "12"}) == {"commas": 0, "number": 12}
        assert model.model.version != one


def test_a_dictionary_for_an_input_is_refused_at_load(found):
    with pytest.raises(LoadError, match="it takes 'table', a Dict; only tensors travel"):
        graphpipe.load(found.module("counted"))


def test_a_problem_names_outputs_and_types_what_is_empty_and_leaves_nothing_behind(found, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    shutil.copytree(found.module("text2ids"), tmp_path / "plain")
    (tmp_path / "plain" / "model.spec.graphpipe.json").unlink()
    problem = graphpipe.Problem.of(TEXT, [{"name": "numbers", "dtype": "int64", "shape": ["n"]}])
    with graphpipe.load(tmp_path / "plain", problem=problem) as model:
        for text, numbers in (("", []), ("world", [1])):
            array = model.infer({"text": text})["numbers"]
            assert (array.dtype, array.tolist()) == (np.int64, numbers)
    del model
    gc.collect()
    assert list((tmp_path / "temporary").iterdir()) == []
    with graphpipe.load(tmp_path / "plain") as model:
        assert list(model.infer({"text": "hello"})) == ["output_0"]


def test_it_goes_into_a_package_and_runs_out_of_it(found, tmp_path):
    problem = graphpipe.Problem.read(Path(__file__).parents[2] / "examples" / "text2ids" / "problem.toml")
    path = graphpipe.package.create(tmp_path / "text2ids.zip", model=found.module("text2ids"), problem=problem)
    with graphpipe.load(path) as model:
        model.model.self_test()
        assert model.infer({"text": "world hello"})["ids"].tolist() == [1, 0]
        assert model.model.kind == "MATXScript"

"""Pipelines as files: written, read, loaded, served and packed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe import LoadError, Pipeline, Stage
from graphpipe.errors import PackageError
from tests.onnx_graphs import scaled
from tests.pipeline import functions

HERE = Path(__file__).parent
TEXTS = ["hello", "world", "unknown"]
TOML = """
name = "words"

[[stages]]
source = "functions.py:Tokenize"

[[stages]]
name = "score"
source = "functions.py:score"
batch-rows-max = 4

[[stages]]
source = "functions.py:best"
outputs = { best = "class" }
"""


@pytest.fixture
def folder(tmp_path):
    """A pipeline's file with its functions beside it."""
    for name in ("functions.py", "tables.py"):
        text = (HERE / name).read_text().replace("from tests.pipeline.tables", "from tables")
        (tmp_path / name).write_text(text)
    (tmp_path / "pipeline.toml").write_text(TOML)
    return tmp_path


def test_a_file_or_its_folder_is_a_model(folder, monkeypatch):
    monkeypatch.chdir("/")
    for source in (folder / "pipeline.toml", folder):
        with graphpipe.load(source) as model:
            assert model.infer({"text": TEXTS})["class"].tolist() == [0, 1, 2]
            assert model.name == "words"
            stages = model.model.stages
            assert [(stage.name, stage.gives) for stage in stages] == [
                ("Tokenize", {"ids": "ids"}), ("score", {"scores": "scores"}), ("best", {"best": "class"}),
            ]  # fmt: skip
            assert model.model.settings["score"] == {"batch_rows_max": 4}


def test_a_file_is_served(folder, serve):
    server = serve("--model", str(folder / "pipeline.toml"))
    assert graphpipe.remote.execute(server.url, TEXTS).tolist() == [0, 1, 2]


def test_a_part_of_it_can_have_a_process_of_its_own(folder):
    text = TOML.replace('"functions.py:best"', '"functions.py:best"\nisolate = 1')
    (folder / "pipeline.toml").write_text(text)
    with graphpipe.load(folder) as model:
        assert model.execute(TEXTS).tolist() == [0, 1, 2]
        # What it gives is read from its file.
        assert model.model.stages[2].gives == {"best": "class"}
        assert model.model.parts[2].model.process_ids()


def test_the_whole_of_it_can_have_a_process_of_its_own(folder):
    with graphpipe.load(folder, isolate=1) as model:
        assert model.execute(TEXTS).tolist() == [0, 1, 2]
        assert model.model.process_ids()


def test_defaults_can_be_chosen_when_it_is_loaded(folder):
    with graphpipe.load(folder, outputs=["ids", "class"]) as model:
        assert list(model.infer({"text": TEXTS})) == ["ids", "class"]


def test_a_problem_holds_for_the_whole(folder):
    problem = graphpipe.Problem.of({"text": "string[n]"}, {"class": "int64[n]"})
    with graphpipe.load(folder, problem=problem) as model:
        assert model.signature.inputs[0].text == "string[n]"
        assert model.execute(TEXTS).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected stages, each as"),
        ("stages = 3", "expected stages, each as"),
        ("stages = [3]", "expected stages, each as"),
        ("[[stages]]\nname = 'x'", r"stages\[0\]: expected a source"),
        ("stagess = 3\n[[stages]]\nsource = 'echo'", "a key 'stagess'; did you mean 'stages'"),
        ("outputs = 'x'\n[[stages]]\nsource = 'echo'", "outputs: expected a list of names"),
        ("name = 'a b'\n[[stages]]\nsource = 'echo'", "letters, digits"),
        ("[[stages]]\nsource = 'echo'\nbatch_rows_mx = 3", "did you mean 'batch_rows_max'"),
        ("[[stages]]\nsource = 'echo'\ninputs = ['x']", "a table from its own names"),
        ("[[stages]]\nsource = 'nothing.onnx'", "nothing.onnx"),
        ("[[stages]]\nsource = 'echo'\nisolate = 'many'", "isolate"),
        ("[[stages]]\nsource = 'echo'\n" * 257, "257 stages; a pipeline has at most 256"),
        ("[[stages]\n", "not TOML"),
        ("[[stages]]\nsource = 'pipeline.toml'", "a pipeline is a stage of itself"),
    ],
)
def test_what_is_no_pipeline_is_said_with_its_place(tmp_path, text, said):
    (tmp_path / "pipeline.toml").write_text(text)
    with pytest.raises(LoadError, match=said) as caught:
        graphpipe.load(tmp_path / "pipeline.toml")
    assert "pipeline.toml" in str(caught.value)


def test_settings_of_a_server_are_those_that_it_has():
    from dataclasses import fields

    from graphpipe.pipeline.part import OF_SERVING
    from graphpipe.server.settings.values import ModelSettings

    assert set(OF_SERVING) == {each.name for each in fields(ModelSettings)} - {
        "name",
        "source",
        "options",
        "said",
        "warmup",
    }


def test_a_pipeline_from_a_url_is_loaded_only_where_somebody_says_so():
    from graphpipe.backends.options import LoadOptions
    from graphpipe.backends.pipeline import BACKEND

    with pytest.raises(LoadError, match="--trust-model"):
        BACKEND.fetched("x/pipeline.toml", LoadOptions())
    BACKEND.fetched("x/pipeline.toml", LoadOptions(trust_model=True))


def test_saved_as_a_file_it_names_what_is_where_it_is(tmp_path, monkeypatch):
    scaled(tmp_path / "scale.onnx", 2.0)
    pipeline = Pipeline(
        [
            functions.Tokenize,
            Stage(functions.score, "score"),
            Stage(str(tmp_path / "scale.onnx"), inputs={"x": "scores"}, outputs={"y": "scores"}, intra_threads=2),
            graphpipe.load(functions.best),
        ],
        name="words",
        outputs=["best", "scores"],
    )
    (tmp_path / "deep").mkdir()
    written = pipeline.save(tmp_path / "deep" / "words.toml")
    expected = pipeline.infer({"text": TEXTS})
    monkeypatch.chdir("/")
    with graphpipe.load(written) as loaded:
        answer = loaded.infer({"text": TEXTS})
    assert list(answer) == ["best", "scores"]
    for name, array in expected.items():
        np.testing.assert_array_equal(answer[name], array)
    assert str(tmp_path) not in written.read_text()
    assert "intra_threads = 2" in written.read_text()


def test_saved_as_a_folder_it_has_all_of_it(folder, tmp_path_factory, monkeypatch):
    scaled(folder / "scale.onnx", 2.0)
    problem = graphpipe.Problem.of({"scores": "any[n, 4]"}, {"best": "int64[n]"})
    inner = Pipeline([Stage(f"{folder}/functions.py:best", problem=problem)], name="inner")
    pipeline = Pipeline(
        [
            f"{folder}/functions.py:Tokenize",
            f"{folder}/functions.py:score",
            Stage(folder / "scale.onnx", inputs={"x": "scores"}, outputs={"y": "scores"}),
            inner,
        ]
    )
    target = tmp_path_factory.mktemp("saved") / "words"
    with pytest.raises(PackageError, match="not among the package's code"):
        pipeline.save(target, code=[folder / "tables.py"])
    assert not target.exists()
    assert pipeline.save(target, code=[folder / "functions.py", folder / "tables.py"]) == target / "pipeline.toml"
    with pytest.raises(PackageError, match="is there already"):
        pipeline.save(target)
    for each in folder.iterdir():
        each.unlink()
    monkeypatch.chdir("/")
    moved = target.rename(target.with_name("moved"))
    with graphpipe.load(moved) as loaded:
        assert loaded.execute(TEXTS).tolist() == [0, 1, 2]


def test_what_is_in_this_program_alone_is_not_saved(tmp_path):
    class Stateful:
        def __call__(self, x):
            return {"x": x}

    for what in (Stateful(), lambda x: {"x": x}):
        for target in (tmp_path / "p.toml", tmp_path / "p"):
            with pytest.raises(PackageError, match="stage '"):
                Pipeline([what]).save(target)
            assert not target.exists()


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pipeline_is_packed_with_its_parts(folder, tmp_path_factory, zipped, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    scaled(folder / "scale.onnx", 2.0)
    scale = '\n[[stages]]\nsource = "scale.onnx"\ninputs = { x = "scores" }\noutputs = { y = "scores" }\n'
    (folder / "pipeline.toml").write_text(TOML + scale)
    target = tmp_path_factory.mktemp("packed") / ("words.zip" if zipped else "words")
    made = graphpipe.package.create(
        target,
        model=folder / "pipeline.toml",
        problem=({"text": "string[n]"}, {"scores": "float32[n, 4]"}),
        test_data={"inputs": {"text": TEXTS}, "outputs": {"scores": 2 * np.eye(3, 4, dtype=np.float32)}},
        code=[folder / "functions.py", folder / "tables.py"],
    )
    shutil.rmtree(folder)
    monkeypatch.chdir("/")
    with graphpipe.load(made) as model:
        assert model.execute(TEXTS).tolist() == (2 * np.eye(3, 4)).tolist()
        model.self_test()
    if not zipped:
        manifest = json.loads((made / "graphpipe.json").read_text())
        assert manifest["model"]["platform"] == "pipeline"
        assert os.path.isfile(made / "model" / "scale" / "model" / "scale.onnx")


def test_a_pipeline_in_this_program_is_packed(tmp_path):
    pipeline = Pipeline([functions.score, functions.best])
    made = graphpipe.package.create(
        tmp_path / "packed",
        model=pipeline,
        problem=({"ids": "float32[n, 1]"}, {"best": "int64[n]"}),
        code=[HERE.parent / "pipeline"],
        self_test=False,
    )
    assert (made / "model" / "pipeline.toml").is_file()


@pytest.mark.parametrize("text", ['\ufeff[[stages]]\nsource = "echo"\n', 'stages = [{ source = "echo" }]\n'])
def test_however_stages_are_written_the_file_is_a_pipeline(tmp_path, text):
    (tmp_path / "p.toml").write_text(text, encoding="utf-8")
    with graphpipe.load(tmp_path / "p.toml") as model:
        assert model.execute(np.float32([1])).tolist() == [1]


def test_the_folder_of_a_stages_cache_is_beside_the_file_unless_it_is_a_home(tmp_path):
    lines = [
        '[[stages]]\nname = "{}"\nsource = "echo"\ncache_dir = "{}"\n'.format(*each)
        for each in (("a", "rows"), ("b", "~/r"))
    ]
    (tmp_path / "pipeline.toml").write_text("".join(lines))
    with graphpipe.load(tmp_path) as model:
        assert [each["cache_dir"] for each in model.model.settings.values()] == [str(tmp_path / "rows"), "~/r"]


def test_what_a_functions_code_gives_is_not_read_where_its_name_means_something_else_later(tmp_path):
    (tmp_path / "w.py").write_text(
        "def wrapped(f):\n    return lambda x: {'b': x}\n\ndef w(x):\n    return {'a': x}\n\nw = wrapped(w)\n"
    )
    with Pipeline([Stage(str(tmp_path / "w.py:w"), isolate=1)]) as pipeline:
        assert list(pipeline.infer({"x": [1.0]})) == ["b"]

"""Stages that are classes: what they are made with, wherever it is said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe import LoadError, Pipeline, Stage
from graphpipe.errors import PackageError
from graphpipe.server.settings.values import ModelSettings
from graphpipe.server.stages.cache.manner import manner

CODE = '''
import os
import numpy as np


class Split:
    made = []

    def __init__(self, table, vocabulary=None, *, unknown=-1, sizes=()):
        self.made.append(os.getpid())
        self.table = {word.encode(): number for word, number in table.items()}
        if vocabulary is not None:
            self.table |= {word.encode(): i for i, word in enumerate(vocabulary.read_text().split())}
        self.unknown = unknown
        self.sizes = list(sizes)

    def __call__(self, text):
        ids = [self.table.get(word, self.unknown) for word in text]
        return {"ids": np.array(ids), "made": np.full(len(ids), len(self.made)), "process": np.full(len(ids), os.getpid())}


def function(x):
    return {"x": x}


class Model:
    """One of the protocol, with a version of its own."""

    version = "1"

    def __init__(self, factor, table=None):
        from graphpipe import Signature, TensorSpec

        self.factor = factor
        self.signature = Signature((TensorSpec("x"),), (TensorSpec("y"),))

    def infer(self, inputs, outputs=None, *, config=""):
        return {"y": inputs["x"] * self.factor}

    def close(self):
        pass


class Sealed(Model):
    @property
    def version(self):
        return "2"
'''
TOML = """
[[stages]]
source = "words.py:Split"
arguments = { table = { hello = 7, "a b" = 8 }, unknown = -5, sizes = [1, 2] }
files = { vocabulary = "data/vocab.txt" }
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "words.py").write_text(CODE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "vocab.txt").write_text("zero one")
    (tmp_path / "pipeline.toml").write_text(TOML)
    return tmp_path


TEXTS = ["hello", "zero", "one", "a b", "none"]
IDS = [7, 0, 1, 8, -5]


def test_a_file_says_what_a_class_is_made_with(folder, monkeypatch, serve):
    monkeypatch.chdir("/")
    with graphpipe.load(folder) as model:
        for _ in range(3):
            answer = model.infer({"text": TEXTS})
        assert answer["ids"].tolist() == IDS
        # Built once, not for each request.
        assert set(answer["made"]) == {1}
    server = serve("--model", str(folder))
    with graphpipe.Client(server.url) as client:
        assert client.infer({"text": TEXTS}, outputs=["ids"])["ids"].tolist() == IDS


def test_in_processes_of_its_own_it_is_made_once_in_each(folder):
    (folder / "pipeline.toml").write_text(f"{TOML}isolate = 2\n")
    with graphpipe.load(folder) as model:
        answers = [model.infer({"text": TEXTS}) for _ in range(6)]
    assert all(answer["ids"].tolist() == IDS and set(answer["made"]) == {1} for answer in answers)
    assert os.getpid() not in {process for answer in answers for process in answer["process"]}


def test_python_says_the_same_in_each_way(folder):
    source, path = f"{folder}/words.py:Split", folder / "data" / "vocab.txt"
    plain = {"table": {"hello": 7, "a b": 8}, "unknown": -5}
    ways = [
        graphpipe.load(source, arguments=plain, files={"vocabulary": path}),
        graphpipe.load(source, arguments={**plain, "vocabulary": path}),
        graphpipe.load(source, arguments=plain, files={"vocabulary": str(path)}, isolate=1),
        Pipeline([Stage(source, arguments={**plain, "vocabulary": path})]),
        Pipeline({"split": Stage(source, arguments=plain, files={"vocabulary": path}, isolate=1)}),
    ]
    for model in ways:
        with model:
            assert model.infer({"text": TEXTS})["ids"].tolist() == IDS


def test_a_class_that_is_here_is_made_with_them_and_with_anything_that_is_here():
    class Scale:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, x):
            return {"y": x * self.factor}

    pipeline = Pipeline([Stage(Scale, arguments={"factor": np.array([2.0, 3.0])})])
    assert pipeline.infer({"x": np.ones(2)})["y"].tolist() == [2, 3]
    with graphpipe.load(Scale, arguments={"factor": 4}) as model:
        assert model.infer({"x": np.ones(1)})["y"].tolist() == [4]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "the class Split is made with 'table', which nobody gave"),
        ({"arguments": {"tabel": {}}}, "the class Split has no argument 'tabel'; did you mean 'table'?"),
        (
            {"arguments": {"table": {}, "zzz": 1}},
            "has no argument 'zzz'; it takes 'table', 'vocabulary', 'unknown', 'sizes'",
        ),
        ({"arguments": {"table": 3}}, "making one raised AttributeError"),
        ({"arguments": {"table": {}}, "files": {"vocabulary": "nowhere.txt"}}, "there is no file nowhere.txt"),
        ({"arguments": {"table": {}}, "files": {"table": "x"}}, "'table' is among the arguments, and among the files"),
        ({"arguments": [1]}, "arguments are a table from a constructor's parameters"),
        ({"files": {"vocabulary": 3}}, "files: 'vocabulary': expected a path; 3 came"),
    ],
)
def test_arguments_are_held_against_the_constructor(folder, said, words):
    ways = [
        lambda: graphpipe.load(f"{folder}/words.py:Split", **said),
        lambda: Pipeline([Stage(f"{folder}/words.py:Split", **said)]),
    ]
    if "zzz" in words:  # it is said there
        ways.append(lambda: graphpipe.load(f"{folder}/words.py:Split", isolate=1, **said))
    for load in ways:
        with pytest.raises(LoadError) as refused:
            load()
        assert words in str(refused.value)


def test_nothing_is_loaded_where_a_class_cannot_be_made(folder):
    made = []

    class First:
        def __init__(self):
            made.append(1)

        def __call__(self, x):
            return {"x": x}

    class Second(First):
        def __init__(self, size):
            pass

    with pytest.raises(LoadError, match="stage 'Second': the class Second is made with 'size'"):
        Pipeline([First, Second])
    assert made == []


def test_only_classes_are_made_with_something(folder):
    for source, words in (
        (f"{folder}/words.py:function", "arguments are what a class is made with; a function came"),
        ("echo", "this is a model of the backend echo"),
        (str(folder), "this is a model of the backend pipeline"),
    ):
        with pytest.raises(LoadError, match=words):
            graphpipe.load(source, arguments={"x": 1})


def test_what_no_other_process_could_be_told_is_refused(folder):
    source = f"{folder}/words.py:Split"
    for value, words in (
        (np.ones(1), "it is a ndarray"),
        ({b"a": 1}, "it is a table with a key that is a bytes"),
        ([None], "it is None"),
    ):
        with pytest.raises(LoadError, match=f"argument 'table' cannot be told to another process: {words}"):
            graphpipe.load(source, arguments={"table": value}, isolate=1)


def test_a_pipeline_with_arguments_is_saved_and_its_files_are_taken_along(folder, tmp_path_factory, monkeypatch):
    """From a file, from a source, from a class, and from a model that was loaded so; as a file and as a folder."""
    from graphpipe.backends.python.finding import found

    source, path = f"{folder}/words.py:Split", folder / "data" / "vocab.txt"
    said = {
        "arguments": {"table": {"hello": 7, "a b": 8}, "unknown": -5, "sizes": (1.5, 2)},
        "files": {"vocabulary": path},
    }
    pipelines = [
        graphpipe.load(folder),
        Pipeline([Stage(source, **said)]),
        Pipeline([Stage(found(source), **said)]),
        Pipeline([graphpipe.load(source, **said)]),
        Pipeline([graphpipe.load(found(source), **said)]),
    ]
    from graphpipe.package.pipelines import save

    for number, pipeline in enumerate(pipelines):
        home = tmp_path_factory.mktemp("saved")
        beside = save(pipeline.model, folder / f"other{number}.toml")
        with graphpipe.load(beside) as again:
            assert again.infer({"text": TEXTS})["ids"].tolist() == IDS
        assert 'files = { vocabulary = "data/vocab.txt" }' in beside.read_text()
        whole = save(pipeline.model, home / "words")
        assert str(folder) not in whole.read_text()
        moved = (home / "words").rename(home / "moved")
        monkeypatch.chdir("/")
        path.rename(folder / "data" / "away.txt")
        with graphpipe.load(moved) as again:
            assert again.infer({"text": TEXTS})["ids"].tolist() == IDS
        (folder / "data" / "away.txt").rename(path)


def test_a_folder_is_a_file_too(tmp_path):
    (tmp_path / "code.py").write_text(
        "class Lists:\n    def __init__(self, folder):\n"
        "        self.names = sorted(each.name for each in folder.iterdir())\n"
        "    def __call__(self, x):\n        return {'names': self.names}\n"
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").touch()
    pipeline = Pipeline([Stage(f"{tmp_path}/code.py:Lists", files={"folder": tmp_path / "data"})])
    pipeline.save(tmp_path / "saved")
    (tmp_path / "data" / "a.txt").unlink()
    assert graphpipe.load(tmp_path / "saved").infer({"x": [1]})["names"].tolist() == [b"a.txt"]


def test_a_package_has_the_arguments_and_the_files(folder, tmp_path_factory, monkeypatch):
    target = tmp_path_factory.mktemp("packed") / "words.zip"
    made = graphpipe.package.create(
        target,
        model=folder / "pipeline.toml",
        problem=({"text": "string[n]"}, {"ids": "int64[n]"}),
        test_data={"inputs": {"text": TEXTS}, "outputs": {"ids": np.array(IDS)}},
        code=[folder / "words.py"],
    )
    for each in (folder / "data" / "vocab.txt", folder / "words.py"):
        each.unlink()
    monkeypatch.chdir("/")
    with graphpipe.load(made) as model:
        assert model.infer({"text": TEXTS})["ids"].tolist() == IDS
        model.self_test()


def test_a_file_that_is_gone_is_said_when_a_pipeline_is_saved(folder):
    path = folder / "data" / "vocab.txt"
    pipeline = Pipeline([Stage(f"{folder}/words.py:Split", arguments={"table": {}}, files={"vocabulary": path})])
    path.unlink()
    with pytest.raises(PackageError, match="stage 'Split': files: 'vocabulary': there is no file"):
        pipeline.save(folder / "saved")
    assert not (folder / "saved").exists()


def test_other_arguments_and_other_files_are_another_model(folder):
    """What keeps answers must not take those of one for another's."""
    path = folder / "data" / "vocab.txt"
    source = f"{folder}/words.py:Model"

    def told_apart(value, text="x"):
        path.write_text(text)
        with Pipeline([Stage(source, arguments={"factor": value}, files={"table": path})]) as pipeline:
            part = pipeline.model.parts[0]
            assert pipeline.version
            alone = graphpipe.load(source, arguments={"factor": value}, files={"table": path}).version
            assert alone == part.model.version
            return pipeline.version, manner(ModelSettings("m", source, part.options), part.model)

    first = told_apart(2)
    assert told_apart(2) == first
    for other in (told_apart(3), told_apart(2, "y")):
        assert other[0] != first[0]
        assert other[1] != first[1]
    moved = path.rename(folder / "data" / "elsewhere.txt")
    moved.write_text("x")
    model = graphpipe.load(source, arguments={"factor": 2}, files={"table": moved})
    assert model.version == graphpipe.load(source, arguments={"factor": 2, "table": Path(moved)}).version
    with pytest.raises(LoadError, match="make it a plain attribute"):
        graphpipe.load(f"{folder}/words.py:Sealed", arguments={"factor": 2})


def test_isolated_it_is_told_apart_as_well(folder):
    source = f"{folder}/words.py:Model"
    versions = set()
    for factor in (2, 3):
        with graphpipe.load(source, arguments={"factor": factor}, isolate=1) as model:
            versions.add(model.version)
    assert len(versions) == 2


def test_what_a_file_says_wrongly_is_said_with_its_place(folder):
    for text, words in (
        ('arguments = ["x"]', r"stages\[0\]: arguments are a table"),
        ("files = { vocabulary = 3 }", r"stages\[0\]: files: 'vocabulary': expected a path"),
        ("arguments = { table = {}, tabel = 1 }", "no argument 'tabel'; did you mean 'table'"),
        ('files = { vocabulary = "none.txt" }', "files: 'vocabulary': there is no file .*none.txt"),
    ):
        (folder / "pipeline.toml").write_text(f'[[stages]]\nsource = "words.py:Split"\n{text}\n')
        with pytest.raises(LoadError, match=words) as refused:
            graphpipe.load(folder)
        assert "pipeline.toml" in str(refused.value)


def test_numbers_that_are_none_are_written_down_too(folder):
    (folder / "odd.py").write_text("class Odd:\n    def __init__(self, a, b):\n        self.held = [a, b]\n"
                                   "    def __call__(self, x):\n        return {'y': self.held}\n")  # fmt: skip
    pipeline = Pipeline([Stage(f"{folder}/odd.py:Odd", arguments={"a": float("nan"), "b": float("-inf")})])
    with graphpipe.load(pipeline.save(folder / "odd.toml")) as again:
        np.testing.assert_array_equal(again.infer({"x": [1]})["y"], [np.nan, -np.inf])


def test_a_path_within_a_list_is_refused_when_it_is_saved(folder):
    class Two:
        def __init__(self, paths):
            pass

        def __call__(self, x):
            return {"x": x}

    with pytest.raises(PackageError, match="a path within a list"):
        Pipeline([Stage(Two, arguments={"paths": [Path("a")]})]).save(folder / "p.toml")

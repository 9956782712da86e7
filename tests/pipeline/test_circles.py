"""Pipelines that are stages of themselves are refused before anything is loaded."""

from __future__ import annotations

import pytest

import graphpipe
from graphpipe import LoadError
from tests.isolation.conftest import children


@pytest.mark.parametrize(
    ("files", "way"),
    [
        ({"pipeline.toml": ["pipeline.toml"]}, "pipeline.toml -> pipeline.toml"),
        ({"pipeline.toml": ["."]}, "pipeline.toml -> pipeline.toml"),
        ({"pipeline.toml": ["f.py:f", "b/pipeline.toml"], "b/pipeline.toml": ["../c"], "c/words.toml": ["../b"]},
         "b/pipeline.toml -> c/words.toml -> b/pipeline.toml"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("isolated", ["", "isolate = 1"])
def test_one_that_is_a_stage_of_itself_starts_no_process(tmp_path, files, way, isolated):
    (tmp_path / "f.py").write_text("def f(x):\n    return {'y': x}\n")
    for name, sources in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f'[[stages]]\nsource = "{source}"\n{isolated}\n' for source in sources))
    before = children()
    with pytest.raises(LoadError, match="a pipeline is a stage of itself") as caught:
        graphpipe.load(tmp_path / "pipeline.toml")
    assert str(caught.value).endswith(" -> ".join(f"{tmp_path.resolve()}/{each}" for each in way.split(" -> ")))
    assert children() == before


def test_one_that_stands_twice_in_another_is_none(tmp_path):
    (tmp_path / "f.py").write_text("def f(x):\n    return {'x': x + 1}\n")
    (tmp_path / "inner.toml").write_text('[[stages]]\nsource = "f.py:f"\n')
    (tmp_path / "pipeline.toml").write_text('[[stages]]\nsource = "inner.toml"\n' * 2)
    with graphpipe.load(tmp_path) as model:
        assert model.infer({"x": [1.0]})["x"].tolist() == [3.0]

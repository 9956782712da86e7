"""Rows of one setting, or of one function, never answer for another in the same folder."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch

import graphpipe
from graphpipe.backends import LoadOptions
from graphpipe.server.settings.values import ModelSettings
from graphpipe.server.stages.cache.manner import manner
from graphpipe.server.stages.cache.origin import origin
from tests.onnx_graphs import INT64, passing, scaled
from tests.serving import serving


def test_every_setting_that_can_change_an_answer_tells_rows_apart(tmp_path):
    model = graphpipe.load(scaled(tmp_path / "m.onnx", 2)).model
    for name in ("ops_a", "ops_b"):
        (tmp_path / name).write_text(name)
    loads = [
        {}, {"pad": ("x:1:0",)}, {"signature": "b"}, {"bfloat16": True}, {"channels_last": True},
        {"custom_ops": (str(tmp_path / "ops_a"),)}, {"custom_ops": (str(tmp_path / "ops_b"),)},
        {"providers": ("cpu",)}, {"device": "cuda:0"}, {"outputs": ("y",)}, {"intra_threads": 2},
    ]  # fmt: skip
    settings = [ModelSettings("m", "m", LoadOptions(**each)) for each in loads]
    plain = settings[0]
    settings += [replace(plain, batch_pad=("x:1:0",)), replace(plain, cast=True), replace(plain, batch_sizes=(8,))]
    for one, other in combinations(settings, 2):
        assert manner(one, model) != manner(other, model)
    same = replace(plain, threads=7, cache_dir="elsewhere", options=LoadOptions(download_bytes_max=5))
    assert manner(same, model) == manner(plain, model)
    before = manner(settings[5], model)
    (tmp_path / "ops_a").write_text("built anew")
    assert manner(settings[5], model) != before


def test_two_functions_of_one_name_keep_their_rows_apart(tmp_path):
    def made(factor):
        def scale(x):
            return x * factor

        return scale

    loaded = [
        graphpipe.load(function, name="m")
        for function in (made(2), made(3), lambda x: x, lambda x: -x, partial(pow, 2), partial(pow, 3))
    ]
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.py").write_text("def scale(x):\n    return x\n")
        loaded.append(graphpipe.load(f"{tmp_path}/{name}/m.py:scale", name="m"))
    manners = {manner(ModelSettings("m", each.source, cache_version="1"), each.model) for each in loaded}
    assert len(manners) == len(loaded)


def test_what_a_function_or_an_object_holds_tells_rows_apart():
    class Scale:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, x):
            return x * self.factor

    def made(held, *, more=0):
        def scale(x, *, more=more):
            return x * held + more

        return scale

    def weighted(seed, last):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(2, 2), last)

    def models():
        # fmt: off
        yield from (lambda x: x * 2.5, lambda x: x * 3.5, lambda x: np.sin(x), lambda x: np.cos(x))
        # fmt: on
        yield from (made(np.ones(3)), made(np.zeros(3)), made([1, 2]), made([1, 3]), made(1), made(1, more=2))
        yield from (Scale(2), Scale(3), Scale(np.ones(2)).__call__, Scale(np.zeros(2)).__call__)
        yield from (partial(np.multiply, np.ones(2)), partial(np.multiply, np.zeros(2)))
        yield from (weighted(0, torch.nn.ReLU()), weighted(1, torch.nn.ReLU()), weighted(0, torch.nn.Tanh()))

    def manners():
        return [origin(model) for model in models()]

    assert len(set(map(str, manners()))) == len(manners())
    assert manners() == manners()


def test_functions_of_a_notebook_tell_their_rows_apart_by_their_code():
    cells = ("def f(x): return x * 2", "def f(x): return x * 3", "def f(x):\n  def g(y): return y\n  return g(x)")
    found = []
    for cell in (*cells, *cells):
        names = {"__name__": "a_notebook"}
        exec(cell, names)
        found.append(str(origin(names["f"])))
    assert len(set(found)) == len(cells)
    assert found[:3] == found[3:]


def test_servers_of_two_settings_may_share_a_folder(tmp_path):
    path = passing(tmp_path / "m.onnx", INT64, ["n", 4])
    answers = []
    for value in ("0", "7", "0"):
        pad = ("--pad", f"x:1:{value}")
        with serving("--model", path, *pad, "--cache", "--cache-dir", tmp_path / "rows") as server:
            answers.append(graphpipe.remote.execute(server.url, np.ones((1, 2), np.int64)).tolist())
    assert answers == [[[1, 1, 0, 0]], [[1, 1, 7, 7]], [[1, 1, 0, 0]]]


def test_a_setting_that_is_not_given_reads_no_file(tmp_path, monkeypatch):
    model = graphpipe.load(scaled(tmp_path / "m.onnx", 2)).model
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = manner(ModelSettings("m", "m"), model)
    (folder / "something.txt").write_text("that comes and goes")
    assert manner(ModelSettings("m", "m"), model) == before


def test_two_modules_of_one_class_keep_their_rows_apart():
    torch = pytest.importorskip("torch")
    one, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    again = torch.nn.Linear(2, 1)
    again.load_state_dict(one.state_dict())
    keys = [manner(ModelSettings("m", ""), graphpipe.load(module).model) for module in (one, other, again)]
    assert keys[0] != keys[1]
    assert keys[0] == keys[2]

"""Rows of one setting, or of one function, never answer for another in the same folder."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import pytest

import graphpipe
from graphpipe.backends import LoadOptions
from graphpipe.server.settings.values import ModelSettings
from graphpipe.server.stages.cache.manner import manner
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

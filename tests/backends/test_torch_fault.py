"""Whose fault it is when a program of PyTorch fails: the caller's or the model's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import InvalidRequest, ModelFailed

torch = pytest.importorskip("torch")

from tests.backends.torch_programs import X, exported, scripted, write  # noqa: E402 -- after the check that there is a torch


class Embed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(3, 1)

    def forward(self, ids):
        return self.table(ids)


class Applied(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Pairs(torch.nn.Module):
    def forward(self, x):
        return x.reshape(x.shape[0] // 2, -1)


def test_a_value_that_only_the_caller_can_have_got_wrong_is_the_callers(tmp_path):
    rows, few, even = torch.export.Dim("n"), torch.export.Dim("n", max=8), 2 * torch.export.Dim("k", max=50)
    ids, two = np.array([[99]]), torch.zeros(2, 4)
    e, p = tmp_path / "e.pt2", tmp_path / "p.pt2"
    scripts = [write(scripted(Embed()), tmp_path / name) for name in ("e.pt", "t.pt")]
    sources: list[tuple[Any, dict[str, Any], str]] = [
        (scripts[0], {"ids": ids}, "out of range"),
        (Embed(), {"ids": ids}, "out of range"),
        (exported(Embed(), torch.zeros(2, 1, dtype=torch.int64), e, ids={0: rows}), {"ids": ids}, "out of range"),
        (
            exported(torch.nn.Linear(4, 3), two, tmp_path / "l.pt2", input={0: few}),
            {"input": np.zeros((9, 4), np.float32)},
            "'input' has 9 rows; the model takes at most 8 rows",
        ),
        (exported(Pairs(), torch.zeros(4, 4), p, x={0: even}), {"x": np.zeros((3, 4), np.float32)}, "refuses a value"),
        (scripts[1], {"ids": np.array([["a"]])}, "PyTorch takes numbers; 'ids'"),
        (torch.nn.Linear(4, 3), {"input": np.zeros((2, 5), np.float32)}, "cannot take"),
        (torch.nn.Linear(4, 3), {"input": np.zeros((2, 4), np.int64)}, "cannot take"),
        (Embed(), {"ids": np.zeros(2, np.float32)}, "cannot take"),
        (torch.nn.Conv2d(3, 1, 3), {"input": np.zeros((1, 3, 2, 2), np.float32)}, "cannot take"),
        (Applied(torch.bernoulli), {"x": np.array([2], np.float32)}, "refuses a value"),
        (Applied(torch.linalg.cholesky), {"x": -np.eye(2, dtype=np.float32)}, "refuses a value"),
        (Applied(lambda x: torch.nn.functional.one_hot(x, 3)), {"x": np.array([7])}, "refuses a value"),
    ]
    for source, inputs, words in sources:
        with graphpipe.load(source) as model, pytest.raises(InvalidRequest, match=words) as refused:
            model.infer(inputs)
        assert "\n" not in str(refused.value)


def test_what_nobody_can_tell_is_the_models_fault():
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x.no_such_thing

    with graphpipe.load(Broken()) as model, pytest.raises(ModelFailed):
        model.infer({"x": X})

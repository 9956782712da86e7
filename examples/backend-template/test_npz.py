"""The backend does what it says. Run it where both packages are installed: python -m pytest."""

from pathlib import Path

import numpy as np
import pytest

import graphpipe

X = np.ones((3, 2), np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.savez(
        tmp_path / "model.npz", weights=np.array([[1, 2], [3, 4]], np.float32), bias=np.array([10, 20], np.float32)
    )
    return tmp_path / "model.npz"


def test_graphpipe_finds_it_by_the_file(path: Path) -> None:
    with graphpipe.load(path) as model:
        assert str(model.signature) == "(x float32 [n, 2]) -> (y float32 [n, 2])"
        assert model.infer({"x": X})["y"].tolist() == [[14.0, 26.0]] * 3


def test_what_does_not_fit_never_reaches_it(path: Path) -> None:
    with graphpipe.load(path) as model, pytest.raises(graphpipe.InvalidRequest, match="float64"):
        model.infer({"x": X.astype(float)})


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=X)
    with pytest.raises(graphpipe.LoadError, match="not a linear model"):
        graphpipe.load(tmp_path / "other.npz")

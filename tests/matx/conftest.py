"""An environment with MATXScript, and the modules that are scripted in it: made once, and kept."""

from __future__ import annotations

import pytest

from tests.backends.test_download import site
from tests.matx.making import Made, made

__all__ = ["site"]  # a fixture


@pytest.fixture(scope="session")
def matx(request: pytest.FixtureRequest) -> Made:
    """Made where slow tests run too, else taken if it is there."""
    return made(make="not slow" not in str(request.config.option.markexpr))


@pytest.fixture
def found(matx: Made, tmp_path, monkeypatch) -> Made:
    """The environment has a name, so that it is found by nobody's telling."""
    monkeypatch.setenv("GRAPHPIPE_VENVS", str(matx.named(tmp_path / "venvs")))
    return matx

"""A package to begin with, and a cache that is nobody else's."""

from __future__ import annotations

import shutil

import pytest

from tests.package.making import python_adder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "graphpipe" / "packages"


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return python_adder(tmp_path_factory.mktemp("made") / "adder")


@pytest.fixture
def adder(made, tmp_path):
    """A folder with a package of Python, of which there may be other copies."""
    return shutil.copytree(made, tmp_path / "adder")

"""Every sample, built once; a process that serves them all."""

from __future__ import annotations

import importlib
import os
import pkgutil
import warnings
from collections.abc import Iterator

import pytest

import graphpipe
from tests.contract import samples
from tests.contract.samples import Sample
from tests.serving import serving

# As the TensorFlow backend sets it; here the samples import TensorFlow first.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

NAMES = sorted(module.name for module in pkgutil.iter_modules(samples.__path__))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sample]]:
    """Each sample by the name of its module."""
    made = {}
    try:
        for name in NAMES:
            with warnings.catch_warnings():
                # What frameworks say of their own older formats while a sample is made in them.
                warnings.simplefilter("ignore")
                module = importlib.import_module(f"tests.contract.samples.{name}")
                made[name] = module.build(tmp_path_factory.mktemp(name))
        yield made
    finally:
        for sample in made.values():
            sample.close()


@pytest.fixture(scope="session")
def loaded(built: dict[str, Sample]) -> Iterator[dict[str, graphpipe.LoadedModel]]:
    """Each sample in this process: all frameworks live beside each other."""
    models = {name: graphpipe.load(sample.source, **sample.options) for name, sample in built.items()}
    yield models
    for model in models.values():
        model.close()


@pytest.fixture(scope="session")
def served(built: dict[str, Sample]) -> Iterator[str]:
    """The URL of one server that has them all."""
    arguments = [argument for name, sample in built.items() for argument in ("--model", f"{name}={sample.source}")]
    with serving(*arguments, tracebacks=True) as server:
        yield server.url


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sample(name: str, built: dict[str, Sample]) -> Sample:
    return built[name]


@pytest.fixture
def model(name: str, loaded: dict[str, graphpipe.LoadedModel]) -> graphpipe.LoadedModel:
    return loaded[name]

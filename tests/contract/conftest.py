"""Every sample and every keeper of memory, built once; a process that serves them all."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import warnings
from collections.abc import Iterator

import pytest

import graphpipe
from tests.contract import keepers as keepers_of_memory
from tests.contract import samples
from tests.contract.samples import Sample
from tests.serving import Server, serving

# As the TensorFlow backend sets it; here the samples import TensorFlow first.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Keepers of memory that are served: the name of the source, and 1 thread where one array is kept for all of them.
SERVED_KEEPERS = {
    "function": ("keeping", 1),
    "threads": ("keeping by thread", 4),
    "input": ("giving its input", 4),
    "module": ("in place", 4),
    "script": ("scripted buffer", 1),
    "onnx": ("by row", 4),
    "keras": ("keras", 4),
}
KEEPER_MODES = {
    "plain": (),
    "batched": (("--batch-rows-max", "8"), ("--batch-wait-ms", "5")),
    "cached": (("--cache", "true"), ("--cache-version", "1")),
}
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
    gc.freeze()  # the objects of all frameworks: a test that collects garbage looks at what it made itself
    yield models
    gc.unfreeze()
    for model in models.values():
        model.close()


@pytest.fixture(scope="session")
def keepers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The sources of the models that keep memory, by name."""
    return keepers_of_memory.write(tmp_path_factory.mktemp("keepers"))


@pytest.fixture(scope="session")
def served(
    built: dict[str, Sample], keepers: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server that has all samples, and keepers of memory in each mode: frameworks are loaded once."""
    arguments = ["--cache-dir", str(tmp_path_factory.mktemp("cache"))]
    for name, sample in built.items():
        arguments += ["--model", f"{name}={sample.source}"]
        for option, value in sample.options.items():
            arguments += [f"--{option.replace('_', '-')}", f"{name}={value}"]
    for name, (source, threads) in SERVED_KEEPERS.items():
        for mode, flags in KEEPER_MODES.items():
            called = f"{name}-{mode}"
            arguments += ["--model", f"{called}={keepers[source]}", "--threads", f"{called}={threads}"]
            for flag, value in flags:
                arguments += [flag, f"{called}={value}"]
    with serving(*arguments, tracebacks=True) as server:
        yield server


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sample(name: str, built: dict[str, Sample]) -> Sample:
    return built[name]


@pytest.fixture
def model(name: str, loaded: dict[str, graphpipe.LoadedModel]) -> graphpipe.LoadedModel:
    return loaded[name]

"""What every backend promises, kept by models in processes of their own: the contract's own tests.

They are left to `make test-all`: what is its own of an isolated model has its quick tests beside this file.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest

import graphpipe
from tests.contract import samples
from tests.contract import test_contract as contract
from tests.contract.samples import Sample
from tests.serving import Server, serving

NAMES = sorted(module.name for module in pkgutil.iter_modules(samples.__path__))
# They take long, and are about the memory of this process.
LONG = ("test_a_big_input_is_not_copied", "test_a_thousand_calls_leave_memory_as_it_was")


globals().update({name: test for name, test in vars(contract).items() if name.startswith("test_") and name not in LONG})


@pytest.fixture(scope="module", params=[pytest.param(each, marks=pytest.mark.slow) for each in NAMES])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sample(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what frameworks say of their own older formats
        made = importlib.import_module(f"tests.contract.samples.{name}").build(tmp_path_factory.mktemp(name))
    yield replace(made, options={**made.options, "isolate": 1})
    made.close()


@pytest.fixture(scope="module")
def model(sample: Sample) -> Iterator[graphpipe.LoadedModel]:
    with graphpipe.load(sample.source, **sample.options) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def served(name: str, sample: Sample) -> Iterator[Server]:
    flags = [
        text for key, value in sample.options.items() for text in (f"--{key.replace('_', '-')}", f"{name}={value}")
    ]
    with serving("--model", f"{name}={sample.source}", *flags, tracebacks=True) as server:
        yield server

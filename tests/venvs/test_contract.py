"""What every backend promises, kept by models that run under another Python with another version of their framework: the
contract's own tests, over models in processes of their own.
"""

from __future__ import annotations

import importlib
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import graphpipe
from tests.contract import test_contract as contract
from tests.contract.samples import Sample
from tests.serving import Server, serving
from tests.venvs.interpreters import NUMPY_1, ROOT, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Its tests are collected here too, and get their models from the fixtures below.
globals().update({name: test for name, test in vars(contract).items() if name.startswith("test_")})


@dataclass(frozen=True)
class Home:
    """Where models run: a Python with packages, or ours; and which samples. Those of ``own`` are modules beside this one,
    and written there.
    """

    name: str
    python: str
    packages: tuple[str, ...]
    samples: tuple[str, ...]
    own: tuple[str, ...] = ()

    def interpreter(self) -> str:
        return environment(self.name, self.python, *self.packages, make=True) if self.packages else ""


# Of PyTorch's wheels for processors alone none is on PyPI. 1.12 is the last whose CUDA is in the one wheel, 0.74 GB; the
# versions from 2.0 on are 3 to 5 GB with what they need to be imported.
HOMES = (
    Home("python39", "3.9", (NUMPY_1,), ("python", "python_kept")),
    Home("python313", "3.13", ("numpy==2.4.6",), ("python", "python_kept")),
    Home("onnxruntime118", "3.9", ("onnxruntime==1.18.1", NUMPY_1), ("onnx",)),
    Home(
        "tensorflow215", "3.11", ("tensorflow-cpu==2.15.1", NUMPY_1),
        ("tensorflow_savedmodel", "tensorflow_graphdef"), ("keras2",),
    ),
    Home("torch112", "3.10", ("torch==1.12.1", NUMPY_1), ("torch_script", "torch_module")),
    Home("ours", "", (), ("python", "onnx", "tensorflow_savedmodel", "torch_script", "torch_export")),
)  # fmt: skip
BY_NAME = {home.name: home for home in HOMES}


@pytest.fixture(
    scope="module", params=[(home.name, name) for home in HOMES for name in home.samples + home.own], ids="-".join
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Sample]]:
    """A name for it, and the sample as it is loaded there."""
    home, name = BY_NAME[request.param[0]], request.param[1]
    folder = tmp_path_factory.mktemp(name)
    python = home.interpreter()
    made = written_there(python, name, folder) if name in home.own else written_here(name, folder)
    options = {"isolate": 1} | ({"python": python} if python else {})
    # Memory that both processes see counts for both.
    yield name, replace(made, options={**made.options, **options}, copies_inputs=True)
    made.close()


def written_here(name: str, folder: Path) -> Sample:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what frameworks say of their own older formats
        made: Sample = importlib.import_module(f"tests.contract.samples.{name}").build(folder)
        return made


def written_there(python: str, name: str, folder: Path) -> Sample:
    code = (
        f"import sys; sys.path.append({str(ROOT)!r}); from pathlib import Path\n"
        f"from tests.venvs.{name} import build\nmade = build(Path({str(folder)!r}))\n"
        "print(repr((made.source, made.strings, made.checks, made.has_symbols)))"
    )
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert said.returncode == 0, said.stderr
    source, strings, checks, has_symbols = eval(said.stdout.splitlines()[-1])
    return Sample(source, strings=strings, checks=checks, has_symbols=has_symbols)


@pytest.fixture
def name(case: tuple[str, Sample]) -> str:
    return case[0]


@pytest.fixture
def sample(case: tuple[str, Sample]) -> Sample:
    return case[1]


@pytest.fixture(scope="module")
def loaded_case(case: tuple[str, Sample]) -> Iterator[graphpipe.LoadedModel]:
    with graphpipe.load(case[1].source, **case[1].options) as model:
        yield model


@pytest.fixture
def model(loaded_case: graphpipe.LoadedModel) -> graphpipe.LoadedModel:
    return loaded_case


@pytest.fixture(scope="module")
def served(case: tuple[str, Sample]) -> Iterator[Server]:
    name, sample = case
    flags = [text for option, value in sample.options.items() for text in (f"--{option}", f"{name}={value}")]
    with serving("--model", f"{name}={sample.source}", *flags, tracebacks=True) as server:
        yield server


def test_it_runs_in_the_version_that_it_is_meant_to(case, model):
    """So that nobody holds ours to the contract twice."""
    options: dict[str, Any] = case[1].options
    home = next(
        home for home in HOMES if case[0] in home.samples + home.own and bool(home.packages) == ("python" in options)
    )
    for package in home.packages[:1]:
        framework, _, version = package.partition("==")
        if framework != "numpy":
            assert version in model.model.runtime, model.model.runtime

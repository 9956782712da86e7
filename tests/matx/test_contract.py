"""What every backend promises, kept by a module of MATXScript: scripted Python, and operators in C++ beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

import graphpipe
from tests.contract import test_contract as contract
from tests.contract.samples import Sample
from tests.matx.making import Made
from tests.serving import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# It is given copies, in another process, and both count.
LONG = ("test_a_big_input_is_not_copied",)
globals().update({name: test for name, test in vars(contract).items() if name.startswith("test_") and name not in LONG})

SAID = {
    "inputs": [
        {"name": "x", "dtype": "float32", "shape": ["n", 4]}, {"name": "k", "dtype": "int64", "shape": ["n"]},
        {"name": "flags", "dtype": "bool", "shape": ["n"]}, {"name": "s", "dtype": "string", "shape": ["m"]},
    ],
    "outputs": [
        {"name": "y", "dtype": "float32", "shape": ["n", 4]}, {"name": "total", "dtype": "float32", "shape": ["n"]},
        {"name": "no", "dtype": "bool", "shape": ["n"]}, {"name": "t", "dtype": "string", "shape": ["m"]},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def name() -> str:
    return "matx"


@pytest.fixture(scope="module")
def sample(matx: Made, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("matx") / "contract"
    shutil.copytree(matx.module("contract"), folder)
    shutil.copy(matx.module("libsums.so"), folder)  # from beside the module it is loaded by itself
    (folder / "model.spec.graphpipe.json").write_text(json.dumps(SAID))
    return Sample(str(folder), {"python": matx.python}, strings=True, copies_inputs=True)


@pytest.fixture(scope="module")
def model(sample: Sample) -> Iterator[graphpipe.LoadedModel]:
    with graphpipe.load(sample.source, **sample.options) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def served(name: str, sample: Sample) -> Iterator[Server]:
    with serving("--model", f"{name}={sample.source}", "--python", sample.options["python"], tracebacks=True) as server:
        yield server

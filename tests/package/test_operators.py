"""A library of operators that a package brings along is loaded before its model, wherever the package is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import graphpipe
from graphpipe.package import create
from graphpipe.package.contents import manifest_at
from tests.package.making import ADDITION, TEST

SOURCE = """
#include <ATen/ATen.h>
#include <torch/library.h>
at::Tensor plus(const at::Tensor& a, const at::Tensor& b) { return a + b; }
TORCH_LIBRARY(graphpipe_test, m) { m.def("plus(Tensor a, Tensor b) -> Tensor", &plus); }
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # of torch.jit
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no compiler here")
def test_a_package_brings_its_operators(tmp_path):
    torch = pytest.importorskip("torch")
    home = Path(torch.__file__).parent
    (tmp_path / "plus.cpp").write_text(SOURCE)
    library = tmp_path / "libplus.so"
    subprocess.run(
        ["g++", "-O0", "-shared", "-fPIC", "-std=c++20", f"-I{home}/include",
         f"-I{home}/include/torch/csrc/api/include", tmp_path / "plus.cpp", "-o", library,
         f"-L{home}/lib", "-ltorch", "-ltorch_cpu", "-lc10"],
        check=True,
    )  # fmt: skip
    torch.ops.load_library(str(library))

    class Adder(torch.nn.Module):
        def forward(self, x, y):
            return {"out": torch.ops.graphpipe_test.plus(x, y)}

    said = {"model": Adder(), "problem": ADDITION, "test_data": TEST, "save_as": ".pt"}
    with pytest.raises(graphpipe.PackageError, match="graphpipe_test"):
        create(tmp_path / "without.zip", **said)
    package = create(tmp_path / "with.zip", **said, custom_ops=[library])
    assert manifest_at(str(package)).options == {"custom_ops": ["ops/libplus.so"]}
    library.unlink()
    with graphpipe.load(package, isolate=1) as model:  # which has not loaded it yet
        assert model.infer({"x": [1], "y": [2]})["out"].tolist() == [3]
        model.self_test()

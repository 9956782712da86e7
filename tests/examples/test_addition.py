"""examples/addition: one problem in every framework, and one loop that does not know which it asks."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import numpy as np
import pytest

import graphpipe
from tests.serving import ROOT

EXAMPLE = ROOT / "examples" / "addition"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"addition_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


make, measure = module("make"), module("measure")
KINDS = {
    "python": "Python function", "onnx": "ONNX", "torch": "PyTorch module", "torchscript": "TorchScript",
    "torch_export": "PyTorch exported program", "keras": "Keras", "savedmodel": "TensorFlow SavedModel",
    "graphdef": "TensorFlow graph",
}  # fmt: skip


def answers(folder, names):
    x, y = np.random.default_rng(1).standard_normal((2, 77), np.float32)
    for name in names:
        with graphpipe.load(folder / f"{name}.zip") as model:
            assert model.model.kind == KINDS[name]
            assert str(model.signature) == "(x float32 [n], y float32 [n]) -> (out float32 [n])"
            out = model.infer({"x": x, "y": y})["out"]
        assert np.array_equal(out, x + y), name


def test_two_frameworks_give_the_same_sums(tmp_path, capsys):
    make.main(str(tmp_path), "python", "onnx")
    answers(tmp_path, ["python", "onnx"])
    measure.main(*(str(package) for package in tmp_path.glob("*.zip")))
    assert "onnx: largest error 0.0\npython: largest error 0.0\n" in capsys.readouterr().out


def test_a_framework_that_is_not_installed_is_skipped_with_words(tmp_path, capsys, monkeypatch):
    def absent():
        raise ModuleNotFoundError("No module named 'absent'", name="absent")

    monkeypatch.setitem(make.FRAMEWORKS, "keras", absent)
    make.main(str(tmp_path), "keras")
    assert capsys.readouterr().out == "keras: skipped, absent is not installed\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # of the frameworks, while they write
@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_every_framework_gives_the_same_sums(tmp_path, framework):
    pytest.importorskip(framework)
    names = [
        name for name in KINDS if name not in ("python", "onnx") and name.startswith("torch") == (framework == "torch")
    ]
    make.main(str(tmp_path), *names)
    answers(tmp_path, names)
    with graphpipe.load(tmp_path / f"{names[0]}.zip", isolate=1) as model:
        assert model.infer({"x": [1], "y": [2]})["out"].tolist() == [3]

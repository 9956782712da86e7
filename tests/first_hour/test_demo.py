"""`graphpipe-serve --demo` from an installed wheel, with the server extra alone: what it says is what works."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import graphpipe
from graphpipe import demo
from graphpipe.demo.digits import arrays, classify
from tests.processes import ROOT
from tests.serving import environment, run_to_end, serving

DIGITS = ROOT / "examples" / "digits"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment in which the wheel is installed, beside the libraries of this one."""
    if importlib.util.find_spec("hatchling") is None and os.environ.get("CI") != "true":
        pytest.skip("hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    run(ROOT, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    venv = folder / "venv"
    run(folder, sys.executable, "-m", "venv", "--without-pip", str(venv))
    (wheel,) = folder.glob("*.whl")
    into = ("--python", str(venv / "bin" / "python"))
    run(folder, sys.executable, "-m", "pip", *into, "install", "--no-index", "--no-deps", "--quiet", str(wheel))
    # Found after the wheel's own files; a folder of a .pth file is not searched for further ones, so no clone comes along.
    (site,) = venv.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    (site / "libraries.pth").write_text("".join(f"{path}\n" for path in libraries))
    return venv / "bin"


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=plain(), check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def plain() -> dict[str, str]:
    return {name: value for name, value in environment().items() if name != "PYTHONPATH"}


@pytest.fixture
def from_the_wheel(installed: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a demo that the wheel's own program serves, and what it says on standard error."""
    log = tmp_path / "stderr"
    command = [str(installed / "graphpipe-serve"), "--demo", "--listen", "127.0.0.1:0", "--drain-grace-s", "0"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=tmp_path, env=plain(), stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    with process:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), log.read_text()
        yield line.split()[-1], log
        process.terminate()
        assert process.stdout.read() == "", "standard output has one line"
        assert process.wait() == 0


def test_an_installed_wheel_serves_its_demo_and_the_lines_it_prints_work_when_pasted(
    installed: Path, from_the_wheel: tuple[str, Path], tmp_path: Path
):
    url, log = from_the_wheel
    assert graphpipe.remote.execute(url, demo.digit(), output_name="label").tolist() == [7]
    pasted = re.findall(r"^  (\S.*)$", log.read_text(), re.MULTILINE)
    python, curl = (run(tmp_path, "sh", "-c", line) for line in pasted)
    assert python == "[7]\n"
    assert json.loads(curl)["Name"] == "digits"
    # It was the wheel that answered, not a clone that lies about.
    where = run(tmp_path, str(installed / "python"), "-c", "import graphpipe; print(graphpipe.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_the_demo_needs_no_framework():
    code = "import sys; from graphpipe.demo.digits import classify; from graphpipe import demo; classify(demo.digit())"
    loaded = subprocess.check_output(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"], cwd=ROOT, env=environment(), text=True
    ).split()
    assert not {"onnxruntime", "onnx", "torch", "tensorflow", "sklearn", "scipy"} & set(loaded)


def test_the_demo_is_the_digit_model_of_the_examples():
    weights = {each.name: numpy_helper.to_array(each) for each in onnx.load(DIGITS / "digits.onnx").graph.initializer}
    weights["digit"] = np.load(DIGITS / "digit.npy")
    assert arrays().keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(arrays()[name], array)
    pixels = np.random.default_rng(0).uniform(0, 16, (50, 64)).astype(np.float32)
    with graphpipe.load(DIGITS / "digits.onnx") as model:
        want = model.infer({"pixels": pixels})
    label, probabilities = classify(pixels)
    np.testing.assert_array_equal(label, want["label"])
    np.testing.assert_allclose(probabilities, want["probabilities"], atol=1e-5)


def test_whoever_holds_a_digit_of_the_demo_may_write_to_it():
    demo.digit()[:] = 0
    assert demo.digit().any()


def test_a_demo_beside_a_model_is_refused_and_one_beside_settings_of_a_file_is_served(tmp_path: Path):
    refused = run_to_end("--demo", "--model", "echo")
    assert refused.returncode == 2
    assert "--demo brings a model of its own; leave out either it or --model" in refused.stderr
    (tmp_path / "serve.toml").write_text('model = "echo"\nthreads = 1\n')
    with serving("--demo", "--config", tmp_path / "serve.toml") as server:
        assert graphpipe.remote.metadata(server.url).name == "digits"


def test_a_server_without_a_model_names_the_demo():
    assert "--demo" in run_to_end().stderr

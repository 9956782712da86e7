"""`graphpipe compare`: what it prints, writes and ends with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.serving import environment

MODELS = """
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("digits.onnx", providers=["CPUExecutionProvider"])

def near(pixels):
    print("a model's own words")
    label, probabilities = session.run(["label", "probabilities"], {"pixels": pixels})
    return {"label": label, "probabilities": probabilities + np.float32(0.01)}

def fails(pixels):
    raise RuntimeError("inner words")

def accuracy(inputs, outputs, truth):
    return float((outputs["label"] == truth["kind"]).mean())
"""
PROBLEM = """
name = "digits"
[inputs]
pixels = "float32[n, 64]"
[outputs]
label = "int64[n]"
probabilities = "float32[n, 10]"
"""


@pytest.fixture
def here(folder, monkeypatch):
    """The folder, with models, data and a problem too."""
    digit = np.load("digit.npy")
    np.savez("digits.npz", pixels=np.concatenate([digit, digit[:, ::-1], digit * 0]), kind=[7, 1, 2])
    (folder / "near_models.py").write_text(MODELS)
    (folder / "problem.toml").write_text(PROBLEM)
    monkeypatch.delitem(sys.modules, "near_models", raising=False)
    return folder


def test_models_are_compared_in_words_json_and_a_picture(graphpipe, here):
    status, out, err = graphpipe(
        "compare", "digits.onnx", "near=near_models:near", "--problem", "problem.toml", "--data", "digits.npz",
        "--metric", "near_models.py:accuracy", "--batch", 2, "--repeat", 2, "--json", "a.json", "--picture", "a.svg",
    )  # fmt: skip
    assert (status, set(err.splitlines())) == (0, {"a model's own words"})
    assert out.startswith("digits: 2 models, 4 calls of each in 2 passes, 6 rows, of digits.npz\n")
    assert "differences from digits" in out
    document = json.loads((here / "a.json").read_text())
    assert [(each["name"], each["source"]) for each in document["models"]] == [
        ("digits", "digits.onnx"), ("near", "near_models:near"),
    ]  # fmt: skip
    assert document["max_abs"] == pytest.approx(0.01, rel=1e-3)
    assert [each["metrics"].keys() for each in document["models"]] == 2 * [{"accuracy"}]
    assert ElementTree.parse(here / "a.svg").getroot().tag.endswith("svg")


def test_json_on_standard_output_is_alone_there(graphpipe, here):
    status, out, _ = graphpipe("compare", "digits.onnx", "near_models:near", "--data", "digits.npz", "--json", "-")
    assert (status, json.loads(out)["calls"]) == (0, 3)


def test_the_status_says_what_is_over_a_limit(graphpipe, here):
    line = ["compare", "digits.onnx", "near_models:near", "--data", "digits.npz"]
    assert graphpipe(*line, "--fail-over", "0.1")[0] == 0
    status, out, err = graphpipe(*line, "--fail-over", "1e-3")
    assert (status, "differences from digits" in out) == (1, True)
    assert "graphpipe compare: near, output probabilities: a difference of 0.01 is over 0.001\n" in err
    line += ["near_models:fails"]
    status, out, _ = graphpipe(*line)
    assert (status, "fails: 3 errors" in out) == (0, True)
    status, _, err = graphpipe(*line, "--fail-over", "1")
    assert (status, "graphpipe compare: fails failed on 3 calls\n" in err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits.onnx", "--data", "digits.npz"], "name two or more"),
        (["digits.onnx", "digits.onnx"], "there is nothing to ask; give data"),
        (["a=digits.onnx", "a=digits.onnx", "--data", "digits.npz"], "two models are called 'a'"),
        (["digits.onnx", "digits.onnx", "--data", "none.npz"], "no such file or folder"),
        (["digits.onnx", "none.onnx", "--data", "digits.npz"], "none.onnx"),
        (["digits.onnx", "digits.onnx", "--data", "digits.npz", "--picture", "a.png"], "expected a file .svg"),
        (["digits.onnx", "digits.onnx", "--data", "digits.npz", "--json", "no/a.json"], "no such folder"),
        (["digits.onnx", "digits.onnx", "--data", "digits.npz", "--metric", "near_models:nothing"], "has no 'nothing'"),
        (
            ["digits.onnx", "digits.onnx", "--problem", "problem.toml"],
            "there is nothing to ask: the problem has no tests",
        ),
        (
            ["digits.onnx", "digits.onnx", "--data", "digits.npz", "--tags", "serve"],
            "--tags does nothing for any of the 2",
        ),
        (["digits.onnx", "digits.onnx", "--data", "digits.npz", "--scores", "labels"], "there is no output 'labels'"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(graphpipe, here, arguments, words):
    status, out, err = graphpipe("compare", *arguments)
    assert (status in (1, 2), out) == (True, "")
    assert words in err
    assert "Traceback" not in err


def test_an_option_of_loading_is_for_those_models_that_use_it(graphpipe, here):
    line = ["compare", "digits.onnx", "near_models:near", "--data", "digits.npz", "--intra-threads", "2"]
    assert graphpipe(*line)[0] == 0


def test_ctrl_c_shows_what_there_is(here):
    (here / "slow.py").write_text(
        "import time\ndef slow(x):\n    time.sleep(0.05)\n    print('asked', flush=True)\n    return x\n"
    )
    np.savez("many.npz", x=np.zeros((5000, 2), np.float32))
    code = "from graphpipe.server.start import main; main()"
    line = [sys.executable, "-c", code, "compare", "slow.py:slow", "echo", "--data", "many.npz", "--warm-up", "0"]
    with subprocess.Popen(
        line, cwd=here, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(5):
            assert process.stderr.readline() == "asked\n"
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted: this is what there was until then" in out
    assert "Traceback" not in err


def test_what_help_shows_works_as_it_is_shown(shell, here, url):
    """The examples, with models and data under the names that they have there."""
    for copy in ("digits-int8.onnx", "old.onnx", "new.onnx", "a.onnx"):
        (here / copy).write_bytes((here / "digits.onnx").read_bytes())
    shown = shell("graphpipe compare --help").stdout.decode()
    lines = [line.strip() for line in shown.partition("examples:\n")[2].partition("\n\n")[0].splitlines()]
    assert len(lines) == 4
    for line in lines:
        if "c/" in line:  # three frameworks, a folder and a problem: tests/examples has these
            continue
        done = shell(line.replace("http://127.0.0.1:9000", url))
        assert done.returncode == 0, done.stderr
    assert (here / "report.svg").exists()
    assert json.loads((here / "report.json").read_text())["max_abs"] == 0


def test_the_base_install_is_enough_to_compare_servers(here, url):
    """Nothing but numpy and click can be imported besides the standard library and the package."""
    allowed = {"numpy", "click", "graphpipe"}
    code = f"""
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {allowed!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Only())
from graphpipe.server.start import main
main()
"""
    line = ["compare", url, f"again={url}", "--data", "digits.npz", "--truth", "kind", "--json", "-"]
    done = subprocess.run(
        [sys.executable, "-c", code, *line], cwd=here, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert json.loads(done.stdout)["max_abs"] == 0

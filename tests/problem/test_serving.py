"""A problem on a server: its tests are run before anybody may ask, and what is promised is kept over the wire."""

from __future__ import annotations

import pickle
import signal

import numpy as np
import pytest

import graphpipe
from graphpipe import Case, LoadError, ModelFailed, Problem
from graphpipe.backends.options import LoadOptions
from graphpipe.server.settings.values import ModelSettings
from graphpipe.server.stages.cache.manner import manner
from tests.processes import start
from tests.serving import environment, run_to_end, serving

DOUBLING = Problem.of(
    {"x": "float32[n]"}, {"twice": "float32[n]"}, name="doubling", tests=[Case({"x": [1, 2]}, {"twice": [2, 4]})]
)
MODELS = """\
import numpy as np

def good(x):
    return {"twice": x * 2}

def wrong(x):
    return {"twice": x * 3}

def sometimes(x):
    return {"twice": x.astype(np.float64) if len(x) == 3 else x * 2}

class Tested:
    from graphpipe import Signature, TensorSpec
    signature = Signature((TensorSpec.of("x", "float32[n]"),), (TensorSpec.of("twice", "float32[n]"),))

    def infer(self, inputs, outputs=None, *, config=""):
        return {"twice": inputs["x"] * 2}

    def close(self):
        print("closed", flush=True)

class Ends(Tested):
    def self_test(self):
        raise SystemExit(3)

class Hangs(Tested):
    def self_test(self):
        import time
        print("testing", flush=True)
        time.sleep(1000)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models.py").write_text(MODELS)
    DOUBLING.write(tmp_path / "doubling.toml")
    return tmp_path


def test_a_model_that_fails_its_problems_tests_is_not_served(folder):
    run = run_to_end("--model", "models.py:wrong", "--problem", "doubling.toml", cwd=folder)
    assert (run.returncode, run.stdout) == (1, "")
    assert (
        "model 'wrong' failed its own test: problem 'doubling': test 1: output 'twice' is 6.0 where 4.0 was expected at [1]"
    ) in run.stderr
    assert "Traceback" not in run.stderr


def test_one_that_passes_keeps_its_promise_over_the_wire(folder):
    arguments = ["--model", "models.py:sometimes", "--model", "plain=models.py:sometimes"]
    with (
        serving(*arguments, "--problem", "sometimes=doubling.toml", cwd=folder) as server,
        graphpipe.Client(f"{server.url}/models/sometimes") as client,
        graphpipe.Client(f"{server.url}/models/plain") as plain,
    ):
        assert client.signature == DOUBLING.signature
        assert client.infer({"x": np.ones(2, "f4")})["twice"].tolist() == [2, 2]
        with pytest.raises(graphpipe.InvalidRequest, match="input 'x' is float64, but the model takes float32"):
            client.infer({"x": np.ones(2)})
        with pytest.raises(ModelFailed) as caught:
            client.infer({"x": np.ones(3, "f4")})
        assert caught.value.message == (
            "model 'sometimes' breaks its problem 'doubling': output 'twice' is float64[3], and float32[n] was promised"
        )
        assert plain.infer({"x": np.ones(3, "f4")}, ["twice"])["twice"].dtype == np.float64


def test_a_model_that_does_not_fit_ends_the_start(folder):
    Problem.of({"z": "float32"}, {"twice": "float32"}).write(folder / "other.toml")
    run = run_to_end("--model", "m=models.py:good", "--problem", "other.toml", cwd=folder)
    assert run.returncode == 1
    assert "model 'm' does not fit the problem: the model has no input 'z'; its inputs are 'x'" in run.stderr
    run = run_to_end("--model", "m=models.py:good", "--problem", "gone.toml", cwd=folder)
    assert run.returncode == 1
    assert "gone.toml: No such file or directory" in run.stderr


def test_a_test_may_raise_anything(folder):
    run = run_to_end("--model", "models.py:Ends", cwd=folder)
    assert (run.returncode, run.stdout) == (1, "closed\n")
    assert "model 'Ends' failed its own test: SystemExit: 3" in run.stderr


def test_a_test_that_hangs_keeps_nobody_from_ending_the_server(folder):
    code = "from graphpipe.server.cli import main; main(prog_name='graphpipe-serve')"
    arguments = ["--listen", "127.0.0.1:0", "--model", "models.py:Hangs"]
    with (folder / "log").open("wb") as log:
        process = start(code, arguments, env=environment(), stderr=log, cwd=folder)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"testing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == -signal.SIGTERM


@pytest.mark.slow  # its processes take seconds
def test_workers_run_the_tests_too_and_a_problem_travels_to_them(folder):
    run = run_to_end("--workers", "2", "--model", "models.py:wrong", "--problem", "doubling.toml", cwd=folder)
    assert (run.returncode, run.stdout) == (1, "")
    assert "model 'wrong' failed its own test: problem 'doubling': test 1: output 'twice' is" in run.stderr
    assert pickle.loads(pickle.dumps(DOUBLING)) == DOUBLING


def test_python_serves_a_function_behind_its_problem():
    with graphpipe.serving(lambda x: x * 2, problem=DOUBLING) as server, graphpipe.Client(server.url) as client:
        assert client.infer({"x": [1, 2]})["twice"].tolist() == [2, 4]
    with pytest.raises(LoadError, match="failed its own test: problem 'doubling': test 1"):
        graphpipe.serving(lambda x: x, problem=DOUBLING)


def test_rows_of_one_problem_are_not_remembered_for_another(folder):
    path = folder / "doubling.toml"
    model = graphpipe.load(lambda x: x).model

    def manners(problem):
        return manner(ModelSettings("m", "m.py:f", options=LoadOptions(problem=problem)), model)

    before = manners(str(path))
    assert before == manners(str(path)) != manners("")
    path.write_text(path.read_text().replace("float32", "float64"))
    assert manners(str(path)) != before
    assert manners(DOUBLING) == manners(Problem.from_dict(DOUBLING.to_dict())) != manners(Problem.read(path))


def test_the_settings_in_force_name_the_file(folder):
    run = run_to_end("--model", "models.py:good", "--problem", "doubling.toml", "--print-config", cwd=folder)
    assert run.returncode == 0
    assert 'problem = "doubling.toml"' in run.stdout

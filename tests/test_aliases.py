"""The original's command lines do what they did: each program by its name, with its own flags."""

from __future__ import annotations

import threading
import tomllib

import numpy as np
import pytest

import graphpipe
from tests import onnx_graphs
from tests.serving import ROOT, run_to_end

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def code(function: str) -> str:
    return f"from graphpipe.aliases import {function} as run; run()"


@pytest.fixture
def start(serve):
    """Starts a program by its function; the address goes in as the original took it."""
    return lambda function, *arguments: serve("-l", "127.0.0.1:0", *arguments, code=code(function))


def run(function, *arguments, **variables):
    return run_to_end(*arguments, code=code(function), env=variables)


def test_every_program_of_the_original_is_installed():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, function in (("tf", "tensorflow"), ("onnx", "onnx"), ("echo", "echo"), ("batcher", "batcher")):
        assert scripts[f"graphpipe-{name}"] == f"graphpipe.aliases:{function}"


def test_echo_answers_its_inputs(start):
    assert np.array_equal(graphpipe.remote.execute(start("echo").url, A), A)


def test_onnx_takes_its_flags_with_underscores(start, tmp_path):
    path = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    (tmp_path / "value_inputs.json").write_text('{"a": [1, [-1, 3]], "b": [1, [-1, 3]]}')
    server = start(
        "onnx", f"--model={path}", "--value_inputs", tmp_path / "value_inputs.json", "--disable-cuda",
        "--engine_count", "2", "-d", tmp_path / "cache", "--cache",
    )  # fmt: skip
    assert np.array_equal(graphpipe.remote.execute_multi(server.url, [A, A])[0], A + A)


def test_the_models_name_may_come_from_the_environment(serve, tmp_path):
    path = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    server = serve("-l", "127.0.0.1:0", code=code("onnx"), env={"GP_MODEL": str(path)})
    assert graphpipe.remote.get_input_names(server.url) == ["a", "b"]


def test_tf_takes_names_and_further_flags_of_ours(start, tmp_path):
    # Any backend serves the purpose: what is tried here is the command line.
    path = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    server = start(
        "tensorflow", "-m", path, "-i", "b,a", "-o", "twice", "--threads", "1", "-c", "--cache-dir", tmp_path
    )
    assert graphpipe.remote.get_input_names(server.url) == ["b", "a"]
    assert graphpipe.remote.get_output_names(server.url) == ["twice"]


def test_the_batcher_joins_rows_of_many_callers(start, tmp_path):
    path = onnx_graphs.pair_sum(tmp_path / "sum.onnx")
    upstream = start("onnx", "-m", path)
    proxy = start(
        "batcher", "--target-url", upstream.url, "--batch-size", "4", "--timeout", "100", "-i", "a,b", "-o", "sum",
        "--workers", "1",
    )  # fmt: skip
    answers = {}

    def call(i: int) -> None:
        row = np.full((1, 3), i, np.float32)
        answers[i] = graphpipe.remote.execute_multi(proxy.url, [row, row])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(8):
        [got] = answers[i]
        assert got.tolist() == [[2.0 * i] * 3]


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--init_net", "init.pb", "--predict_net", "predict.pb", "--value_inputs", "v.json"], {}),
        (["--value_inputs=v.json"], {"GP_INIT_NET": "init.pb", "GP_PREDICT_NET": "predict.pb"}),
    ],
)
def test_caffe2_nets_are_refused_with_the_reason_and_the_way_out(arguments, variables):
    done = run("onnx", *arguments, **variables)
    assert done.returncode == 1
    assert done.stderr.startswith("graphpipe-onnx: Caffe2 nets are not served: ")
    assert "convert-caffe2-to-onnx" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_or_a_target_that_is_missing_is_asked_for():
    assert "no model is given" in run("tensorflow").stderr
    assert "--target-url" in run("batcher").stderr


@pytest.mark.parametrize("function", ["tensorflow", "onnx", "echo", "batcher"])
def test_each_says_its_version_and_its_help(function):
    assert (
        graphpipe.__version__ in run(function, "-V", *(["--target-url", "x"] if function == "batcher" else [])).stdout
    )
    assert "graphpipe-serve --help" in run(function, "-h").stdout

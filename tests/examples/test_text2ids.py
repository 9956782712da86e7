"""examples/text2ids: in Python and compiled, one table and one answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphpipe
from graphpipe.backends.python.finding import found
from tests.matx.conftest import matx as matx_fixture
from tests.matx.making import EXAMPLE
from tests.serving import ROOT, environment, serving

matx = matx_fixture
PROBLEM = EXAMPLE / "problem.toml"


@pytest.fixture(scope="module")
def in_python():
    with graphpipe.load(f"{EXAMPLE / 'serve.py'}:text2ids", problem=PROBLEM) as model:
        yield model


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """The pipeline as another process traced it and wrote it down."""
    path = tmp_path_factory.mktemp("traced") / "text2ids.toml"
    done = subprocess.run(
        [sys.executable, EXAMPLE / "traced.py", path],
        cwd="/",
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def of_trace(traced):
    with graphpipe.load(traced, problem=PROBLEM) as model:
        yield model


@pytest.fixture(scope="module")
def compiled(matx):
    with graphpipe.load(matx.module("text2ids"), python=matx.python, problem=PROBLEM) as model:
        yield model


def test_it_answers_its_problem_in_python(in_python):
    graphpipe.Problem.read(PROBLEM).check(in_python)


def test_it_answers_its_problem_traced(of_trace):
    graphpipe.Problem.read(PROBLEM).check(of_trace)


def test_traced_it_is_served(traced):
    with serving("--model", traced) as server, graphpipe.Client(server.url) as client:
        assert client.infer({"text": "hello world unknown"})["ids"].tolist() == [0, 1, 2]


def test_it_answers_its_problem_compiled(compiled):
    graphpipe.Problem.read(PROBLEM).check(compiled)


_WORDS = st.sampled_from(["hello", "world", "[UNK]", "Hello", "wörld", "你好", "👋🏽", "e\u0301", "\u00a0", "\u3000"])
_BETWEEN = st.sampled_from([" ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "  ", "", "\0"])
_TEXTS = st.one_of(
    st.text().map(str.encode),
    st.binary(),
    st.lists(st.tuples(_WORDS, _BETWEEN)).map(lambda pairs: "".join(map("".join, pairs)).encode()),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(_TEXTS)
def test_compiled_it_gives_what_python_gives_for_any_text(in_python, compiled, text):
    answers = [model.infer({"text": text})["ids"] for model in (in_python, compiled)]
    assert answers[0].dtype == answers[1].dtype
    assert answers[0].tolist() == answers[1].tolist()


@settings(max_examples=300)
@given(_TEXTS)
def test_traced_it_gives_what_the_class_gives_for_any_text(in_python, of_trace, text):
    """As a pipeline that was loaded, and as the function that training calls."""
    function = found(f"{EXAMPLE / 'traced.py'}:text2ids")
    answers = [in_python.infer({"text": text})["ids"], of_trace.infer({"text": text})["ids"], function(text)["ids"]]
    assert {str(answer.dtype) for answer in answers} == {"int64"}
    assert answers[0].tolist() == answers[1].tolist() == answers[2].tolist()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readmes_commands_make_it_and_serve_it(matx, tmp_path):
    commands = re.findall(r"<!-- not run: [^\n]* -->\n```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert len(commands) == 2
    bin_folder = os.path.dirname(sys.executable)
    variables = {
        **os.environ, "HOME": str(tmp_path), "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "UV_CACHE_DIR": str(ROOT / ".build" / "bench" / "uv"),
    }  # fmt: skip
    variables.pop("GRAPHPIPE_VENVS", None)
    done = subprocess.run(
        ["sh", "-euc", commands[0]], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [folder] = re.findall(r"--model (\S+)", commands[1])
    with serving("--model", ROOT / folder, env={"HOME": str(tmp_path)}) as server:
        with graphpipe.Client(server.url) as client:
            assert client.infer({"text": "hello world unknown"})["ids"].tolist() == [0, 1, 2]

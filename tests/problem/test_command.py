"""`graphpipe problem`: what its help shows works, and what does not fit is said in a line."""

from __future__ import annotations

import re
import shlex
import shutil

import pytest

from graphpipe.cli import main
from tests.serving import ROOT, serving

DIGITS = ROOT / "examples" / "digits"


@pytest.fixture
def graphpipe(capsys, tmp_path, monkeypatch):
    for name in ("digits.onnx", "digit.npy", "problem.toml"):
        shutil.copy(DIGITS / name, tmp_path)
    (tmp_path / "models.py").write_text(
        "import numpy as np\n"
        "def classify(pixels, label=7):\n"
        "    print('hello')\n"
        "    n = len(pixels)\n"
        "    return {'label': np.full(n, label), 'p': np.ones((n, 10), np.float32)}\n"
        "def wrong(pixels):\n"
        "    return classify(pixels, 3)\n"
    )
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        code = ended.value.code
        return (1, said.out, code) if isinstance(code, str) else (code, said.out, said.err)

    return run


def test_every_example_of_its_help_works_as_it_is_shown(graphpipe):
    status, shown, _ = graphpipe("problem", "--help")
    assert status == 0
    lines = re.findall(r"^  graphpipe (problem .*)$", shown, re.MULTILINE)
    assert len(lines) == 4
    with serving("-m", DIGITS / "digits.onnx") as server:
        for line in lines:
            line = line.replace("http://127.0.0.1:9000", server.url)
            status, out, err = graphpipe(*shlex.split(line))
            assert status == 0, err
            assert out.startswith("digits\nWhich digit is it?\nin  pixels         float32[n, 64]")
            assert out.endswith("fits, and passes 1 test\n" if line.count(" ") > 1 else "tests: 1\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["models.py:wrong"], "output 'probabilities' is missing; it gave 'label', 'p'"),
        (["models.py:wrong", "--name-map", "probabilities=p"], "output 'label' is 3 where 7 was expected at [0]"),
        (["models.py:wrong", "--name-map", "probabilities"], "--name-map 'probabilities': expected NAME=NAME"),
        (["digits.onnx", "--name-map", "label=labl"], "the model has no output 'labl'; did you mean 'label'?"),
        (["gone.onnx"], "gone.onnx"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(graphpipe, arguments, why):
    status, _, err = graphpipe("problem", "problem.toml", *arguments)
    assert status == 1
    assert why in err
    assert "Traceback" not in err


def test_a_file_that_is_no_problem_is_said_in_a_line(graphpipe):
    status, out, err = graphpipe("problem", "gone.toml")
    assert (status, out) == (1, "")
    assert "gone.toml: No such file or directory" in err

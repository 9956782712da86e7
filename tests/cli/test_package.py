"""`graphpipe package`: made, shown, tested, run and told apart, each in a line where it can be."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

PROBLEM = """\
name = "digits"
[inputs]
picture = "float32[n, 64]"
[outputs]
digit = "int64[n]"
"""
NAMES = ("--name-map", "picture=pixels", "--name-map", "digit=label")


@pytest.fixture
def problem(folder):
    (folder / "p.toml").write_text(PROBLEM)
    np.savez(folder / "seven.npz", picture=np.load(folder / "digit.npy"), digit=[7])
    return "p.toml"


@pytest.fixture
def digits(graphpipe, problem, folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    arguments = ("--model", "digits.onnx", "--problem", problem, *NAMES, "--test-data", "seven.npz", "--no-self-test")
    assert graphpipe("package", "create", "digits.zip", *arguments, "--requirements", "onnxruntime>=1")[0] == 0
    return "digits.zip"


def test_a_package_is_made_and_has_passed_its_test(graphpipe, problem):
    arguments = ("--model", "digits.onnx", "--problem", problem, *NAMES, "--test-data", "seven.npz")
    made = graphpipe("package", "create", "digits", *arguments)
    assert made == (0, "digits: loaded, 1 test passed\n", "")


def test_a_package_is_shown_whole(graphpipe, digits):
    status, out, err = graphpipe("package", "inspect", digits)
    assert (status, err) == (0, "")
    for line in (
        "in  picture  float32[n, 64]",
        "platform   onnx",
        "names      picture=pixels, digit=label",
        "tests      1",
    ):
        assert line in out
    assert "needs      onnxruntime>=1\n" in out
    assert "code       none" in out
    assert "model/digits.onnx" in out
    status, out, err = graphpipe("package", "inspect", digits, "--json")
    said = json.loads(out)
    assert said["model"]["source"] == "model/digits.onnx"
    assert len(said["digest"]) == len(said["files"]["model/digits.onnx"]["sha256"]) == 64


def test_a_package_is_run_and_tested(graphpipe, digits):
    for command in (("package", "run"), ("run",)):
        status, out, err = graphpipe(*command, digits, "--input", "digit.npy", "--json")
        assert (status, err) == (0, "")
        assert json.loads(out)["digit"]["data"] == [7]
    status, out, err = graphpipe("package", "test", digits)
    assert (status, err) == (0, "")
    assert out.startswith("digits.zip: loaded, 1 test passed (onnxruntime ")


def test_a_package_that_fails_its_test_is_none(graphpipe, problem, folder):
    np.savez(folder / "eight.npz", picture=np.load(folder / "digit.npy"), digit=[8])
    arguments = ("create", "digits", "--model", "digits.onnx", "--problem", problem, *NAMES, "--test-data", "eight.npz")
    status, out, err = graphpipe("package", *arguments)
    assert (status, out) == (1, "")
    assert "output 'digit' is 7 where 8 was expected" in err
    assert err.count("\n") == 1
    assert not (folder / "digits").exists()
    status, out, err = graphpipe("package", *arguments, "--no-self-test")
    assert (status, out) == (0, "digits: 1 test, none of which was run\n")
    status, out, err = graphpipe("package", "test", "digits")
    assert (status, out) == (1, "")
    assert "7 where 8 was expected" in err
    status, out, err = graphpipe("package", *arguments, "--no-self-test")
    assert status == 1
    assert "digits is there already" in err


def test_what_two_packages_have_different_is_told_and_so_is_what_they_answer(graphpipe, digits, problem, folder):
    (folder / "always.py").write_text("import numpy as np\ndef always(picture):\n    return np.full(len(picture), 1)\n")
    arguments = ("create", "always", "--model", "always.py:always", "--problem", problem, "--no-self-test")
    assert graphpipe("package", *arguments)[0] == 0
    status, out, err = graphpipe("package", "diff", digits, "always")
    assert (status, err) == (1, "")
    for line in (
        "platform: onnx and python", "name_map 'digit': label and none", "number of tests: 1 and 0",
        "file 'code/always.py': only in the second", "requirements: onnxruntime>=1 and none",
    ):  # fmt: skip
        assert f"{line}\n" in out
    assert "output 'digit' is 1 where 7 was expected at [0]" in out
    status, out, err = graphpipe("package", "diff", digits, digits)
    assert (status, err) == (0, "")
    assert out == "the packages hold the same\ntheir answers to all tests are the same\n"
    status, out, err = graphpipe("package", "diff", "always", "always")
    assert (status, out) == (0, "the packages hold the same\nthere is nothing that both could be asked\n")
    assert graphpipe("package", "diff", "always", digits, "--no-answers")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["inspect", "digits.onnx"], "graphpipe.json"),
        (["inspect", "nowhere"], "nowhere"),
        (["inspect", "https://127.0.0.1/p.zip"], "is a URL; download it first"),
        (["test", "digits.onnx"], "graphpipe.json"),
        (["create", "x", "--model", "digits.onnx"], "--problem"),
        (
            ["create", "x", "--model", "digits.onnx", "--problem", "p.toml", "--name-map", "picture"],
            "NAME=MODEL'S NAME",
        ),
        (["create", "x", "--model", "digits.onnx", "--problem", "p.toml", "--test-data", "no.npz"], "no.npz"),
        (["create", "no/x", "--model", "digits.onnx", "--problem", "p.toml"], "no folder"),
        (["created"], "did you mean 'create'"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(graphpipe, problem, folder, arguments, why):
    before = sorted(os.listdir(folder))
    status, out, err = graphpipe("package", *arguments)
    assert status in (1, 2)
    assert out == ""
    assert why in err
    assert "Traceback" not in err
    assert sorted(os.listdir(folder)) == before


def test_help_of_each_command_has_its_own_examples(graphpipe):
    for name in ("create", "inspect", "test", "run", "diff"):
        status, out, err = graphpipe("package", name, "--help")
        assert (status, err) == (0, "")
        assert f"package {name}" in out
    assert "graphpipe package create adder.zip" in graphpipe("package", "--help")[1]


def test_words_of_a_package_are_no_words_to_a_terminal(graphpipe, problem, folder):
    (folder / "p.toml").write_text(PROBLEM.replace('"digits"', r'"\u001b[31mdigits"'))
    arguments = ("create", "x", "--model", "digits.onnx", "--problem", problem, *NAMES, "--no-self-test")
    assert graphpipe("package", *arguments)[0] == 0
    assert "\x1b" not in graphpipe("package", "inspect", "x")[1]

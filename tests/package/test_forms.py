"""What somebody packs comes as he has it; what cannot be packed is said in words that help."""

from __future__ import annotations

import functools
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.package import Package, create
from graphpipe.package.contents import manifest_at
from graphpipe.package.recorded import problem_of
from tests.package.making import ADDITION, TEST
from tests.package.objects import Adder, add

_SPECS = (
    [{"name": "x", "dtype": "float32", "shape": ("n",)}, {"name": "y", "dtype": "float32", "shape": ("n",)}],
    [{"name": "out", "dtype": "float32", "shape": ("n",)}],
)


def made(tmp_path: Path, **more):
    """A package that nothing was asked yet."""
    said = {"model": add, "problem": ADDITION, "code": _FILE, "test_data": TEST, "self_test": False}
    return create(tmp_path / "adder", **said | more)


_FILE = Path(__file__).with_name("objects.py")


@pytest.mark.parametrize("problem", [_SPECS, list(_SPECS), ADDITION.to_dict()], ids=["specs", "list", "table"])
def test_a_problem_comes_as_somebody_has_it(tmp_path, problem):
    assert manifest_at(str(made(tmp_path, problem=problem))).problem.inputs == ADDITION.inputs


def test_a_test_may_be_a_file_of_arrays(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.float32([1]), y=np.float32([2]), out=np.float32([3]))
    for given in (tmp_path / "t.npz", str(tmp_path / "t.npz"), [tmp_path / "t.npz"]):
        package = made(tmp_path, test_data=given, overwrite=True)
        (case,) = problem_of(manifest_at(str(package)), package).tests
        assert case.outputs["out"].tolist() == [3]


def test_no_tests_may_be_said_as_none(tmp_path):
    assert manifest_at(str(made(tmp_path, test_data=None))).tests == ()


def test_one_version_of_a_framework_is_a_range(tmp_path):
    package = made(tmp_path, framework_version="1.26.4")
    assert str(manifest_at(str(package)).framework_range) == "==1.26.4"


def test_one_requirement_is_text_as_on_the_command_line(tmp_path):
    package = made(tmp_path, requirements="numpy>=1.26\nscipy")
    assert manifest_at(str(package)).requirements == ("numpy>=1.26", "scipy")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"platform": "torch"}, "platform: a function is Python's.*'torch' came"),
        ({"platform": "pytorch"}, "'pytorch' came"),
        ({"name_map": ["x=y"]}, "name_map is a table from the problem's names.*a list came"),
        ({"name_map": {"x": 3}}, "name_map is from names to names.*3 came for 'x'"),
        ({"problem": None}, "INPUT_SPEC, OUTPUT_SPEC.*None came"),
        ({"problem": {"inputs": {}}}, "a problem has outputs"),
        ({"test_data": {"x": [1], "y": [2], "out": [3]}}, "values by name came; a test is"),
        ({"test_data": 3}, "test_data: expected .*3 came"),
        ({"test_data": ["no.npz"]}, "there is no file 'no.npz'"),
        ({"model": Adder().add}, "add is a method of one Adder, .*give a class"),
        ({"model": Adder()}, "it is one Adder, .*give a class"),
        ({"model": functools.partial(add)}, "it is one partial, .*give a class"),
        ({"model": lambda x, y: x + y}, "at the top of a file"),
    ],
)
def test_what_nobody_could_load_again_is_said_in_words_and_leaves_nothing(tmp_path, more, why):
    with pytest.raises(graphpipe.GraphPipeError, match=why):
        made(tmp_path, **more)
    assert list(tmp_path.iterdir()) == []


def test_where_an_environment_is_needed_the_command_that_makes_it_has_all_requirements(tmp_path):
    package = made(tmp_path, framework_version="<0.1", requirements=["scipy>=1; python_version>'3'"])
    with pytest.raises(graphpipe.LoadError) as said:
        graphpipe.load(package)
    command = str(said.value).partition("graphpipe venv create NAME ")[2]
    assert shlex.split(command) == ["--requirements", "numpy<0.1", "--requirements", "scipy>=1; python_version>'3'"]


def test_a_folder_that_cannot_be_written_to_is_said_in_words():
    with pytest.raises(graphpipe.LoadError, match=r"/proc/adder\.zip cannot be written: "):
        create("/proc/adder.zip", model=add, problem=ADDITION, code=_FILE)


def test_of_several_that_make_one_zip_at_once_one_does(tmp_path):
    def make(_):
        try:
            return create(tmp_path / "a.zip", model=add, problem=ADDITION, code=_FILE, self_test=False)
        except graphpipe.LoadError as error:
            assert "is there already" in str(error) or "meanwhile" in str(error)

    with ThreadPoolExecutor(8) as threads:
        made = [each for each in threads.map(make, range(32)) if each is not None]
    assert made == [tmp_path / "a.zip"]
    assert list(tmp_path.iterdir()) == made
    Package.at(str(made[0]))

"""Python files as sources: each with its own neighbours, run once, in nobody's way."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import graphpipe
from graphpipe.errors import LoadError
from tests.serving import environment

X = np.zeros(1)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def ask(source: object, function: str = "f") -> object:
    with graphpipe.load(f"{source}:{function}") as model:
        return model.infer({"x": X})["output_0"].tolist()


CODE = """
import pickle
from dataclasses import dataclass
import numpy as np
from projects_helper import K

@dataclass
class State:
    kind: str = "{0}"

def f(x):
    return np.array([pickle.loads(pickle.dumps(State())).kind])

def by_import(x):
    import projects_model
    return np.array([projects_model.State().kind])

def by_neighbour(x):
    import projects_helper
    from projects_package.inner import NAME
    from projects_space.inner import NAME as SPACE
    return np.array([K, projects_helper.K, NAME, SPACE])
"""


def test_two_projects_whose_files_have_the_same_names_keep_to_themselves(tmp_path):
    for kind in "ab":
        folder = tmp_path / kind
        write(folder / "projects_model.py", CODE.format(kind))
        write(folder / "projects_helper.py", "from projects_other import K")
        write(folder / "projects_other.py", f"K = 'other of {kind}'")
        write(folder / "projects_package" / "__init__.py", "")
        write(folder / "projects_package" / "inner.py", "import projects_other\nNAME = 'package: ' + projects_other.K")
        write(folder / "projects_space" / "inner.py", "import projects_other\nNAME = 'space: ' + projects_other.K")
    for kind in "abab":
        source = tmp_path / kind / "projects_model.py"
        assert ask(source) == [kind]
        assert ask(source, "by_import") == [kind]
        own = f"other of {kind}"
        assert ask(source, "by_neighbour") == [own, own, f"package: {own}", f"space: {own}"]


def test_a_file_is_run_once_in_a_process_however_it_is_called(tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    path = write(
        tmp_path / "projects_once.py",
        f"with open({str(runs)!r}, 'a') as runs: runs.write('run ')\nimport pickle, numpy as np\nclass S: k = 1\n"
        "def f(x): return np.array([pickle.loads(pickle.dumps(S())).k])\ndef g(x): return f(x)\n",
    )
    (tmp_path / "link.py").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for source in (path, "projects_once.py", "./projects_once.py", "link.py"):
        assert ask(source) == ask(source, "g") == [1]
    assert runs.read_text() == "run "


def test_a_file_that_changed_is_run_again_and_so_is_one_whose_neighbour_did(tmp_path):
    path = write(tmp_path / "projects_changed.py", "import numpy as np\ndef f(x): return np.array([1])")
    assert ask(path) == [1]
    write(path, "import numpy as np\nimport projects_near\ndef f(x): return np.array([projects_near.K])")
    write(tmp_path / "projects_near.py", "K = 2")
    assert ask(path) == [2]
    write(tmp_path / "projects_near.py", "K = 3 ")
    assert ask(path) == [3]
    write(path, "def f(x: return")
    with pytest.raises(LoadError, match=r"projects_changed\.py, line 1: SyntaxError: "):
        ask(path)
    write(path, "import numpy as np\ndef f(x): return np.array([4])")
    assert ask(path) == [4]


@pytest.mark.parametrize("name", ["json", "random", "types", "numpy", "torch", "graphpipe"])
def test_a_file_called_like_a_module_of_others_shadows_it_for_nobody(tmp_path, name):
    path = write(tmp_path / f"{name}.py", "import json\ndef f(x): return [json.loads('1'), len(__name__) > 0]")
    before = sys.modules.get(name)
    assert ask(path) == [1, 1]
    assert sys.modules.get(name) is before
    assert (json.dumps(1), random.choice([1]), types.ModuleType.__name__) == ("1", 1, "module")


@pytest.mark.parametrize("name", ["my-model.py", "my model.py", "v1.2.py", "__main__.py", "class.py"])
def test_a_file_may_be_called_what_no_module_can_be_called(tmp_path, name):
    path = write(
        tmp_path / name,
        "import pickle\nclass S: k = 5\ndef f(x): return [pickle.loads(pickle.dumps(S())).k]\n"
        "if __name__ == '__main__': raise SystemExit('run')",
    )
    assert ask(path) == [5]


def test_a_file_in_a_package_has_its_relative_imports_and_its_neighbours(tmp_path):
    for kind in "ab":
        package = tmp_path / kind / "projects_pkg"
        write(package / "__init__.py", f"NAME = '{kind}'")
        write(package / "sub" / "__init__.py", "")
        write(package / "sub" / "near.py", "from projects_pkg import NAME")
        write(
            package / "sub" / "serve.py",
            "from .near import NAME\nfrom .. import NAME as ABOVE\n"
            "import projects_pkg.sub.near as long\ndef f(x): return [NAME, ABOVE, long.NAME]",
        )
    for kind in "ab":
        assert ask(tmp_path / kind / "projects_pkg" / "sub" / "serve.py") == [kind] * 3


def test_pickles_of_a_neighbours_classes_are_read_wherever_the_reader_is(tmp_path):
    write(tmp_path / "projects_scaler.py", "class Scaler:\n    by = 3\n")
    code = "import pickle, projects_scaler; pickle.dump(projects_scaler.Scaler(), open('s.pkl', 'wb'))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment())
    path = write(
        tmp_path / "projects_reader.py",
        "import pickle, pathlib\nS = pickle.loads((pathlib.Path(__file__).parent / 's.pkl').read_bytes())\n"
        "def f(x): return [S.by]",
    )
    assert ask(path) == [3]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\nraise SystemExit(3)", r"bad\.py, line 2: SystemExit: 3$"),
        ("\nx = 1 / 0", r"bad\.py, line 2: ZeroDivisionError: division by zero$"),
        ("def f(:", r"bad\.py, line 1: SyntaxError: "),
        (
            "import numpy\nimport no_such_thing",
            r"bad\.py, line 2: ModuleNotFoundError: No module named 'no_such_thing'$",
        ),
        ("from . import near", r"bad\.py, line 1: ImportError: attempted relative import"),
    ],
)
def test_a_file_that_cannot_be_run_is_one_line_that_says_where(tmp_path, code, words):
    path = write(tmp_path / "bad.py", code)
    with pytest.raises(LoadError, match=words) as caught:
        ask(path)
    assert "\n" not in str(caught.value)


def test_a_module_is_looked_for_in_the_current_folder(tmp_path):
    write(tmp_path / "here" / "projects_here.py", "def f(x): return [7]")
    script = write(
        tmp_path / "elsewhere" / "script.py",
        "import graphpipe\nprint(graphpipe.load('projects_here:f').infer({'x': [0.0]})['output_0'].tolist())",
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path / "here", env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout == "[7]\n", done.stderr


def test_the_neighbour_is_meant_not_a_file_of_the_current_folder(tmp_path, monkeypatch):
    write(tmp_path / "projects_both.py", "K = 'current folder'")
    write(tmp_path / "project" / "projects_both.py", "K = 'neighbour'")
    write(tmp_path / "project" / "serve.py", "import projects_both\ndef f(x): return [projects_both.K]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(os.getcwd())
    assert ask("project/serve.py") == ["neighbour"]

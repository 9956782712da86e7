"""What an isolated model runs on is read by Python 3.9 too, by 3.10, and by ours, with numpy 1 and 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.venvs.interpreters import NUMPY_1, ROOT, environment, interpreter

SUBSET = Path(__file__).with_name("subset.py")
# Newer ones have no wheel of that numpy.
WITH_NUMPY_1 = ["3.9", "3.10", "3.11", "3.12"]
OLDEST_NUMPY = "numpy==1.24.4"


def asked(python: str, folder: Path = ROOT / "graphpipe") -> dict[str, Any]:
    done = subprocess.run(
        [python, "-I", "-W", "error::SyntaxWarning", str(SUBSET), str(folder), ",".join(sys.stdlib_module_names)],
        capture_output=True, text=True, timeout=100, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("version", ["3.9", "3.10"])
def test_all_that_a_model_runs_on_is_read_by_an_older_python_and_names_nothing_that_it_lacks(version):
    assert asked(interpreter(version))["lacking"] == []


def test_it_is_used_with_our_own_python_by_path_alone():
    assert asked(sys.executable) == {"lacking": [], "used": True}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", WITH_NUMPY_1)
def test_it_is_used_with_numpy_1_in_an_environment_made_for_it(version):
    python = environment(f"numpy1-{version}", version, NUMPY_1, make=True)
    assert asked(python) == {"lacking": [], "used": True}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_used_with_the_oldest_numpy_that_is_taken():
    assert asked(environment("numpy1-oldest", "3.9", OLDEST_NUMPY, make=True)) == {"lacking": [], "used": True}


def test_what_the_standard_library_lacks_is_noticed(tmp_path):
    for name in ("backends/isolated/older.py", "words.py"):
        (tmp_path / "graphpipe" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "graphpipe" / name, tmp_path / "graphpipe" / name)
    with (tmp_path / "graphpipe" / "words.py").open("a") as file:
        file.write(
            "\n\ndef newer():\n    import tomllib\n\n    return tomllib.loads, sys.exception()\n\n\nimport sys\n"
        )
    lacking = asked(interpreter("3.9"), tmp_path / "graphpipe")["lacking"]
    assert [each.partition(": ")[2] for each in lacking] == ["tomllib", "tomllib.loads", "sys.exception"]


def test_other_modules_keep_the_python_that_they_are_on(tmp_path):
    """Nothing is put into the standard library, and nobody else's source is changed."""
    (tmp_path / "theirs.py").write_text("kinds = 'int | str'\n\ndef strict():\n    return zip([1], [2], strict=True)\n")
    said = subprocess.run(
        [interpreter("3.9"), "-c", f"""
import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT / "graphpipe/backends/isolated")!r}]
import older; older.install({str(ROOT / "graphpipe")!r})
import graphpipe.errors, graphpipe.words, graphpipe.kinds, typing, hashlib, builtins, theirs
print([hasattr(*each) for each in ((typing, "Unpack"), (hashlib, "file_digest"), (builtins, "BaseExceptionGroup"))])
try:
    theirs.strict()
except TypeError as error:
    print(error)
"""],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert said.stdout.splitlines() == ["[False, False, False]", "zip() takes no keyword arguments"]

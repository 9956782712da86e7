"""How an environment is made, and taken away.

By uv where it is, which takes seconds; else by the interpreter's own venv and pip. Nothing of ours goes into it: a model's
process reads our files where they are. It needs numpy, which is asked for beside what is required.

It is made where it will be, since programs in an environment know their place. Whoever makes it or takes it away holds a
lock; what somebody left half made, without a record, is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic

from graphpipe.errors import LoadError
from graphpipe.venvs.environment import RECORD, Environment, environment_at, folder_of, named, root_folder
from graphpipe.venvs.program import run_program
from graphpipe.venvs.requirement import Requirement, Version
from graphpipe.words import visible

__all__ = ["MAKING_S_MAX", "create", "remove"]

MAKING_S_MAX = 3600.0
_SAID_BYTES_MAX = 64 << 20
_NEEDED = "numpy>=1.24"
_OLDEST = "3.9"

Say = Callable[[str], None]


def create(
    name: str,
    requirements: Sequence[str] = (),
    files: Sequence[str | os.PathLike[str]] = (),
    *,
    python: str = "",
    index_url: str = "",
    say: Say = lambda line: None,
    limit_s: float = MAKING_S_MAX,
) -> Environment:
    """Make the environment ``name`` with what is required, in words as pip takes them and in files of such words.

    ``python`` is a version, ``3.10`` say, or a path; ours unless it is said. ``say`` is told each line that the installer
    says.

    Raises ValueError for a name or a requirement that is none, and LoadError with the installer's last lines where it
    cannot be made, or not within ``limit_s``; then there is nothing of it.
    """
    folder = folder_of(name)
    for each in requirements:
        if not each.strip() or each.strip().startswith("-") or "\n" in each:
            raise ValueError(f"{visible(each[:200])!r} is no requirement; options belong into a file of requirements")
    for file in files:
        if not os.path.isfile(file):
            raise ValueError(f"there is no file of requirements {visible(str(file))}")
    with _held(name):
        if named(name) is not None:
            raise ValueError(f"there is an environment {name} already; graphpipe venv remove {name} takes it away")
        _clear(folder)
        try:
            _Installer(folder, say, limit_s).make(python, requirements, files, index_url)
            made = environment_at(str(folder / "bin" / "python"), name)
            _check(made)
            _record(folder, made)
        except BaseException:
            _clear(folder)
            raise
    return made


def remove(name: str) -> None:
    """Take the environment away, half made or whole. Raises ValueError if there is none."""
    folder = folder_of(name)
    if not os.path.lexists(folder):
        raise ValueError(f"there is no environment {name}")
    with _held(name):
        _clear(folder)


def _check(made: Environment) -> None:
    for package in ("python", "numpy"):
        wanted = Requirement.of(_NEEDED if package == "numpy" else f"python>={_OLDEST}")
        if not made.satisfies(wanted):
            raise LoadError(f"a model's process needs {wanted}; this has {made.version_of(package) or 'none'}")


def _record(folder: Path, made: Environment) -> None:
    """Write down what there is. What was asked for may name a registry's password, and is not kept."""
    half = folder / f"{RECORD}.half"
    said = {"schema": 1, "python": made.version, "packages": made.packages}
    half.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    os.replace(half, folder / RECORD)


def _clear(folder: Path) -> None:
    """Take a folder away: its record first, so that nobody takes what is left for an environment."""
    if folder.is_symlink():
        folder.unlink()
        return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        (folder / RECORD).unlink()
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


@contextlib.contextmanager
def _held(name: str) -> Iterator[None]:
    """Hold the name. Raises ValueError while somebody else does."""
    root = root_folder()
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{name}.lock").open("w") as file:  # stays: to remove a lock's file breaks the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"the environment {name} is being made, or taken away, by somebody else") from None
        yield


class _Installer:
    """Runs the programs that make an environment, within one limit of time."""

    def __init__(self, folder: Path, say: Say, limit_s: float) -> None:
        self._folder = folder
        self._say = say
        self._limit_s = limit_s
        self._until = monotonic() + limit_s

    def make(
        self, python: str, requirements: Sequence[str], files: Sequence[str | os.PathLike[str]], index: str
    ) -> None:
        """Raises LoadError, with what was said last."""
        uv = _uv()
        base = _path_of(python) if python else _base_python()
        target = str(self._folder / "bin" / "python")
        wanted = [_NEEDED, *requirements, *(text for file in files for text in ("-r", os.fspath(file)))]
        options = ["--index-url", index] if index else []
        if uv is not None:
            self._run([uv, "venv", "--quiet", "--no-project", "--python", base or python, str(self._folder)])
            self._run([uv, "pip", "install", "--python", target, *options, *wanted])
        elif base is None:
            raise LoadError(f"there is no Python {visible(python)} beside ours or on PATH; --python takes a path too")
        else:
            self._run([base, "-I", "-m", "venv", str(self._folder)])
            self._run([target, "-I", "-m", "pip", "install", "--disable-pip-version-check", *options, *wanted])

    def _run(self, command: Sequence[str]) -> None:
        ended = run_program(command, self._until - monotonic(), _SAID_BYTES_MAX, self._say)
        if ended.is_late:
            raise LoadError(f"it was not installed within {self._limit_s:g} s")
        if ended.status:
            raise LoadError("it cannot be installed:\n" + "\n".join(ended.last))


def _uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")


def _base_python() -> str:
    """The interpreter that ours was made from."""
    return getattr(sys, "_base_executable", "") or sys.executable


def _path_of(python: str) -> str | None:
    """An interpreter by its path, or by its version: beside ours, as pyenv keeps them, or on PATH. None if there is none,
    and uv may know another.
    """
    if os.sep in python:
        return os.path.abspath(os.path.expanduser(python))
    try:
        release = Version.of(python).release[:2]
    except ValueError:
        return shutil.which(python)
    program = "python" + ".".join(map(str, release))
    beside = [path for path in Path(sys.base_prefix).parent.glob(f"{python}*/bin/{program}") if _matches(path, python)]
    newest = max(beside, key=lambda path: Version.of(path.parent.parent.name).public, default=None)
    return str(newest) if newest is not None else shutil.which(program if python.count(".") < 2 else f"python{python}")


def _matches(path: Path, python: str) -> bool:
    """Whether a folder's name is such a version: 3.1 is not 3.10."""
    try:
        return Requirement("python", (("==", python, True),)).allows(path.parent.parent.name)
    except ValueError:
        return False

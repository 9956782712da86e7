"""A Python that a model may run under: its interpreter, its version, and what is installed with it.

Those that have a name were made by ``graphpipe venv create``. They lie below one folder, ``~/.graphpipe/venvs`` or what
GRAPHPIPE_VENVS says. An environment counts from the moment that its record is there, which is written last.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphpipe.errors import LoadError
from graphpipe.venvs.program import run_program
from graphpipe.venvs.requirement import Requirement, Version
from graphpipe.words import first_line, visible

__all__ = [
    "RECORD",
    "Environment",
    "environment_at",
    "environment_for",
    "environments",
    "folder_of",
    "here",
    "interpreter",
    "named",
    "root_folder",
]

RECORD = "graphpipe-venv.json"
_RECORD_BYTES_MAX = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ANSWER_S_MAX = 60.0
_ANSWER_BYTES_MAX = 1 << 20

# A framework has other names where it is built for other machines.
_BUILDS = {
    "tensorflow": ("tensorflow-cpu", "tensorflow-gpu", "tensorflow-intel", "tensorflow-macos", "tf-nightly"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
}
_FRAMEWORKS = ("tensorflow", "keras", "torch", "onnxruntime", "jax", "scikit-learn", "xgboost", "numpy")

# Asked of another interpreter, on Python 3.9 and newer. Without the user's own packages, which a child has not either.
_ASK = """\
import importlib.metadata, json, sys
found = {}
for each in importlib.metadata.distributions():
    name = each.metadata["Name"]
    if name:
        found.setdefault(name, each.version)
print(json.dumps({"python": ".".join(map(str, sys.version_info[:3])), "packages": found}))
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """``python`` is the path of the interpreter, ``version`` its own; ``packages`` are names, as PyPI compares them, with
    their versions. ``name`` is empty for one that was not made here.
    """

    python: str
    version: str
    packages: dict[str, str] = field(default_factory=dict)
    name: str = ""

    def version_of(self, package: str) -> str:
        """The version of a package or of a build of it; empty if there is none. ``python`` is the interpreter."""
        if package == "python":
            return self.version
        for each in (package, *_BUILDS.get(package, ())):
            if each in self.packages:
                return self.packages[each]
        return ""

    def satisfies(self, requirement: Requirement) -> bool:
        """Whether it has what is required."""
        version = self.version_of(requirement.name)
        return bool(version) and requirement.allows(version)

    @property
    def frameworks(self) -> dict[str, str]:
        """The frameworks that it has, with their versions."""
        return {each: version for each in _FRAMEWORKS if (version := self.version_of(each))}


# --- which there are --------------------------------------------------------------------------------------------------


def root_folder() -> Path:
    """Where they all lie. Raises ValueError where there is no home folder."""
    home = os.environ.get("GRAPHPIPE_VENVS") or "~/.graphpipe/venvs"
    try:
        return Path(home).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"there is no home folder for {home}; GRAPHPIPE_VENVS says where environments lie") from None


def folder_of(name: str) -> Path:
    """Where the one of this name lies, or would. Raises ValueError for what cannot be a name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{visible(name[:100])!r} is no name; expected up to 64 letters, digits and . _ -")
    return root_folder() / name


def environments() -> Iterator[Environment]:
    """All that have been made, by name. One whose record cannot be read is left out."""
    try:
        names = sorted(os.listdir(root_folder()))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if _NAME.fullmatch(name) and (found := named(name)) is not None:
            yield found


def named(name: str) -> Environment | None:
    """The environment of this name, if it has been made whole."""
    folder = folder_of(name)
    try:
        with (folder / RECORD).open("rb") as file:
            said = json.loads(file.read(_RECORD_BYTES_MAX))
        return _read(said, str(folder / "bin" / "python"), name)
    except (OSError, ValueError):
        return None


def here() -> Environment:
    """Our own interpreter, and what is installed with it."""
    from importlib import metadata  # slow to import, and rarely needed

    found: dict[str, str] = {}
    for each in metadata.distributions():
        if name := each.metadata["Name"]:
            found.setdefault(_normal(name), each.version)
    return Environment(sys.executable, ".".join(map(str, sys.version_info[:3])), found)


def environment_at(python: str, name: str = "") -> Environment:
    """What an interpreter says of itself. Raises LoadError for one that does not run, or is none."""
    ended = run_program([python, "-I", "-c", _ASK], _ANSWER_S_MAX, _ANSWER_BYTES_MAX)
    if ended.is_late:
        raise LoadError(f"{python} said nothing of itself in {_ANSWER_S_MAX:g} s")
    last = ended.last[-1] if ended.last else f"status {ended.status}"  # warnings may come first
    if ended.status:
        raise LoadError(f"{python} is no Python that runs: {last[:300]}")
    try:
        return _read(json.loads(last), python, name)
    except ValueError as error:
        raise LoadError(f"{python} does not answer as a Python does: {first_line(error)}") from None


def _read(said: Any, python: str, name: str) -> Environment:
    """Raises ValueError for what nobody has written here."""
    version, packages = (said.get(key) for key in ("python", "packages")) if isinstance(said, dict) else (None, None)
    if not isinstance(version, str) or not isinstance(packages, dict):
        raise ValueError("it does not say which Python it is and what it has")
    if not all(isinstance(text, str) for pair in packages.items() for text in pair):
        raise ValueError("a package without a version")
    return Environment(python, version, {_normal(each): text for each, text in packages.items()}, name)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- which will do ----------------------------------------------------------------------------------------------------


def environment_for(*requirements: str) -> Environment | None:
    """The environment that has all that is required, ``tensorflow>=2.15,<2.16`` say, or ``python<3.11``: this one if it
    has, else the one with the newest version of the first, and then the newest Python; None if none has it.

    Raises ValueError for what is no requirement.
    """
    wanted = [Requirement.of(each) for each in requirements]
    ours = here()
    if all(map(ours.satisfies, wanted)):
        return ours
    found = [each for each in environments() if all(map(each.satisfies, wanted))]
    return max(found, key=lambda each: (_order(each.version_of(wanted[0].name)), _order(each.version)), default=None)


def _order(version: str) -> Any:
    try:
        return 1, Version.of(version).order
    except ValueError:
        return 0, ()


def interpreter(said: str, model: str) -> str:
    """The path of the interpreter that ``said`` stands for, to run ``model``: a path to one, the folder of an environment,
    or the name of one.

    A link is not followed: by its place an interpreter knows its environment. Whether it runs is seen when it is run.
    Raises LoadError if there is none.
    """
    what = f"{model}: --python {visible(said)}"
    if os.sep in said or said.startswith("~"):
        path = os.path.abspath(os.path.expanduser(said))
        if os.path.isdir(path):
            path = os.path.join(path, "bin", "python")
        if not os.path.isfile(path) or not os.access(path, os.X_OK):
            raise LoadError(f"{what}: there is no interpreter {visible(path)} that may be run")
        return path
    try:
        found = named(said)
    except ValueError as error:
        raise LoadError(f"{what}: {error}") from None
    if found is None:
        names = ", ".join(each.name for each in environments())
        raise LoadError(
            f"{what}: there is no environment of this name; "
            + (f"there are {names}; " if names else "")
            + "`graphpipe venv create` makes one, and a path to an interpreter has a / in it"
        )
    return found.python

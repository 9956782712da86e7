"""Which interpreter runs a model's process, and what it is told of where modules are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from graphpipe.errors import LoadError
from graphpipe.venvs import environment

__all__ = ["OURS_ALONE", "PROGRAM", "command_of", "environment_of", "interpreter", "path_for", "working_folder"]

PROGRAM = str(Path(__file__).with_name("child.py"))

# They speak to this interpreter of its own files.
OURS_ALONE = ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")


def interpreter(python: str, name: str) -> str:
    """The interpreter that is meant: this one for "", a file, the one in an environment's folder, or the one of an
    environment of that name. Raises LoadError.
    """
    if not python:
        if not sys.executable:
            raise LoadError(f"{name}: this program does not know its interpreter; say it: --python PATH")
        return sys.executable
    return environment.interpreter(python, name)


def command_of(chosen: str) -> Callable[[int], Sequence[str]]:
    """The command line of a process whose socket has a certain number."""
    return lambda fd: [chosen, "-u", PROGRAM, str(fd), str(os.getpid())]


def path_for(chosen: str) -> tuple[list[str], bool]:
    """Where the child looks for modules, and whether that is all: under another interpreter only what is the user's, and
    behind all that it has itself.
    """
    try:
        here = [os.path.abspath(each) for each in sys.path]
    except FileNotFoundError:  # the working folder is gone, and with it what is relative to it
        here = [each for each in sys.path if os.path.isabs(each)]
    if chosen == sys.executable:
        return here, True
    installed = tuple(
        f"{os.path.abspath(folder)}{os.sep}" for folder in {sys.prefix, sys.base_prefix, sys.exec_prefix} if folder
    )
    return [
        each
        for each in here
        if not f"{each}{os.sep}".startswith(installed)
        and not {"site-packages", "dist-packages"} & set(Path(each).parts)
    ], False


def working_folder() -> str:
    """Where relative paths begin; "" if it is gone."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def environment_of(chosen: str, more: Mapping[str, str]) -> dict[str, str]:
    """The variables of the child."""
    variables = {**os.environ, **more}
    if chosen != sys.executable:
        for name in OURS_ALONE:
            variables.pop(name, None)
    return variables

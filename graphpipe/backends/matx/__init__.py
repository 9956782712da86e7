"""Modules of MATXScript: a folder with ``model.spec.json``, as ``module.save()`` writes it (docs/matxscript.md).

MATXScript wants a numpy older than ours, so such a model nearly always runs in a process of its own, in an environment
that has it: the one that ``--python`` names, or whichever was made with it. Where it is installed here it runs here.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import sys
import tempfile
import weakref
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from graphpipe.backends.backend import Backend
from graphpipe.backends.folder import folder_name
from graphpipe.backends.model import Model
from graphpipe.backends.options import LoadOptions
from graphpipe.errors import LoadError
from graphpipe.problem import Problem
from graphpipe.venvs.environment import environment_at, environment_for, interpreter
from graphpipe.venvs.requirement import Requirement

__all__ = ["BACKEND"]

log = logging.getLogger("graphpipe.backends")

SPEC = "model.spec.json"
_LIBRARY = "matxscript"
_NEWEST_PYTHON = (3, 12)


def _matches(source: str) -> bool:
    path = Path(source)
    try:
        return (path.name == SPEC and path.is_file()) or (path / SPEC).is_file()
    except (OSError, ValueError):  # a name that is too long, a NUL
        return False


def _open(source: str, options: LoadOptions) -> Model:
    path = Path(source)
    folder = path.parent if path.name == SPEC and path.is_file() else path
    if not (folder / SPEC).is_file():
        raise LoadError(f"{source}: expected a folder that holds {SPEC}, as module.save() writes it")
    said = options.problem
    problem = (Problem.read(said) if isinstance(said, str) else said) if said else None
    # What is in a container's image is not known here.
    python = options.python if options.isolate_container else _python(source, options.python)
    if python or options.is_isolated:
        return _isolated(folder, replace(options, python=python, problem="", pad=()), problem)
    opened: Model = importlib.import_module("graphpipe.backends.matx.module").open_folder(folder, options, problem)
    return opened


def _isolated(folder: Path, options: LoadOptions, problem: Problem | None) -> Model:
    """The model in processes of its own. A problem goes along, as a file: a module does not name its outputs."""
    isolated = importlib.import_module("graphpipe.backends.isolated.model")
    with ExitStack() as undo:
        if problem is not None:
            place = tempfile.mkdtemp(prefix="graphpipe-problem-")
            undo.callback(shutil.rmtree, place, ignore_errors=True)
            file = Path(place, "problem.json")
            replace(problem, tests=()).write(file)
            options = replace(options, problem=str(file))
        model: Model = isolated.IsolatedModel(str(folder), options, "matx", folder_name(folder))
        # It is read again by each process that is started anew.
        weakref.finalize(model, undo.pop_all().close)
    return model


def _python(source: str, said: str) -> str:
    """The interpreter that has MATXScript: empty for this one, else what was ``said``, or the best of the environments that
    were made. Raises LoadError if none has it.
    """
    if said:
        if not environment_at(interpreter(said, source)).satisfies(Requirement.of(_LIBRARY)):
            raise LoadError(f"{source} needs {_LIBRARY}, and --python {said} has none; {_how_to_make()}")
        return said
    found = environment_for(_LIBRARY)
    if found is None:
        raise LoadError(
            f"{source} needs {_LIBRARY}, which wants an older numpy than this process and so an environment of its own, and "
            f"there is none yet; {_how_to_make()}"
        )
    if found.python == sys.executable:
        return ""
    log.info("%s runs in %s, a process with %s %s", source, found.name, _LIBRARY, found.version_of(_LIBRARY))
    return found.python


def _how_to_make() -> str:
    python = f" --python {'.'.join(map(str, _NEWEST_PYTHON))}" if sys.version_info[:2] > _NEWEST_PYTHON else ""
    return f"this makes one: graphpipe venv create matx{python} --requirements {_LIBRARY}"


def _fetched(source: str, options: LoadOptions) -> None:
    """Raise LoadError where compiled code came from a URL, and nobody said that it may run."""
    if not options.trust_model and not options.model_sha256:
        raise LoadError(
            f"{Path(source).name}: a module of MATXScript is compiled code, and this one came from a URL; it can do all "
            "that its process can: say which one you mean, --model-sha256 HEX, or that its maker is trusted, --trust-model"
        )


def _uses(source: str) -> Collection[str]:
    return ("custom_ops", "device", "inputs", "outputs", "trust_model")


BACKEND = Backend("matx", _matches, _open, uses=_uses, fetched=_fetched, isolates=True)

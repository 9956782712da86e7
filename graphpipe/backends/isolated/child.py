"""The program of an isolated model's process.

    PYTHON -u .../graphpipe/backends/isolated/child.py FD PARENT

FD is the number of an inherited socket, PARENT the number of the process that starts this one: when it ends, so does
this one, at once. The interpreter may be any: this file makes ``graphpipe`` known by its folder alone, so that nothing
of ours has to be installed where it runs, and nothing that is installed for us gets in the way of what is installed
there.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _end_with(parent: int) -> None:
    """Have the kernel end this process when the thread that started it is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it went before it was asked for
        os._exit(1)


def _know_our_package() -> None:
    """Make the package that this file is in importable, and nothing beside it."""
    here = os.path.dirname(os.path.abspath(__file__))
    # Python puts a program's folder first, where any of our files could be taken for somebody's module.
    sys.path[:] = [each for each in sys.path if os.path.abspath(each or os.curdir) != here]
    spec = importlib.util.spec_from_file_location("graphpipe_on_older_pythons", os.path.join(here, "older.py"))
    assert spec is not None
    assert spec.loader is not None
    older = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(older)
    older.install(os.path.dirname(os.path.dirname(here)))


def _need_numpy() -> None:
    """End with words for whoever chose this interpreter if it has no numpy."""
    if importlib.util.find_spec("numpy") is None:
        sys.exit(
            "%s has no numpy, which the process of a model needs: %s -m pip install numpy; an environment that `graphpipe "
            "venv create` makes has it" % (sys.executable, sys.executable)
        )


def main(arguments: list[str]) -> None:
    """Serve one model until told to end."""
    fd, parent = map(int, arguments)
    _end_with(parent)
    _know_our_package()
    _need_numpy()
    from graphpipe.backends.isolated.inside import serve

    serve(fd)


if __name__ == "__main__":
    main(sys.argv[1:])

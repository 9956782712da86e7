"""The program of an isolated model's process.

    PYTHON -u .../graphpipe/backends/isolated/child.py FD PARENT

FD is the number of an inherited socket, PARENT the number of the process that starts this one: when it ends, so does
this one, at once. In a container, where nobody knows that process, PARENT is 0, and the end of the socket says so.

The interpreter may be any: this file makes ``graphpipe`` known by its folder alone, so that nothing of ours has to be
installed where it runs, and nothing that is installed for us gets in the way of what is installed there.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import select
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
# What a shell adds to the number of the signal that ended a program.
_BY_SIGNAL = 128


def _end_with(parent: int) -> None:
    """Have the kernel end this process when the thread that started it is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it went before it was asked for
        os._exit(1)


def _stand_before(fd: int) -> None:
    """Split in two: the one who returns is to serve, the other stays as the container's first process, with which all that
    is in there ends.

    It goes when the other one ends, with the same status; and when the other side of the socket is closed, whatever holds
    the interpreter of the one that serves. No signal from inside reaches it, and it may not be traced.
    """
    serving = os.fork()
    if not serving:
        os.setsid()
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    hears, tells = socket.socketpair()
    hears.setblocking(False)
    tells.setblocking(False)
    signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(hears, select.POLLIN)
    poll.register(fd, 0)  # its end is told in any case
    while True:
        _bury(serving)
        for descriptor, _ in poll.poll():
            if descriptor == fd:
                os._exit(_BY_SIGNAL + signal.SIGKILL)
            hears.recv(4096)


def _bury(serving: int) -> None:
    """Take the status of whoever has ended; end as ``serving`` did if it is among them."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            os._exit(1)
        if not ended:
            return
        if ended == serving:
            os._exit(_BY_SIGNAL + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


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
    if parent:
        _end_with(parent)
    else:
        _stand_before(fd)
    _know_our_package()
    _need_numpy()
    from graphpipe.backends.isolated.inside import serve

    serve(fd)


if __name__ == "__main__":
    main(sys.argv[1:])

"""A process that has imported what every server imports, and forks into each server that a test wants.

    python tests/template.py CONTROL

The imports are most of what a start costs: a second of CPU, some hundred times in a run of all tests. What comes of the
fork is a process of its own as any other, from its first line on: arguments, environment, folder and standard streams
are its own, and so is its end. CONTROL is the number of an inherited socket, on which each message asks for one process:
JSON with its ``code`` (as after ``python -c``), ``args``, ``env`` and ``cwd``, and four descriptors: its standard input,
output and error, and a pipe for its exit status. The answer is its process id. Whoever closes the socket ends this.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import types
import warnings

import uvloop  # noqa: F401

import graphpipe.server.cli
import graphpipe.server.http.grpc
import graphpipe.server.http.h2
import graphpipe.server.life.app
import graphpipe.server.life.server
import graphpipe.server.life.supervisor
import graphpipe.server.life.warmup
import graphpipe.server.models.wiring
import graphpipe.server.serving  # noqa: F401
from graphpipe.backends.known import ours

list(ours())  # the backends, not the frameworks

MESSAGE_BYTES_MAX = 1 << 16


def wait_to_become_a_process(control: socket.socket) -> str:
    """Fork for everyone who asks. Gives the code to run, in the child; the parent never comes back."""
    awoken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests; they close the socket
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)
    statuses: dict[int, int] = {}
    while True:
        readable = select.select([control, awoken], [], [])[0]
        if awoken in readable:
            os.read(awoken, 1 << 16)
            send_statuses(statuses)
        if control not in readable:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES_MAX, 4)
        if not message:
            os._exit(0)
        with warnings.catch_warnings():
            # Threads that a fork leaves behind: there are none but numpy's, and it sees to that.
            warnings.simplefilter("ignore")
            pid = os.fork()
        if not pid:
            control.detach()  # its descriptor is closed with all others
            return become(json.loads(message), descriptors)
        statuses[pid] = descriptors.pop()
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(str(pid).encode())


def send_statuses(statuses: dict[int, int]) -> None:
    """Tell of all who have ended how they did, in the numbers of ``subprocess.Popen.returncode``."""
    while statuses:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        pipe = statuses.pop(pid)
        with os.fdopen(pipe, "w") as file:
            file.write(str(os.waitstatus_to_exitcode(status)))


def become(wanted: dict, descriptors: list[int]) -> str:
    """Put on what makes this process another one, and give its code."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"])
    sys.argv[:] = ["-c", *wanted["args"]]
    sys.path[0] = ""
    return wanted["code"]


if __name__ == "__main__":
    code = wait_to_become_a_process(socket.socket(fileno=int(sys.argv[1])))
    sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))

"""One worker process: what a supervisor starts.

    python -m graphpipe.server.life.worker LISTENER SIDE GRPC COUNTERS ROW SAID

The numbers are inherited file descriptors (SIDE and GRPC are -1 where there is none) and the worker's row in the
counters. What to serve comes as a pickle on standard input, which stays open afterwards as a life line: when it ends, the
supervisor is gone, and so the worker goes. SIGTERM drains it, however often it comes: who signals a whole group of
processes says the same that the supervisor passes on. SIGQUIT, which is the supervisor's alone, ends it at once. To SAID
the worker writes ``loaded`` with a model as JSON, ``ready``, ``failed`` with the reason, ``recycle`` when it wants to be
replaced, and ``shutdown`` when a caller asked for the end of the whole server.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

from graphpipe.descriptors import forgive
from graphpipe.errors import GraphPipeError
from graphpipe.server.life.ending import leave_if_a_model_runs
from graphpipe.server.numbers.logs import log_to_stderr
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.signals import noted

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Serve until told to end. The status is 0 after a drain, 1 if it could not start."""
    listener_fd, side_fd, grpc_fd, counters_fd, row, said_fd = map(int, arguments)
    for fd in (listener_fd, side_fd, grpc_fd, counters_fd, said_fd):
        if fd >= 0:
            os.set_inheritable(fd, False)  # what a model starts has no business with them
    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    models, settings, sys.path[:] = pickle.loads(sys.stdin.buffer.read(size))
    threading.Thread(
        target=_follow_the_supervisor, args=(settings.drain_grace_s + settings.drain_timeout_s + 5,), daemon=True
    ).start()
    log_to_stderr(settings.log_format, settings.verbose, settings.access_lines_per_s > 0)
    # The supervisor passes on what concerns its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with noted():
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # until here they had to wait
        forgive()
        return _serve(models, settings, listener_fd, side_fd, grpc_fd, counters_fd, row, said_fd)


def _serve(
    models: Sequence[ModelSettings],
    settings: Settings,
    listener_fd: int,
    side_fd: int,
    grpc_fd: int,
    counters_fd: int,
    row: int,
    said_fd: int,
) -> int:
    from graphpipe.server.life.server import Part, Server
    from graphpipe.server.numbers.counters import Counters

    def say(what: str) -> None:
        with contextlib.suppress(OSError):  # nobody is there: the life line says so too
            os.write(said_fd, f"{what}\n".encode())

    try:
        counters = Counters([model.name for model in models], row, counters_fd)
        side = socket.socket(fileno=side_fd) if side_fd >= 0 else None
        grpc = socket.socket(fileno=grpc_fd) if grpc_fd >= 0 else None
        part = Part(socket.socket(fileno=listener_fd), side, grpc, counters, say)
        Server([(model, None) for model in models], settings, lambda url: say("ready"), part).run()
    except GraphPipeError as error:
        say(f"failed {error}".replace("\n", " "))
        return 1
    return 0


def _follow_the_supervisor(patience_s: float) -> None:
    # Not through sys.stdin: a thread inside its buffer would be in the way of the interpreter's end.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_s)
    os._exit(1)  # whatever holds it up


if __name__ == "__main__":
    status = main(sys.argv[1:])
    leave_if_a_model_runs(status)
    sys.exit(status)

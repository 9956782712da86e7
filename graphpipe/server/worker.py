"""One worker process: what a supervisor starts.

    python -m graphpipe.server.worker LISTENER SIDE COUNTERS ROW

The numbers are inherited file descriptors (SIDE is -1 where there is none) and the worker's row in the counters. What
to serve comes as a pickle on standard input, which stays open afterwards as a life line: when it ends, the supervisor
is gone, and so the worker goes. On standard output the worker says ``ready``, ``failed`` with the reason, and
``recycle`` when it wants to be replaced.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading

from graphpipe.errors import GraphPipeError
from graphpipe.server.logs import log_to_stderr

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Serve until told to end. The status is 0 after a drain, 1 if it could not start."""
    listener_fd, side_fd, counters_fd, row = map(int, arguments)
    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    models, settings = pickle.loads(sys.stdin.buffer.read(size))
    log_to_stderr(settings.log_format, settings.verbose, settings.access_lines_per_s > 0)
    # Ctrl-C reaches the whole group; the supervisor passes on what concerns its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.insert(0, os.getcwd())
    from graphpipe.server.app import run
    from graphpipe.server.counters import Counters
    from graphpipe.server.wiring import load_models

    try:
        counters = Counters([model.name for model in models], row, counters_fd)
        loaded = load_models(models)
        threading.Thread(target=_follow_the_supervisor, daemon=True).start()
        run(
            loaded,
            settings,
            listener=socket.socket(fileno=listener_fd),
            side=socket.socket(fileno=side_fd) if side_fd >= 0 else None,
            counters=counters,
            on_ready=lambda url: print("ready", flush=True),
            on_memory_limit=lambda: print("recycle", flush=True),
        )
    except GraphPipeError as error:
        print(f"failed {error}", flush=True)
        return 1
    return 0


def _follow_the_supervisor() -> None:
    # Not through sys.stdin: a thread inside its buffer would be in the way of the interpreter's end.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What do metrics and the access log cost a small request?

    python benchmarks/bookkeeping.py [--rounds N] [--json]

Drives the server's own connections in this process, with a transport that goes nowhere: no socket, no system call, so that
a microsecond can be seen. Rounds of each kind take turns; the fastest of each counts. The requests are those of a caller
who sends 1 KB to echo; the last kind is a refusal, by a model whose queue is full.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import uvloop

from graphpipe.backends.echo import Echo
from graphpipe.server.exchange import peer_of
from graphpipe.server.life.app import App
from graphpipe.server.life.listener import bind
from graphpipe.server.numbers.accesslog import AccessLog
from graphpipe.server.numbers.logs import log_to_stderr
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.server.stages.turns import PEER
from graphpipe.wire import encode_request

REQUESTS = 4000


class Nowhere(asyncio.Transport):
    """A transport whose other end takes everything at once."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.last = b""

    def write(self, data: Any) -> None:
        self.last = data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Ignoring:
    """A meter that counts nothing."""

    def answered(self, status: int, seconds: float, protocol: int = 0) -> None:
        pass

    def ran(self, queue_s: float, inference_s: float) -> None:
        pass

    def encoded(self, rows: int, seconds: float) -> None:
        pass


async def measure(rounds: int) -> dict[str, float]:
    full = Stuck()
    models = [(ModelSettings("echo", "", warmup=0), Echo()),
              (ModelSettings("full", "", warmup=0, threads=1, queue_requests_max=1), full)]  # fmt: skip
    app = App(models, Settings(access_lines_per_s=0))
    await app.start(bind("127.0.0.1:0"))
    app.hub._sweeper.cancel()  # it is called below, so that every round bears the same
    service = app.directory.find("echo")
    meter = service.meter
    body = b"".join(encode_request([np.linspace(0, 1, 256, dtype=np.float32)]))
    head = b"POST /models/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"
    good, refused = (head % (name, len(body)) + body for name in (b"echo", b"full"))
    kinds: dict[str, tuple[Any, AccessLog, bytes, bytes]] = {
        "neither": (Ignoring(), AccessLog(0), good, b"200"),
        "metrics": (meter, AccessLog(0), good, b"200"),
        "metrics, access log at 20 lines a second": (meter, AccessLog(20), good, b"200"),
        "metrics, access log of every request": (meter, AccessLog(10**9), good, b"200"),
        "refusal with 503": (meter, AccessLog(20), refused, b"503"),
    }
    best = dict.fromkeys(kinds, float("inf"))
    stuck = []
    PEER.set(peer_of(Nowhere()))  # another one would get the place of who waits
    for _ in range(2):  # one runs, one waits
        stuck.append(asyncio.create_task(app.dialects.graphpipe.served("/models/full").answer(memoryview(body))))
        await asyncio.sleep(0.1)
    connection, transport = app.hub(), Nowhere()
    connection.connection_made(transport)
    for _ in range(rounds):
        for kind, (counting, access_log, request, status) in kinds.items():
            service.meter = counting
            service.stage._meter = counting  # type: ignore[attr-defined]
            connection._exchange._access_log = access_log
            began = time.perf_counter()
            for number in range(REQUESTS):
                if number % 1000 == 0:  # as often as a busy server does
                    app.counters.publish()
                    access_log.next_second()
                app.hub.scratch[: len(request)] = request
                connection.buffer_updated(len(request))
                app.hub._turn()
                assert transport.last[9:12] == status, bytes(transport.last[:200])
            best[kind] = min(best[kind], (time.perf_counter() - began) / REQUESTS)
            await asyncio.sleep(0)
    full.release.set()
    await asyncio.gather(*stuck)
    return {kind: seconds * 1e6 for kind, seconds in best.items()}


class Stuck(Echo):
    """Answers when it is told to."""

    quick = False

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def infer(self, *arguments: Any, **more: Any) -> Any:
        self.release.wait()
        return super().infer(*arguments, **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    options = parser.parse_args()
    log_to_stderr("human", 0, True)
    stderr = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            microseconds = runner.run(measure(options.rounds))
    finally:
        os.dup2(stderr, 2)
        logging.getLogger().handlers.clear()
    if options.json:
        print(json.dumps(microseconds))
        return
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(f"{machine}; fastest of {options.rounds} rounds")
    for kind, value in microseconds.items():
        print(f"{kind:<44}{value:8.2f} us a request")


if __name__ == "__main__":
    main()

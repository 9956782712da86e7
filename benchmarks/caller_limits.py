"""What do limits of one caller cost a small request?

    python benchmarks/caller_limits.py [--rounds N] [--json]

Drives the server's own connections in this process, with a transport that goes nowhere: no socket, no system call. Kinds
take turns, round by round; what counts is the median of the differences to the round of the first kind, where no limit
is set. The requests are those of a caller who sends 1 KB to echo; over his limit is one who may send none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import uvloop

from benchmarks.bookkeeping import Nowhere
from graphpipe.backends.echo import Echo
from graphpipe.server.life.app import App
from graphpipe.server.life.listener import bind
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.wire import encode_request

REQUESTS = 4000
# Limits that nobody reaches, and one that everybody does.
FAR = {
    "caller_requests_max": 1000,
    "caller_bytes_max": 1 << 40,
    "caller_requests_per_s": 1e9,
    "caller_bytes_per_s": 1 << 40,
}
KINDS: Mapping[str, Mapping[str, float]] = {
    "no limit": {},
    "requests in flight": {"caller_requests_max": 1000},
    "requests a second": {"caller_requests_per_s": 1e9},
    "all four": FAR,
    "over the limit: 429": {"caller_requests_per_s": 1e-9},
}


async def measure(rounds: int) -> dict[str, list[float]]:
    """CPU microseconds of a request by kind, one for each round."""
    body = b"".join(encode_request([np.linspace(0, 1, 256, dtype=np.float32)]))
    asked = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    ways = {}
    for kind, limits in KINDS.items():
        app = App([(ModelSettings("echo", "", warmup=0), Echo())], Settings(access_lines_per_s=0, **limits))  # type: ignore[arg-type]
        await app.start(bind("127.0.0.1:0"))
        app.hub._sweeper.cancel()  # what it does is done below, so that every round bears the same
        connection, transport = app.hub(), Nowhere()
        connection.connection_made(transport)
        ways[kind] = app, connection, transport
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds + 1):
        for kind, (app, connection, transport) in ways.items():
            hub = app.hub
            began = time.thread_time()
            for number in range(REQUESTS):
                if number % 1000 == 0:  # as often as a busy server does
                    app.counters.publish()
                hub.scratch[: len(asked)] = asked
                connection.buffer_updated(len(asked))
                hub._turn()
            taken[kind].append((time.thread_time() - began) / REQUESTS * 1e6)
            assert transport.last[9:12] == (b"429" if "429" in kind else b"200"), bytes(transport.last[:200])
            await asyncio.sleep(0)
    return {kind: values[1:] for kind, values in taken.items()}  # in the first round heads are new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    options = parser.parse_args()
    logging.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        taken = runner.run(measure(options.rounds))
    first = taken["no limit"]
    more = {kind: median(a - b for a, b in zip(values, first, strict=True)) for kind, values in taken.items()}
    if options.json:
        print(json.dumps(more))
        return
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(f"{machine}; medians of {options.rounds} rounds of {REQUESTS:,} requests")
    for kind, values in taken.items():
        print(f"{kind:<24}{median(values):8.2f} us of CPU a request {more[kind]:+7.2f}")


if __name__ == "__main__":
    main()

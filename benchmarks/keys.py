"""What does a key cost a small request?

    python benchmarks/keys.py [--rounds N] [--json]

Drives the server's own connections in this process, with a transport that goes nowhere: no socket, no system call, so that
a part in a hundred can be seen, of less than what a request costs a server. Kinds take turns, round by round; what counts
is the median of the ratios to the round of the first kind, which sends a key to a server that asks for none. The requests
are those of callers who send 1 KB to echo.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import uvloop

from benchmarks.bookkeeping import Nowhere
from graphpipe.backends.echo import Echo
from graphpipe.keyfile import digest_of, key_of, new_key, text_of
from graphpipe.server.life.app import App
from graphpipe.server.life.listener import bind
from graphpipe.server.settings.values import ModelSettings, Settings
from graphpipe.wire import encode_request

REQUESTS = 4000
CALLERS = 1000
KINDS = (
    "no key is asked for",
    "no key is asked for, and none is sent",
    "one key",
    "1,000 keys in turn",
    "1,000 keys in turn, memory for 256 heads",
    "a key that is none",
)


async def started(key_file: str = "") -> App:
    app = App([(ModelSettings("echo", "", warmup=0), Echo())], Settings(access_lines_per_s=0, api_key_file=key_file))
    await app.start(bind("127.0.0.1:0"))
    app.hub._sweeper.cancel()  # what it does is done below, so that every round bears the same
    return app


async def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    """CPU microseconds of a request by kind, one for each round."""
    secrets = [new_key() for _ in range(CALLERS)]
    lines = [text_of(key_of(f"c{n}", digest_of(key.encode()), ["infer", "metadata"])) for n, key in enumerate(secrets)]
    (folder / "keys").write_text("\n".join(lines) + "\n")
    opened, asking, small = await started(), await started(str(folder / "keys")), await started(str(folder / "keys"))
    small.hub._heads._most = 256
    body = b"".join(encode_request([np.linspace(0, 1, 256, dtype=np.float32)]))

    def request(key: str) -> bytes:
        field = f"Authorization: Bearer {key}\r\n" if key else ""
        return f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n{field}Content-Length: {len(body)}\r\n\r\n".encode() + body

    one, all_of_them = [request(secrets[0])], [request(key) for key in secrets]
    kinds = dict(
        zip(
            KINDS,
            (
                (opened, one, b"200"),
                (opened, [request("")], b"200"),
                (asking, one, b"200"),
                (asking, all_of_them, b"200"),
                (small, all_of_them, b"200"),
                (asking, [request(new_key())], b"401"),
            ),
            strict=True,
        )
    )
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    ways = {kind: (app.hub(), Nowhere()) for kind, (app, _, _) in kinds.items()}
    for connection, transport in ways.values():
        connection.connection_made(transport)
    for _ in range(rounds + 1):
        for kind, (app, requests, status) in kinds.items():
            connection, transport = ways[kind]
            hub, different = app.hub, len(requests)
            began = time.thread_time()
            for number in range(REQUESTS):
                if number % 1000 == 0:  # as often as a busy server does
                    app.counters.publish()
                asked = requests[number % different]
                hub.scratch[: len(asked)] = asked
                connection.buffer_updated(len(asked))
                hub._turn()
                assert transport.last[9:12] == status, bytes(transport.last[:200])
            taken[kind].append((time.thread_time() - began) / REQUESTS * 1e6)
            await asyncio.sleep(0)
    return {kind: values[1:] for kind, values in taken.items()}  # in the first round heads are new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    options = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        taken = runner.run(measure(options.rounds, Path(folder)))
    first = taken[KINDS[0]]
    ratios = {kind: median(a / b for a, b in zip(values, first, strict=True)) for kind, values in taken.items()}
    if options.json:
        print(json.dumps(ratios))
        return
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(f"{machine}; medians of {options.rounds} rounds of {REQUESTS:,} requests")
    for kind, values in taken.items():
        print(f"{kind:<44}{median(values):8.2f} us of CPU a request {ratios[kind]:7.3f}")


if __name__ == "__main__":
    main()

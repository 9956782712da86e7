"""What a key costs without a socket: the server's own connections in this process, with a transport that goes nowhere.

No system call, so that a part in a hundred can be seen, of less than what a request costs a server. Kinds take turns, round
by round; what counts is the median of the ratios to the round of the first kind.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.bookkeeping import Nowhere
from benchmarks.harness.rounds import Ratio
from benchmarks.keying.callers import key_file, new_keys, request
from graphpipe.backends.echo import Echo
from graphpipe.keyfile import new_key
from graphpipe.server.life.app import App
from graphpipe.server.life.listener import bind
from graphpipe.server.settings.values import ModelSettings, Settings

__all__ = ["KINDS", "measure", "ratios", "table"]

REQUESTS = 4000
KINDS = (
    "no key is asked for",
    "no key is asked for, and none is sent",
    "one key",
    "1,000 keys in turn",
    "1,000 keys in turn, memory for 256 heads",
    "a key that is none",
)
Found = dict[str, list[float]]


def measure(rounds: int) -> Found:
    """CPU microseconds of a request by kind, one for each round."""
    logging.disable()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measured(rounds, Path(folder)))


async def _started(keys: str = "") -> App:
    app = App([(ModelSettings("echo", "", warmup=0), Echo())], Settings(access_lines_per_s=0, api_key_file=keys))
    await app.start(bind("127.0.0.1:0"))
    app.hub._sweeper.cancel()  # what it does is done below, so that every round bears the same
    return app


async def _measured(rounds: int, folder: Path) -> Found:
    keys = new_keys()
    file = str(key_file(folder / "keys", keys))
    opened, asking, small = await _started(), await _started(file), await _started(file)
    small.hub._heads._most = 256
    one, all_of_them = [request(keys[0])], [request(key) for key in keys]
    asked = (
        (opened, one, b"200"),
        (opened, [request()], b"200"),
        (asking, one, b"200"),
        (asking, all_of_them, b"200"),
        (small, all_of_them, b"200"),
        (asking, [request(new_key())], b"401"),
    )
    kinds = dict(zip(KINDS, asked, strict=True))
    taken: Found = {kind: [] for kind in kinds}
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
                message = requests[number % different]
                hub.scratch[: len(message)] = message
                connection.buffer_updated(len(message))
                hub._turn()
                assert transport.last[9:12] == status, bytes(transport.last[:200])
            taken[kind].append((time.thread_time() - began) / REQUESTS * 1e6)
            await asyncio.sleep(0)
    return {kind: values[1:] for kind, values in taken.items()}  # in the first round heads are new


def ratios(found: Found) -> dict[str, Ratio]:
    """Of each kind to the first one."""
    return {kind: Ratio(values, found[KINDS[0]]) for kind, values in found.items()}


def table(found: Found) -> str:
    """Medians, and the ratios."""
    beside = ratios(found)
    return "\n".join(
        f"{kind:<44}{sorted(values)[len(values) // 2]:8.2f} us of CPU a request {beside[kind].value:7.3f}"
        for kind, values in found.items()
    )

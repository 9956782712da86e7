"""A caller who does nothing wrong, and notes how long he waits, in a process of his own.

    python -m benchmarks.harness.innocent PORT|PATH '{"path": "/models/echo", "per_second": 50}'

His calls are due at fixed times, whatever became of those before, and a call's time is counted from when it was due: a
server that stands still for a second is seen by all the calls of that second, not by one. Each takes a connection that is
free, or a new one. Prints a line when the first is answered, then runs until his stdin ends, and prints every call as JSON:
when it was due (seconds of the monotonic clock, which all processes share), seconds, and the status; ``silence`` for none
within ``timeout_s``, ``cut`` for a connection that ended or could not be made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import uvloop

from graphpipe.wire import encode_request

__all__ = ["Calls", "Innocent"]

ROOT = Path(__file__).resolve().parents[2]
Call = tuple[float, float, str]


@dataclass(frozen=True)
class Calls:
    """What he asks for, and how. ``floats`` is the size of his one tensor; ``split``: head and body leave apart;
    ``fresh``: each call has a connection of its own; ``key``: he has one.
    """

    path: str = "/models/echo"
    floats: int = 256
    per_second: float = 50
    split: bool = False
    fresh: bool = False
    tls: bool = False
    key: str = ""
    timeout_s: float = 10


class Innocent:
    """The process: a context. ``calls`` are there when it is left."""

    def __init__(self, where: int | Path, calls: Calls) -> None:
        """``where`` is a port, or the path of a Unix socket."""
        self.calls: list[Call] = []
        command = [sys.executable, "-m", "benchmarks.harness.innocent", str(where), json.dumps(vars(calls))]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("answered"):
            self._process.kill()
            raise RuntimeError("an innocent caller's first call was not answered")

    def __enter__(self) -> Innocent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        out, _ = self._process.communicate()
        self.calls = [(due, seconds, status) for due, seconds, status in json.loads(out)]

    def between(self, began: float, ended: float) -> dict[str, float]:
        """Of the calls due in that time: how many; how many were answered with anything but 200, or not; and how long
        the good ones took, in milliseconds.
        """
        calls = [call for call in self.calls if began <= call[0] < ended]
        good = sorted(1000 * seconds for _, seconds, status in calls if status == "200")
        others = Counter(status for _, _, status in calls if status != "200")
        found: dict[str, float] = {"calls": len(calls), "failed": sum(others.values())}
        if good:
            found |= {f"p{q}_ms": good[min(len(good) - 1, len(good) * q // 100)] for q in (50, 99)}
            found["max_ms"] = good[-1]
        return found | {f"status {status}": count for status, count in others.items()}


class Connection(asyncio.Protocol):
    """One connection: ``ask`` sends a request and gives the status of its answer."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.left = 0
        self.answer: asyncio.Future[str] | None = None
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.left:
            self.left -= len(data)
        else:
            self.received += data
            end = self.received.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            length = bytes(self.received[:end]).lower().split(b"content-length:")[1].split(b"\r\n")[0]
            self.left = end + int(length) - len(self.received)
        if self.left <= 0 and self.answer is not None and not self.answer.done():
            self.answer.set_result(self.received[9:12].decode())

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self.answer is not None and not self.answer.done():
            self.answer.set_result("cut")

    async def ask(self, pieces: list[bytes]) -> str:
        self.received.clear()
        self.left = 0
        self.answer = asyncio.get_running_loop().create_future()
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(0.002)
            self.transport.write(piece)
        return await self.answer


async def main(where: str, calls: Calls) -> None:
    """Call until nobody listens on the other side of stdin."""
    loop = asyncio.get_running_loop()
    body = b"".join(encode_request([np.linspace(0, 1, calls.floats, dtype=np.float32)]))
    key = f"Authorization: Bearer {calls.key}\r\n" if calls.key else ""
    head = f"POST {calls.path} HTTP/1.1\r\nHost: h\r\n{key}Content-Length: {len(body)}\r\n\r\n".encode()
    pieces = [head, body] if calls.split else [head + body]
    context = None
    if calls.tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    free: list[Connection] = []
    made: list[Call] = []

    async def once(due: float) -> None:
        status = "cut"
        try:
            async with asyncio.timeout(max(0.0, due + calls.timeout_s - time.monotonic())):
                while free and free[-1].closed:
                    free.pop()
                if free:
                    connection = free.pop()
                elif where.isdecimal():
                    _, connection = await loop.create_connection(Connection, "127.0.0.1", int(where), ssl=context)
                else:
                    _, connection = await loop.create_unix_connection(Connection, where)
                status = "silence"
                status = await connection.ask(pieces)
                if status == "200" and not calls.fresh and not connection.closed:
                    free.append(connection)
                else:
                    connection.transport.abort()
        except TimeoutError:
            status = "silence"
        except OSError:
            pass
        except asyncio.CancelledError:
            status = "silence"  # it is over: as long as this, and longer
        made.append((due, time.monotonic() - due, status))

    await once(time.monotonic())
    print("answered" if made.pop()[2] == "200" else "not answered", flush=True)
    over = loop.run_in_executor(None, sys.stdin.read)
    under_way: set[asyncio.Task[None]] = set()
    began, number = time.monotonic(), 0
    while not over.done():
        now = time.monotonic()
        while (due := began + number / calls.per_second) <= now:
            number += 1
            task = asyncio.create_task(once(due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.wait([over], timeout=max(0.0, began + number / calls.per_second - time.monotonic()))
    for task in list(under_way):
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    print(json.dumps(made))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("where", help="a port, or the path of a Unix socket")
    options.add_argument("calls", type=json.loads)
    chosen = options.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(chosen.where, Calls(**chosen.calls)))

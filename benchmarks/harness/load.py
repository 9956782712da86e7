"""A load generator for small requests: many keep-alive connections, each sending its next request on its last answer.

    python -m benchmarks.harness.load PORT --connections 64 --seconds 2 [--cpu N] [--stdin]

Sends prebuilt bytes (1 KB of float32, or what stdin has) and only counts what comes back, so that one core of it keeps a
server's core busy. Prints JSON: requests per second, the latency's quantiles in milliseconds, how many CPUs it took itself,
and how many requests there were without the first and last moments, which are in none of these, and with them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from graphpipe.wire import encode_request

ROOT = Path(__file__).resolve().parents[2]


def request(floats: int = 256, path: str = "/") -> bytes:
    body = b"".join(encode_request([np.linspace(0, 1, floats, dtype=np.float32)]))
    return b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body


class Load:
    """What all connections of a run share: what they send, how long each answer took, and whether they go on."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.latencies: list[float] = []
        self.is_over = False
        self.under_way = 0
        self.all_answered = asyncio.Event()


class Caller(asyncio.Protocol):
    """One connection: sends, counts what comes back, sends again."""

    def __init__(self, shared: Load) -> None:
        self.shared = shared
        self.expected = 0
        self.received = 0
        self.started = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.shared.under_way += 1
        self.send()

    def send(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(self.shared.message)

    def data_received(self, data: bytes) -> None:
        if not self.received:
            # All answers of a run have heads of one shape; the first says how long they are.
            end = data.find(b"\r\n\r\n") + 4
            head = data[:end].lower()
            assert head.startswith(b"http/1.1 200"), head
            self.expected = end + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        self.received += len(data)
        if self.received >= self.expected:
            self.received = 0
            self.shared.latencies.append(time.perf_counter() - self.started)
            if self.shared.is_over:
                self.shared.under_way -= 1
                if not self.shared.under_way:
                    self.shared.all_answered.set()
            else:
                self.send()


async def load(port: int, connections: int, seconds: float, message: bytes) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    shared = Load(message)
    for _ in range(connections):
        await loop.create_connection(lambda: Caller(shared), "127.0.0.1", port)
    await asyncio.sleep(min(0.3, seconds / 4))  # everybody is under way
    first = len(shared.latencies)
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    ordered = sorted(shared.latencies[first:])
    shared.is_over = True
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(shared.all_answered.wait(), 5)  # nothing is computed that is not counted
    pick = lambda q: 1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))]  # noqa: E731
    return {
        "per_second": len(ordered) / elapsed,
        "p50_ms": pick(0.5),
        "p99_ms": pick(0.99),
        "cpus": cpu / elapsed,
        "requests": len(ordered),
        "all_requests": len(shared.latencies),
    }


def run_load(
    port: int, connections: int, seconds: float, cpu: int | None = None, message: bytes = b""
) -> dict[str, float]:
    """The same in a process of its own, on a CPU of its own; ``message`` is sent if it is not empty."""
    command = [sys.executable, "-m", "benchmarks.harness.load", str(port)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    command += [] if cpu is None else ["--cpu", str(cpu)]
    command += ["--stdin"] if message else []
    done = subprocess.run(command, cwd=ROOT, input=message, stdout=subprocess.PIPE, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--floats", type=int, default=256)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--stdin", action="store_true", help="send what stdin has, a head and a body")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        message = sys.stdin.buffer.read() if options.stdin else request(options.floats)
        print(json.dumps(runner.run(load(options.port, options.connections, options.seconds, message))))

"""A load generator that does not wait: requests leave at a given rate, whether the earlier ones were answered or not.

    python -m benchmarks.harness.open_load PORT --per-second 2000 --seconds 60 [--connections 512] [--cpu N]

Prebuilt bytes on keep-alive connections; each request takes a free one. One that finds none free is counted as ``unsent``:
then the connections were the limit, not the rate. With ``--callers N`` it is a closed loop instead: N callers, each sending
its next request on its last answer. Prints JSON: what was sent, what came back by status, and quantiles in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.harness.load import request

ROOT = Path(__file__).resolve().parents[2]
_TURN_S = 0.002


class Generator:
    def __init__(self, port: int, message: bytes) -> None:
        self.port = port
        self.message = message
        self.free: list[Caller] = []
        self.latencies: dict[bytes, list[float]] = {}
        self.counts: Counter[str] = Counter()
        self.callers = 0  # in a closed loop: those that send again at once
        self.over = False

    def answered(self, caller: Caller, status: bytes, seconds: float) -> None:
        self.latencies.setdefault(status, []).append(seconds)
        if self.callers and not self.over:
            caller.send()
        else:
            self.free.append(caller)

    async def connect(self, connections: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: Caller(self), "127.0.0.1", self.port)

    async def open_loop(self, per_second: float, seconds: float) -> None:
        began = time.perf_counter()
        while (now := time.perf_counter() - began) < seconds:
            due = int(now * per_second) - self.counts["sent"] - self.counts["unsent"]
            for _ in range(due):
                if self.free:
                    self.counts["sent"] += 1
                    self.free.pop().send()
                else:
                    self.counts["unsent"] += 1
            await asyncio.sleep(_TURN_S)

    async def closed_loop(self, callers: int, seconds: float) -> None:
        self.callers = callers
        for caller in [self.free.pop() for _ in range(callers)]:
            caller.send()
        await asyncio.sleep(seconds)
        self.over = True

    def result(self, elapsed: float) -> dict[str, Any]:
        by_status = {
            status.decode(): {
                "count": len(latencies),
                "per_second": len(latencies) / elapsed,
                **{f"p{int(q * 100)}_ms": 1000 * _quantile(sorted(latencies), q) for q in (0.5, 0.99, 1.0)},
            }
            for status, latencies in self.latencies.items()
        }
        return {"seconds": elapsed, **self.counts, "by_status": by_status}


class Caller(asyncio.Protocol):
    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.received = b""
        self.started = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.generator.free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.generator.counts["closed"] += 1
        if self in self.generator.free:  # a server closes those that never had anything to say
            self.generator.free.remove(self)

    def send(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(self.generator.message)

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n") + 4
        if end > 3:
            length = int(self.received[:end].lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self.received) >= end + length:
                status, self.received = self.received[9:12], b""
                self.generator.answered(self, status, time.perf_counter() - self.started)


def _quantile(ordered: list[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


async def main(options: argparse.Namespace) -> None:
    generator = Generator(options.port, request(options.floats, options.path))
    await generator.connect(options.callers or options.connections)
    began = time.perf_counter()
    if options.callers:
        await generator.closed_loop(options.callers, options.seconds)
    else:
        await generator.open_loop(options.per_second, options.seconds)
    elapsed = time.perf_counter() - began
    result = generator.result(elapsed)
    result["cpu_share"] = time.process_time() / elapsed
    print(json.dumps(result))


def generate(port: int, seconds: float, cpu: int | None = None, **options: float | str) -> dict[str, Any]:
    """The same in a process of its own, on a CPU of its own."""
    command = [sys.executable, "-m", "benchmarks.harness.open_load", str(port), "--seconds", str(seconds)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    command += [] if cpu is None else ["--cpu", str(cpu)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--per-second", type=float, default=1000)
    parser.add_argument("--callers", type=int, default=0)
    parser.add_argument("--connections", type=int, default=512)
    parser.add_argument("--floats", type=int, default=256)
    parser.add_argument("--path", default="/")
    parser.add_argument("--cpu", type=int)
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(options))

"""What does a request cost the machine, and a model, a connection, a worker: and how does each grow?

    python benchmarks/cost.py [--full] [--save] [--rounds N] [--seconds S]

Beside what one writes by hand: aiohttp that gives raw bytes back and decodes nothing, or runs ONNX sessions
(benchmarks/peering/by_hand.py), and FastAPI with raw bytes (raw_fastapi.py; where `make bench-setup` has made its
environment). Callers send on their last answer, from a core of their own; CPU is what the scheduler gave to all of a
server's threads, kernel time included. Memory in 10^6 bytes.

size         echo, 1 KB to 100 MB in and as much out, 4 connections (2 from 10 MB on). `in flight x` is the peak above the
             idle server, for each request under way, by the request's size: bytes that are copied lie somewhere meanwhile,
             so this is the check of what `copied` says: how often a request's bytes, and those of its answer, are copied
             between the socket and the model in the server's own memory, by construction
connections  echo, 1 KB, 1 to 256 connections, all busy
models       1 to 64 ONNX models (identity of 256 floats, so that what is seen is ours and the runtime's, not weights);
             the start is from the process to an answer of the last of them; CPU with 8 callers of one model
workers      1 to 4 processes with one ONNX model; memory counts what they share once; the sum of resident peaks
             is what adding up `top` would give
share        squeezenet at 8 callers beside the model alone in the same rounds (benchmarks/harness/share.py), and beside the
             least that a Python server with threads can be (harness/served/bare_model.py): what is left to the model
start        from the process to the first answer; median
installed    a fresh environment, megabytes on disk; what is ours of it
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.harness.about import about  # noqa: E402
from benchmarks.harness.arrivals import Generator, generator, message, numbers_of, once  # noqa: E402
from benchmarks.harness.environment import Unavailable  # noqa: E402
from benchmarks.harness.environments import ENVIRONMENTS  # noqa: E402
from benchmarks.harness.family import Family, is_running  # noqa: E402
from benchmarks.harness.question import answer  # noqa: E402
from benchmarks.harness.result import Result, Table  # noqa: E402
from benchmarks.harness.rounds import Measured, interleaved, middle, ratio  # noqa: E402
from benchmarks.harness.row_models import identity  # noqa: E402
from benchmarks.harness.share import share  # noqa: E402
from benchmarks.harness.tree import Tree  # noqa: E402
from graphpipe.wire import decode_infer_response  # noqa: E402

CPUS = sorted(os.sched_getaffinity(0))
SERVERS, GENERATOR = (CPUS[0], CPUS[1]) if len(CPUS) > 1 else (None, None)
OURS, BY_HAND, FASTAPI = "GraphPipe", "aiohttp by hand", "FastAPI, raw bytes"
SIZES = {"1 KB": 256, "100 KB": 25_600, "1 MB": 250_000, "10 MB": 2_500_000, "100 MB": 25_000_000}
CONNECTIONS = (1, 4, 16, 64, 256)
MODELS = (1, 4, 16, 64)
WORKERS = (1, 2, 4)
PEERS = Path(__file__).resolve().parent / "peering"
# Up to so much our server joins with an answer's head, or takes along with a request's (server/http/cycle.py, hub.py).
JOINED_BYTES, ALONG_BYTES = 32 * 1024, 256 * 1024


def copied(server: str, size: int) -> str:
    """How often the bytes of a request and of its answer are copied in the server's own memory, by construction."""
    if server == BY_HAND:  # uvloop, aiohttp's parser, and twice in Request.read()
        return "4 in: the loop's buffer, the parser's pieces, all in one, as bytes"
    if server == FASTAPI:  # uvloop, httptools, uvicorn, Starlette
        return "4 in: the loop's buffer, the parser's pieces, added up, joined"
    if size <= JOINED_BYTES:
        return "1 in, 1 out"
    return (
        "1 in" if size <= ALONG_BYTES else "0, but for what comes with the head (2 KiB at most, 256 in a first request)"
    )


class Server:
    """A server that is up and answers at ``path``: its processes, and how long it took from ``began`` until it answered.

    ``kind`` is how requests to it are written (benchmarks/harness/arrivals.py), ``body`` what its first answer was.
    """

    def __init__(self, port: int, pid: int, began: float, path: str, kind: str) -> None:
        self.port, self.path, self.kind, self.family = port, path, kind, Family(pid)
        self.body = once(port, message(kind, 256, path).content)
        self.start_s = time.perf_counter() - began

    def load(self, load: Generator, floats: int, connections: int, seconds: float) -> dict[str, float]:
        """CPU seconds for 1,000 requests, the peak of memory meanwhile, and what the generator found."""
        self.family.forget_peak()
        cpu = self.family.cpu_seconds()
        said = load(self.port, floats=floats, connections=connections, seconds=seconds, path=self.path, kind=self.kind)
        used = self.family.cpu_seconds() - cpu
        return {**said, "cpu_s": 1000 * used / said["all_requests"], "peak_mb": self.family.peak_megabytes()}


@functools.cache
def tree() -> Tree:
    return Tree()


@contextlib.contextmanager
def ours(*flags: str, path: str = "/", cpu: int | None = SERVERS) -> Iterator[Server]:
    checkout, began = tree(), time.perf_counter()
    with checkout.serving("--access-lines-per-s", "0", *flags, cpu=cpu) as server:
        up = Server(server.port, server.process.pid, began, path, "own")
        np.testing.assert_array_equal(decode_infer_response(up.body).outputs[0], numbers_of(256))
        yield up


@contextlib.contextmanager
def theirs(
    script: str, *flags: str, path: str = "/", cpu: int | None = SERVERS, python: str = sys.executable
) -> Iterator[Server]:
    """A server of benchmarks/peering, ended with all of its processes."""
    began = time.perf_counter()
    with subprocess.Popen(
        [python, str(PEERS / script), *flags], stdout=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=None if cpu is None else lambda: os.sched_setaffinity(0, {cpu}),
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said:
                raise Unavailable(f"{script} did not start")
            up = Server(int(said), process.pid, began, path, "raw")
            assert up.body == numbers_of(256).tobytes(), "the echo is none"
            yield up
        finally:
            pids = Family(process.pid).pids()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pid in pids:  # the others are nobody's children now: whoever comes next is to have the machine alone
                while is_running(pid):
                    time.sleep(0.01)


Starter = Callable[..., contextlib.AbstractContextManager[Server]]


def fastapi() -> str:
    """The interpreter of FastAPI's environment. Raises Unavailable where it was not made: that is for `make bench-setup`."""
    environment = ENVIRONMENTS["fastapi"]
    if not environment.is_there():
        raise Unavailable("FastAPI is left out: `make bench-setup` makes its environment")
    return str(environment.interpreter)


def echoes(stack: contextlib.ExitStack) -> tuple[dict[str, Server], list[str]]:
    up, notes = {OURS: stack.enter_context(ours("--model", "echo"))}, []
    up[BY_HAND] = stack.enter_context(theirs("by_hand.py"))
    try:
        up[FASTAPI] = stack.enter_context(theirs("raw_fastapi.py", python=fastapi()))
    except Unavailable as problem:
        notes.append(f"{problem}.")
    return up, notes


def warmed(ways: Mapping[str, Callable[[], dict[str, float]]], rounds: int, said: str) -> Measured:
    """What rounds found after one that is not counted: a server's first requests are dearer than all later ones."""
    return {name: each[1:] for name, each in interleaved(ways, rounds + 1, said).items()}


def by_size(load: Generator, options: argparse.Namespace) -> Table:
    table = Table(
        "By size: echo, as much out as in",
        {"server": "server", "size": "request", "cpu_s": "CPU s / 1,000 requests", "beside": "GraphPipe by this x"}
        | {"peak_mb": "peak MB", "in_flight": "in flight x", "copied": "copied in the server"},
    )
    for size, floats in options.sizes.items():
        with contextlib.ExitStack() as stack:  # each size anew: what was kept of the last would be in no peak
            up, notes = echoes(stack)
            connections = 4 if floats < SIZES["10 MB"] else 2
            idle = {name: server.family.megabytes() for name, server in up.items()}
            first = {name: server.family.peak_megabytes() for name, server in up.items()}
            ways = {
                name: functools.partial(server.load, load, floats, connections, options.seconds)
                for name, server in up.items()
            }
            found = warmed(ways, options.rounds, size)
            for name in up:
                peak = max(each["peak_mb"] for each in found[name])
                row = {"server": name, "size": size, "cpu_s": middle(found[name], "cpu_s"), "peak_mb": peak}
                row |= {"bytes": 4 * floats, "idle_mb": idle[name], "copied": copied(name, 4 * floats)}
                row["beside"] = ratio(found, OURS, name, "cpu_s").value
                if floats >= SIZES["1 MB"]:
                    row["in_flight"] = (peak - first[name]) / (connections * 4 * floats / 1e6)
                table.rows.append(row)
    table.notes += notes
    return table


def by_connections(load: Generator, options: argparse.Namespace) -> Table:
    table = Table(
        "By connections: echo, 1 KB",
        {
            "server": "server",
            "connections": "connections",
            "cpu_s": "CPU s / 1,000 requests",
            "beside": "GraphPipe by this x",
        }
        | {"per_s": "requests/s", "peak_mb": "peak MB"},
    )
    with contextlib.ExitStack() as stack:
        up, table.notes = echoes(stack)
        for connections in options.connections:
            ways = {
                name: functools.partial(server.load, load, 256, connections, options.seconds)
                for name, server in up.items()
            }
            found = warmed(ways, options.rounds, f"{connections} connections")
            for name in up:
                row = {key: middle(found[name], key) for key in ("cpu_s", "per_s", "peak_mb")}
                row["beside"] = ratio(found, OURS, name, "cpu_s").value
                table.rows.append({"server": name, "connections": connections, **row})
    return table


def by_models(load: Generator, model: Path, options: argparse.Namespace) -> Table:
    table = Table(
        "By models: an ONNX identity of 256 floats each",
        {"server": "server", "models": "models", "memory_mb": "MB", "each_mb": "MB / model more"}
        | {"start_s": "start s", "cpu_s": "CPU s / 1,000 requests"},
    )
    first: dict[str, float] = {}
    for count in options.models:
        flags = [flag for i in range(count) for flag in ("--model", f"m{i}={model}")]
        starters: dict[str, Starter] = {
            OURS: lambda flags=flags, **more: ours(*flags, "--threads", "1", **more),
            BY_HAND: lambda count=count, **more: theirs("by_hand.py", str(model), "--models", str(count), **more),
        }
        for name, starter in starters.items():
            with starter(path=f"/models/m{count - 1}") as server:
                said = server.load(load, 256, 8, options.seconds)
                row: dict[str, Any] = {"server": name, "models": count, "memory_mb": server.family.megabytes()}
                row |= {"start_s": server.start_s, "cpu_s": said["cpu_s"]}
                if name in first:
                    row["each_mb"] = (row["memory_mb"] - first[name]) / (count - options.models[0])
                first.setdefault(name, row["memory_mb"])
                table.rows.append(row)
    return table


def by_workers(load: Generator, model: Path, options: argparse.Namespace) -> Table:
    table = Table(
        "By workers: one ONNX identity",
        {
            "server": "server",
            "workers": "workers",
            "memory_mb": "MB, shared pages once",
            "peak_mb": "sum of resident peaks, MB",
        }
        | {"cpu_s": "CPU s / 1,000 requests"},
    )
    for count in options.workers:
        number = ("--workers", str(count))
        starters: dict[str, Starter] = {
            OURS: lambda number=number: ours(
                "--model", f"m0={model}", "--threads", "1", *number, path="/models/m0", cpu=None
            ),
            BY_HAND: lambda number=number: theirs("by_hand.py", str(model), *number, path="/models/m0", cpu=None),
        }
        for name, starter in starters.items():
            with starter() as server:
                server.load(load, 256, 16, options.seconds)  # all of them are up, and have worked
                said = server.load(load, 256, 16, options.seconds)
                row = {"memory_mb": server.family.megabytes(), "peak_mb": said["peak_mb"], "cpu_s": said["cpu_s"]}
                table.rows.append({"server": name, "workers": count, **row})
    return table


def starts(model: Path, options: argparse.Namespace) -> Table:
    table = Table("From the process to the first answer", {"server": "server", "what": "what", "start_s": "s"})
    named: dict[tuple[str, str], Callable[[], contextlib.AbstractContextManager[Server]]] = {
        (OURS, "echo"): lambda: ours("--model", "echo"),
        (OURS, "one ONNX model"): lambda: ours("--model", f"m0={model}"),
        (BY_HAND, "echo"): lambda: theirs("by_hand.py"),
        (BY_HAND, "one ONNX model"): lambda: theirs("by_hand.py", str(model), path="/models/m0"),
    }
    try:
        python = fastapi()
        named[FASTAPI, "echo"] = lambda: theirs("raw_fastapi.py", python=python)
        named[FASTAPI, "one ONNX model"] = lambda: theirs(
            "raw_fastapi.py", str(model), path="/models/m0", python=python
        )
    except Unavailable as problem:
        table.notes.append(f"{problem}.")

    def started(start: Callable[[], contextlib.AbstractContextManager[Server]]) -> dict[str, float]:
        with start() as server:
            return {"start_s": server.start_s}

    ways = {"\n".join(name): lambda start=start: started(start) for name, start in named.items()}
    found = interleaved(ways, options.rounds, "starts")
    for way, each in found.items():
        server, what = way.split("\n")
        table.rows.append({"server": server, "what": what, "start_s": median(one["start_s"] for one in each)})
    return table


def installed() -> Table:
    table = Table(
        "Installed, in a fresh environment",
        {"what": "what", "megabytes": "MB", "own": "of it ours, MB", "with": "with"},
    )
    for name, label in (
        ("graphpipe-client", "GraphPipe: client and commands"),
        ("graphpipe", "GraphPipe[onnx]: server and runtime"),
        ("aiohttp", "aiohttp, uvloop, numpy and onnxruntime"),
        ("fastapi", "FastAPI, uvicorn[standard], numpy and onnxruntime"),
    ):
        environment = ENVIRONMENTS[name]
        if not environment.is_there():
            table.notes.append(f"{label}: not measured, `make bench-setup` makes its environment.")
            continue
        versions = environment.versions("numpy", "onnxruntime", "aiohttp", "fastapi")
        row = {"what": label, "megabytes": environment.megabytes()}
        row["with"] = ", ".join(f"{package} {version}" for package, version in versions.items())
        if own := next(environment.folder.glob("lib/python*/site-packages/graphpipe"), None):
            row["own"] = sum(path.stat().st_size for path in own.rglob("*") if path.is_file()) / 1e6
        table.rows.append(row)
    return table


def measure(options: argparse.Namespace) -> Result:
    options.rounds = options.rounds or (5 if options.full else 2)
    options.seconds = options.seconds or (1.5 if options.full else 0.3)
    options.share_rounds = options.share_rounds or (20 if options.full else 6)
    options.sizes = {size: floats for size, floats in SIZES.items() if floats <= options.floats_max}
    result = Result(
        "cost",
        "What a request, a connection, a model and a worker cost, and how it grows",
        "python benchmarks/cost.py" + (" --full" if options.full else ""),
        about(("numpy", "onnxruntime", "aiohttp", "uvloop")) | {"rounds": str(options.rounds)},
    )
    with tempfile.TemporaryDirectory() as folder, generator(GENERATOR) as load:
        model = identity(Path(folder), 256)
        result.tables["size"] = by_size(load, options)
        result.tables["connections"] = by_connections(load, options)
        result.tables["models"] = by_models(load, model, options)
        result.tables["workers"] = by_workers(load, model, options)
        result.tables["share"] = share(options.share_rounds, 0.5)
        result.tables["start"] = starts(model, options)
        result.tables["installed"] = installed()
    return result


def numbers(default: Sequence[int]) -> dict[str, Any]:
    return {"type": int, "nargs": "+", "default": list(default), "metavar": "N"}


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=0, help="default: 2, or 5 with --full")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="of load in a round; default: 0.3, or 1.5 with --full"
    )
    parser.add_argument("--share-rounds", type=int, default=0, help="of squeezenet; default: 6, or 20 with --full")
    parser.add_argument("--floats-max", type=int, default=max(SIZES.values()), help="leave out larger requests")
    parser.add_argument("--connections", **numbers(CONNECTIONS))
    parser.add_argument("--models", **numbers(MODELS))
    parser.add_argument("--workers", **numbers(WORKERS))


if __name__ == "__main__":
    answer(measure, __doc__, flags)

"""What do other protocols cost beside our own, and beside the servers that people write for them?

    python benchmarks/protocols.py [grpc] [large] [json] [hot] [--before COMMIT] [--rounds N] [--full] [--save]

grpc   1 KB there and back at 1, 8 and 64 callers: Open Inference over gRPC, beside grpc.aio with generated classes that
       answers the same, and our own wire over HTTP. What asks is grpcio's client with bytes for messages, all callers on
       one channel; our own wire is asked by raw sockets, so its calls/s and p99 are another client's. A single one also
       with pauses of 0.2 ms, as long as grpcio's client takes between two calls: then the server sleeps before each
large  77 MB there and back, one caller: our own wire and Open Inference's binary form by a raw socket, and the same over
       gRPC, ours and grpc.aio, by grpcio's client with bytes for messages
json   Open Inference's JSON and TF-Serving's row form, by raw sockets, beside FastAPI with orjson
hot    1 KB over our own wire, beside the last commit that spoke no other protocol (or --before)

Every server is a process in a session of its own, and whoever is not being asked is stopped. Ways take turns, forwards and
backwards; what counts are medians of the ratios of neighbours. CPU is what the scheduler gave to all threads of the server.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import grpc  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from benchmarks.harness.about import about  # noqa: E402
from benchmarks.harness.environment import Unavailable  # noqa: E402
from benchmarks.harness.forms import request  # noqa: E402
from benchmarks.harness.messages import post, tensor  # noqa: E402
from benchmarks.harness.question import answer  # noqa: E402
from benchmarks.harness.raw import Raw  # noqa: E402
from benchmarks.harness.result import Result, Table  # noqa: E402
from benchmarks.harness.rounds import Measured, interleaved, middle, ratio  # noqa: E402
from benchmarks.harness.tree import Tree  # noqa: E402
from benchmarks.harness.turns import Failed, Generator, pooled  # noqa: E402
from benchmarks.peering.asking import posted  # noqa: E402
from benchmarks.speaking.messages import (  # noqa: E402
    MODEL_INFER,
    PATHS,
    binary,
    grpc_floats,
    grpc_request,
)
from benchmarks.speaking.served import Served, fastapi, graphpipe, grpc_aio  # noqa: E402
from graphpipe.wire import decode_infer_response  # noqa: E402

BEFORE = "0857c2d"  # the last commit that spoke no other protocol
CALLERS = (1, 8, 64)
JSON_CALLERS = {"1 KB": 16, "600 KB": 4}
LARGE = (128, 224, 224, 3)
ROUNDS, FULL_ROUNDS = 5, 11
TURN_S, FULL_TURN_S = 0.5, 1.0
WIRE, BINARY, OVER_GRPC = "GraphPipe's own wire, HTTP", "GraphPipe, Open Inference binary, HTTP", "GraphPipe, gRPC"
PAUSED, PAUSE_S = "GraphPipe's own wire, with pauses", 0.0002
AIO = "grpc.aio, generated classes"

Ways = dict[str, Callable[[], dict[str, Any]]]


class Bench:
    """What is started for a question: who asks, ours, and the servers beside it; those that are not there say why."""

    def __init__(self, options: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> None:
        self.rounds, self.seconds = options.rounds, options.turn_s
        self.before: str = options.before
        self._folder, self._stack = folder, stack
        self.http = stack.enter_context(Generator(folder))
        self.grpc = stack.enter_context(Generator(folder, ("benchmarks.speaking.grpc_turns", MODEL_INFER)))
        self.ours = stack.enter_context(graphpipe(folder / "ours", Tree()))

    def beside(self, start: Callable[[Path], Any], name: str) -> Served:
        """Raises Unavailable."""
        served: Served = self._stack.enter_context(start(self._folder / name))
        return served

    def raw(self, path: str, array: NDArray[Any], *more: Any) -> Raw:
        """A raw socket to ours."""
        made = Raw(self.ours.port, path, array, *more)
        self._stack.callback(made.socket.close)
        return made


def numbers(*shape: int) -> NDArray[Any]:
    return np.random.default_rng(0).random(shape, np.float32)


def check(found: NDArray[Any], array: NDArray[Any]) -> None:
    """Raises Failed if an answer is not the tensor that was sent."""
    if not np.array_equal(found, array.reshape(-1)):
        raise Failed("it did not answer what it was sent")


def check_grpc(served: Served, array: NDArray[Any]) -> None:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with served.going_on(), grpc.insecure_channel(f"127.0.0.1:{served.port}", options) as channel:
        check(grpc_floats(channel.unary_unary(MODEL_INFER)(grpc_request(array), timeout=60)), array)


def ask_grpc(bench: Bench, options: argparse.Namespace) -> Table:
    table = Table(
        "1 KB there and back over gRPC",
        {
            "server": "server",
            "callers": "callers",
            "per_s": "calls/s",
            "p99_ms": "p99 ms",
            "cpu_us": "server's CPU us / call",
        }
        | {"x": "CPU, of GraphPipe's over gRPC x", "between": "95 % of x"},
    )
    array = numbers(1, 256)
    message, own = grpc_request(array), post("/", tensor(array))
    servers = {OVER_GRPC: bench.ours}
    try:
        servers[AIO] = bench.beside(grpc_aio, "grpc")
    except Unavailable as problem:
        table.notes.append(f"{AIO} is left out: {problem}")
    for served in servers.values():
        check_grpc(served, array)
    for callers in options.callers:
        ways: Ways = {
            name: partial(served.turn, bench.grpc, "grpc", message, callers, bench.seconds)
            for name, served in servers.items()
        }
        ways[WIRE] = partial(bench.ours.turn, bench.http, "wire", own, callers, bench.seconds)
        if callers == 1:
            with bench.ours.going_on():
                caller = bench.raw("/", array)
            ways[PAUSED] = partial(raw_turn, bench.ours, caller, bench.seconds, PAUSE_S)
        found = interleaved(ways, bench.rounds, f"gRPC, {callers} callers")
        for name, each in found.items():
            row = {"server": name, "callers": callers, "p99_ms": pooled(each, 0.99)}
            row |= {"per_s": middle(each, "per_second"), "cpu_us": middle(each, "cpu_us")}
            if name != OVER_GRPC:
                row |= beside(found, name, OVER_GRPC, "cpu_us")
            table.rows.append(row)
    return table


def ask_large(bench: Bench, options: argparse.Namespace) -> Table:
    table = Table(
        "77 MB there and back, one caller",
        {"server": "server", "ms": "ms / call", "x": "of our own wire x", "between": "95 % of x"}
        | {"aio_x": "of grpc.aio x", "aio_between": "95 % of that x", "cpu_ms": "CPU ms / call"},
    )
    array = numbers(*LARGE)
    body, fields = binary(array)
    message = grpc_request(array)
    ways: Ways = {}
    with bench.ours.going_on():
        raws = {
            WIRE: bench.raw("/", array),
            BINARY: bench.raw("/v2/models/echo/infer", array, body, fields),
        }
        check(decode_infer_response(raws[WIRE].call()).outputs[0].reshape(-1), array)
        check(np.frombuffer(raws[BINARY].call()[-array.nbytes :], np.float32), array)
    for name, caller in raws.items():
        ways[name] = partial(raw_turn, bench.ours, caller, bench.seconds)
    servers = {OVER_GRPC: bench.ours}
    try:
        servers[AIO] = bench.beside(grpc_aio, "grpc")
    except Unavailable as problem:
        table.notes.append(f"{AIO} is left out: {problem}")
    for name, served in servers.items():
        check_grpc(served, array)
        ways[name] = partial(served.turn, bench.grpc, "large", message, 1, bench.seconds)
    found = interleaved(ways, bench.rounds, "77 MB")
    for name, each in found.items():
        row: dict[str, Any] = {"server": name, "ms": middle(each, "ms"), "cpu_ms": middle(each, "cpu_us") / 1000}
        if name != WIRE:
            row |= beside(found, name, WIRE, "ms")
        if name != AIO and AIO in found:
            row |= {f"aio_{key}": value for key, value in beside(found, name, AIO, "ms").items()}
        table.rows.append(row)
    return table


def raw_turn(served: Served, caller: Raw, seconds: float, pause_s: float = 0) -> dict[str, Any]:
    """Calls of one raw socket, one after the other; the first does not count."""
    with served.going_on():
        caller.call()
        took: list[float] = []
        cpu, first = served.cpu_seconds(), time.perf_counter()
        while len(took) < 3 or time.perf_counter() < first + seconds:
            if pause_s:
                time.sleep(pause_s)
            began = time.perf_counter()
            caller.call()
            took.append(time.perf_counter() - began)
        rate = len(took) / (time.perf_counter() - first)
        cpu = (served.cpu_seconds() - cpu) / len(took)
    return {"ms": 1000 * median(took), "cpu_us": 1e6 * cpu, "per_second": rate, "latencies": took}


def ask_json(bench: Bench, options: argparse.Namespace) -> Table:
    table = Table(
        "JSON there and back",
        {"form": "request", "size": "tensor", "callers": "callers", "theirs_s": "FastAPI + orjson, answers/s"}
        | {"ours_s": "ours, answers/s", "x": "x", "between": "95 % of x"}
        | {"theirs_us": "their CPU us / call", "ours_us": "our CPU us / call", "cpu_x": "CPU, of ours x"},
    )
    try:
        servers = {"ours": bench.ours, "theirs": bench.beside(fastapi, "fastapi")}
    except Unavailable as problem:
        table.notes.append(f"FastAPI is left out: {problem}")
        return table
    for form, path in PATHS.items():
        for size, array in (("1 KB", numbers(1, 256)), ("600 KB", numbers(588, 256))):
            message, callers = request(form, path, array), JSON_CALLERS[size]
            try:
                for served in servers.values():
                    with served.going_on():
                        check(form.read(*posted(served.port, message)), array)
            except Failed as problem:
                table.notes.append(f"{form.name} is left out: {problem}")
                break
            ways: Ways = {
                name: partial(served.turn, bench.http, f"{form.name}-{size}", message, callers, bench.seconds)
                for name, served in servers.items()
            }
            found = interleaved(ways, bench.rounds, f"{form.name}, {size}")
            row = {"form": form.name, "size": size, "callers": callers}
            for name, each in found.items():
                row |= {f"{name}_s": middle(each, "per_second"), f"{name}_us": middle(each, "cpu_us")}
            row |= beside(found, "ours", "theirs", "per_second")
            table.rows.append({**row, "cpu_x": beside(found, "theirs", "ours", "cpu_us")["x"]})
    return table


def ask_hot(bench: Bench, options: argparse.Namespace) -> Table:
    table = Table(
        "1 KB over our own wire, before other protocols and now",
        {"callers": "callers", "before_s": "before, calls/s", "now_s": "now, calls/s", "x": "x", "between": "95 % of x"}
        | {"before_us": "before, CPU us / call", "now_us": "now, CPU us / call", "cpu_x": "CPU, of before x"}
        | {"cpu_between": "95 % of that x"},
    )
    try:
        before = Tree(bench.before)
    except ValueError as problem:
        table.notes.append(f"Not measured: {problem}")
        return table
    servers = {"before": bench.beside(lambda folder: graphpipe(folder, before), "before"), "now": bench.ours}
    message = post("/", tensor(numbers(1, 256)))
    for callers in options.callers:
        ways: Ways = {
            name: partial(served.turn, bench.http, "wire", message, callers, bench.seconds)
            for name, served in servers.items()
        }
        found = interleaved(ways, 2 * bench.rounds, f"hot route, {callers} callers")
        row: dict[str, Any] = {"callers": callers}
        for name, each in found.items():
            row |= {f"{name}_s": middle(each, "per_second"), f"{name}_us": middle(each, "cpu_us")}
        row |= beside(found, "now", "before", "per_second")
        row |= {f"cpu_{key}": value for key, value in beside(found, "now", "before", "cpu_us").items()}
        table.rows.append(row)
    return table


def beside(found: Measured, one: str, other: str, key: str) -> dict[str, Any]:
    """One way by another, of neighbouring turns."""
    x = ratio(found, one, other, key)
    return {"x": x.value, "between": [x.low, x.high]}


QUESTIONS: dict[str, Callable[[Bench, argparse.Namespace], Table]] = {
    "grpc": ask_grpc,
    "large": ask_large,
    "json": ask_json,
    "hot": ask_hot,
}


def measure(options: argparse.Namespace) -> Result:
    """Ask what is asked for, each question with servers of its own."""
    asked = [f"--{name} {value:g}" for name in ("rounds", "turn-s") if (value := vars(options)[name.replace("-", "_")])]
    options.rounds = options.rounds or (FULL_ROUNDS if options.full else ROUNDS)
    options.turn_s = options.turn_s or (FULL_TURN_S if options.full else TURN_S)
    tables = {}
    for name in options.question or QUESTIONS:
        with tempfile.TemporaryDirectory(prefix="gp") as folder, contextlib.ExitStack() as stack:
            tables[name] = QUESTIONS[name](Bench(options, Path(folder), stack), options)
    return Result(
        "protocols",
        "Other protocols, beside our own wire and beside other servers",
        " ".join(["python benchmarks/protocols.py", *options.question, *asked, *(["--full"] if options.full else [])]),
        {**about(("numpy", "uvloop", "ngh2", "grpcio", "orjson")), "rounds": str(options.rounds)},
        tables,
    )


def flags(parser: argparse.ArgumentParser) -> None:
    def whole(text: str) -> list[int]:
        return [int(each) for each in text.split(",")]

    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []])
    parser.add_argument("--before", default=BEFORE, help="a commit, or a folder with a checkout (%(default)s)")
    parser.add_argument("--callers", type=whole, default=[*CALLERS], metavar="N,...", help="of grpc and hot: 1,8,64")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}, with --full {FULL_ROUNDS}")
    parser.add_argument("--turn-s", type=float, help=f"default: {TURN_S:g}, with --full {FULL_TURN_S:g}")


if __name__ == "__main__":
    answer(measure, __doc__, flags)

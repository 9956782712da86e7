"""What a server leaves to the model: squeezenet at 8 callers, beside the model alone in the same rounds."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.harness.load import run_load
from benchmarks.harness.messages import post, tensor
from benchmarks.harness.process import Running
from benchmarks.harness.result import Table
from benchmarks.harness.rounds import interleaved, middle, ratio
from benchmarks.harness.row_models import squeezenet
from benchmarks.harness.tree import Tree

__all__ = ["share"]

IMAGE = (1, 3, 224, 224)
CALLERS, THREADS = 8, 2
ALONE, OURS, BARE = "the model alone", "GraphPipe", "a loop and threads that look at nothing"
SERVED = Path(__file__).resolve().parent / "served"


def share(rounds: int, seconds: float) -> Table:
    """Rates by turns, and where the CPU went. Callers take their CPU from the same cores, and how much is a column."""
    image = np.random.default_rng(0).random(IMAGE, np.float32)
    message, cpus = post("/", tensor(image)), len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        model, tree = squeezenet(Path(folder)), Tree()
        flags = ("--access-lines-per-s", "0", "--model", str(model), "--threads", str(THREADS))
        servers = {OURS: stack.enter_context(tree.serving(*flags)), BARE: stack.enter_context(bare(tree, model))}
        ways: dict[str, Callable[[], dict[str, float]]] = {ALONE: stack.enter_context(alone(tree, model, seconds))}
        ways |= {name: partial(asked, server, message, seconds) for name, server in servers.items()}
        found = interleaved(ways, rounds, "squeezenet, 8 callers")
    table = Table(
        f"squeezenet, {CALLERS} callers, {THREADS} threads, {rounds} rounds of {seconds:g} s",
        {"server": "server", "per_s": "images/s", "share": "of the model alone x", "callers": "CPUs taken by callers"}
        | {"rest": "of what callers left x", "cpu_ms": "CPU ms / image", "outside": "outside the run, %"}
        | {"loop_us": "of the loop, us"},
    )
    for name, each in found.items():
        row = {"server": name, "per_s": middle(each, "per_s"), "cpu_ms": middle(each, "cpu_ms")}
        if name != ALONE:
            beside = list(zip(each, found[ALONE], strict=True))
            row["share"] = ratio(found, name, ALONE, "per_s").value
            row["callers"] = middle(each, "callers")
            row["rest"] = median(one["per_s"] / it["per_s"] / (1 - one["callers"] / cpus) for one, it in beside)
            row["outside"] = median(100 * (1 - it["cpu_ms"] / one["cpu_ms"]) for one, it in beside)
            row["loop_us"] = middle(each, "loop_us")
        table.rows.append(row)
    return table


def asked(server: Running, message: bytes, seconds: float) -> dict[str, float]:
    """One round of a server: its rate, its CPU for an image and that of its event loop's thread."""
    before = server.cpu_seconds_by_thread()
    said = run_load(server.port, CALLERS, seconds, None, message)
    used = {thread: cpu - before.get(thread, 0) for thread, cpu in server.cpu_seconds_by_thread().items()}
    count = said["all_requests"]
    return {
        "per_s": said["per_second"],
        "callers": said["cpus"],
        "cpu_ms": 1e3 * sum(used.values()) / count,
        "loop_us": 1e6 * used[server.process.pid] / count,
    }


@contextlib.contextmanager
def alone(tree: Tree, model: Path, seconds: float) -> Iterator[Callable[[], dict[str, float]]]:
    """The model in a process of its own, called back to back from as many threads as servers have."""
    with program(tree, "in_process.py", model, str(THREADS)) as process:

        def round_() -> dict[str, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
            said = json.loads(process.stdout.readline())
            return {"per_s": said["calls"] / said["seconds"], "cpu_ms": 1e3 * said["cpu_s"] / said["calls"]}

        round_()
        yield round_


@contextlib.contextmanager
def bare(tree: Tree, model: Path) -> Iterator[Running]:
    with program(tree, "bare_model.py", model) as process:
        assert process.stdout is not None
        yield Running(process, int(process.stdout.readline()))


@contextlib.contextmanager
def program(tree: Tree, name: str, model: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SERVED / name), str(model), ",".join(map(str, IMAGE)), *more]
    with subprocess.Popen(
        command, env=tree.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()

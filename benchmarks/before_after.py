"""Two states of the server's code beside each other, and beside what a small call can cost at all, in one run.

    python benchmarks/before_after.py --before COMMIT [--after COMMIT] [small] [large] [squeezenet] [--rounds 7] [--save]

Either is a commit or a folder with a checkout; after is this checkout unless told otherwise, and without --before it stands
alone. All servers are up at once, on one CPU, and are asked in turn from another, so that a noisy machine is noisy for all;
what counts are medians of the ratios of neighbours. CPU is what the scheduler gave to the server's threads.

small       1 KB through echo at 1, 8 and 64 connections, in our own layout and in that of FlatBuffers' builders, beside
            Go (harness/goecho), plain aiohttp that decodes nothing, and a uvloop protocol that answers without looking
large       77 MB in, 12.8 MB out, one connection, beside a blocking socket that receives into a warm buffer
squeezenet  8 callers with an image each, beside the model in a process of its own: CPU outside the model's run
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.harness.load import run_load  # noqa: E402
from benchmarks.harness.messages import foreign, post, small, tensor  # noqa: E402
from benchmarks.harness.process import Running  # noqa: E402
from benchmarks.harness.raw import Raw  # noqa: E402
from benchmarks.harness.row_models import squeezenet  # noqa: E402
from benchmarks.harness.servers import running  # noqa: E402
from benchmarks.harness.tree import Tree  # noqa: E402

CPUS = sorted(os.sched_getaffinity(0))
OURS, THEIRS = (CPUS[0], CPUS[1]) if len(CPUS) > 1 else (None, None)
QUIET = ("--access-lines-per-s", "0")
LARGE = (128, 224, 224, 3)
IMAGE = (1, 3, 224, 224)
Times = dict[str, list[dict[str, float]]]


def rounds_of(ways: Mapping[str, Callable[[], dict[str, float]]], rounds: int) -> Times:
    """Every way in turn, forwards and backwards."""
    found: Times = {way: [] for way in ways}
    for number in range(rounds):
        for way in [*ways] if number % 2 else [*ways][::-1]:
            found[way].append(ways[way]())
    return found


def loaded(server: Running, connections: int, seconds: float, message: bytes) -> dict[str, float]:
    """One round: requests a second, p99, CPU for a request; and CPU of the event loop's thread for one."""
    before = server.cpu_seconds_by_thread()
    result = run_load(server.port, connections, seconds, THEIRS, message)
    used = {thread: cpu - before.get(thread, 0) for thread, cpu in server.cpu_seconds_by_thread().items()}
    requests = max(1, result["all_requests"])
    return {
        "per_s": result["per_second"],
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "cpu_us": 1e6 * sum(used.values()) / requests,
        "loop_us": 1e6 * used[server.process.pid] / requests,
    }


@contextlib.contextmanager
def served(trees: dict[str, Tree], *flags: str) -> Iterator[dict[str, Running]]:
    """A server of each tree, on our CPU."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(tree.serving(*QUIET, *flags, cpu=OURS)) for name, tree in trees.items()}


def ask_small(trees: dict[str, Tree], rounds: int, seconds: float, several: Sequence[int]) -> dict[str, Any]:
    numbers = np.linspace(0, 1, 256, dtype=np.float32)
    own, others = post("/", small()), post("/", foreign(numbers))
    found: dict[str, Any] = {}
    with served(trees, "--model", "echo") as servers, contextlib.ExitStack() as stack:
        beside: dict[str, Running] = {}
        for kind in ("go", "aiohttp", "bare"):
            try:
                beside[kind] = stack.enter_context(running(kind, cpu=OURS))
            except (FileNotFoundError, ValueError) as error:
                print(f"  {kind} does not run here: {error}")
        for connections in several:
            ways = {name: partial(loaded, server, connections, seconds, own) for name, server in servers.items()}
            ways |= {
                f"{name}, foreign": partial(loaded, server, connections, seconds, others)
                for name, server in servers.items()
            }
            ways |= {name: partial(loaded, server, connections, seconds, own) for name, server in beside.items()}
            pairs = [("after", other) for other in ("before", *beside)] + [("after, foreign", "before, foreign")]
            pairs += [(f"{name}, foreign", name) for name in servers]
            found[f"{connections} connections"] = shown(
                f"1 KB, {connections} connections", rounds_of(ways, rounds), pairs
            )
    return found


def ask_large(trees: dict[str, Tree], rounds: int, seconds: float, _: Sequence[int]) -> dict[str, Any]:
    array = np.random.default_rng(0).random(LARGE, dtype=np.float32)
    with served(trees, "--model", "crop=attacked:crop") as servers, running("limit", cpu=OURS) as limit:

        def way(server: Running) -> Callable[[], dict[str, float]]:
            caller = Raw(server.port, "/", array)
            caller.call()

            def calls() -> dict[str, float]:
                took: list[float] = []
                cpu, until = server.cpu_seconds(), time.perf_counter() + seconds
                while not took or time.perf_counter() < until:
                    began = time.perf_counter()
                    caller.call()
                    took.append(time.perf_counter() - began)
                each = (server.cpu_seconds() - cpu) / len(took)
                took.sort()
                p99 = took[min(len(took) - 1, len(took) * 99 // 100)]
                per_s, p50 = len(took) / sum(took), median(took)
                return {"per_s": per_s, "p50_ms": 1000 * p50, "p99_ms": 1000 * p99, "cpu_us": 1e6 * each}

            return calls

        ways = {name: way(server) for name, server in {**servers, "limit": limit}.items()}
        pairs = [("after", "before"), ("after", "limit"), ("before", "limit")]
        return shown("77 MB in, 12.8 MB out", rounds_of(ways, rounds), pairs)


def ask_squeezenet(trees: dict[str, Tree], rounds: int, seconds: float, _: Sequence[int]) -> dict[str, Any]:
    message = post("/", tensor(np.random.default_rng(0).random(IMAGE, np.float32)))
    with tempfile.TemporaryDirectory() as folder:
        model = squeezenet(Path(folder))
        with (
            served(trees, "--model", str(model), "--threads", "1") as servers,
            alone(trees["after"], model) as in_process,
        ):
            ways: dict[str, Callable[[], dict[str, float]]] = {
                name: partial(loaded, server, 8, seconds, message) for name, server in servers.items()
            }
            ways["in process"] = partial(in_process, seconds)
            times = rounds_of(ways, rounds)
    pairs = [("after", "before"), *((name, "in process") for name in trees)]
    found = shown("squeezenet, 8 callers", times, pairs)
    for name in trees:
        paired = zip(times[name], times["in process"], strict=True)
        outside = median(1 - own["cpu_us"] / server["cpu_us"] for server, own in paired)
        loop = median(server["loop_us"] / server["cpu_us"] for server in times[name])
        found[name]["cpu outside the run"], found[name]["cpu of the loop's thread"] = outside, loop
        print(
            f"  {name}: {100 * outside:.1f} % of the CPU is outside the model's run, {100 * loop:.1f} % in the loop's thread"
        )
    return found


@contextlib.contextmanager
def alone(tree: Tree, model: Path) -> Iterator[Callable[[float], dict[str, float]]]:
    """The model in a process of its own, on the CPU that servers have; a call of it is a round."""
    code = Path(__file__).parent / "harness" / "served" / "in_process.py"
    command = [tree.python, str(code), str(model), ",".join(map(str, IMAGE))]
    with subprocess.Popen(
        command, env=tree.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        preexec_fn=None if OURS is None else lambda: os.sched_setaffinity(0, {OURS}),
    ) as process:  # fmt: skip

        def run(seconds: float) -> dict[str, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{seconds}\n")
            said = json.loads(process.stdout.readline())
            return {"per_s": said["calls"] / said["seconds"], "cpu_us": 1e6 * said["cpu_s"] / said["calls"]}

        yield run


def shown(title: str, times: Times, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Print and give the medians, and the ratios of neighbours: calls a second, and CPU for a call."""
    print(f"\n{title:<34}{'calls/s':>10}{'CPU us':>10}{'p50 ms':>9}{'p99 ms':>9}")
    found: dict[str, Any] = {}
    for way, each in times.items():
        row = found[way] = {key: median(one[key] for one in each) for key in each[0]}
        p50, p99 = (f"{row[key]:9.2f}" if key in row else f"{'-':>9}" for key in ("p50_ms", "p99_ms"))
        print(f"  {way:<32}{row['per_s']:>10,.0f}{row['cpu_us']:>10,.1f}{p50}{p99}", flush=True)
    ratios: dict[str, Any] = {}
    for one, other in pairs:
        if one in times and other in times:
            both = list(zip(times[one], times[other], strict=True))
            ratio = {
                key: median(a[key] / b[key] for a, b in both)
                for key in ("per_s", "cpu_us", "p99_ms")
                if key in both[0][1]
            }
            ratios[f"{one} to {other}"] = ratio
            tail = f", p99 {ratio['p99_ms']:.2f}x" if "p99_ms" in ratio else ""
            print(
                f"  {one} to {other}: {ratio['per_s']:.2f}x the calls, {ratio['cpu_us']:.2f}x the CPU{tail}", flush=True
            )
    return {**found, "ratios": ratios}


QUESTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "small": ask_small,
    "large": ask_large,
    "squeezenet": ask_squeezenet,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []])
    parser.add_argument("--before", help="a commit, or a folder with a checkout")
    parser.add_argument("--after", default=str(ROOT), help="the same; this checkout if it is not given")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each is asked in a round")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64], help="of small calls")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/before_after.json")
    options = parser.parse_args()
    trees = {"before": Tree(options.before)} if options.before else {}
    trees["after"] = Tree(options.after)
    commits = {name: tree.commit for name, tree in trees.items()}
    print(f"{commits}, {len(CPUS)} CPUs, load average {os.getloadavg()[0]:.1f}")
    found = {
        name: QUESTIONS[name](trees, options.rounds, options.seconds, options.connections)
        for name in options.question or QUESTIONS
    }
    if options.save:
        about = {
            "machine": f"{len(CPUS)} CPUs ({platform.machine()}, Python {platform.python_version()})",
            "load average": round(os.getloadavg()[0], 1),
            "commits": commits,
            "rounds": options.rounds,
        }
        path = ROOT / "benchmarks" / "results" / "before_after.json"
        path.write_text(json.dumps({"about": about, **_rounded(found)}, indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()

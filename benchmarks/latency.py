"""How long do callers wait at a given load, who do not wait for each other?

    python benchmarks/latency.py [--full] [--save] [--rounds N] [--seconds S] [--shares 10 50 90] [--even]

Open loop: requests are due by a Poisson process (--even: at even gaps), whatever became of the earlier ones, and latency
counts from when a request was due (benchmarks/harness/arrivals.py). In each round the capacity of our server is found first,
with callers who send on their last answer; loads are shares of it, the same requests a second for everybody in that round,
with the same moments drawn. Servers have one core, the generator another, where it spins.

1 KB and 600 KB of float32 through `echo` and back:
  GraphPipe                   our own writer's layout, as clients repeat it
  GraphPipe, foreign writer   the layout of FlatBuffers' builders, repeated
  GraphPipe, nothing repeats  each request with a field in its head and a config that no other has: nothing is remembered
  Go                          net/http that decodes and encodes the same messages (clients/go), where Go is installed
  aiohttp                     a plain handler that echoes bytes and decodes nothing
  bare uvloop                 a protocol that counts bytes and answers without looking: the limit

Columns: of callers' waits p50, p90, p99 and, where 5,000 requests or more were timed in each round, p99.9; medians of the
rounds. `over` stands where a server could not keep up: more than 5 % of the requests had no answer when the last was due,
twice running, and what one would time is the length of the round. `generator late` is by how much requests left after
they were due although a connection was free (p99); a row has a star where that is more than a fifth of the p99, or where
the generator had something to do in more than 95 % of its time: then it is a measure of the generator, or of a machine
that has other work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.harness.about import about  # noqa: E402
from benchmarks.harness.arrivals import Generator, generator, message, numbers_of, once  # noqa: E402
from benchmarks.harness.process import Running  # noqa: E402
from benchmarks.harness.question import answer  # noqa: E402
from benchmarks.harness.result import Result, Table, shown  # noqa: E402
from benchmarks.harness.servers import running  # noqa: E402
from benchmarks.harness.tree import Tree  # noqa: E402
from graphpipe.wire import decode_infer_response  # noqa: E402

CPUS = sorted(os.sched_getaffinity(0))
SERVERS, GENERATOR = (CPUS[0], CPUS[1]) if len(CPUS) > 1 else (None, None)
SHARES = (10, 30, 50, 70, 80, 90, 95)
BEHIND_MAX = 0.05
QUANTILES = {"p50_ms": "p50 ms", "p90_ms": "p90 ms", "p99_ms": "p99 ms", "p999_ms": "p99.9 ms"}


@dataclass(frozen=True)
class Size:
    """Requests of one size, and how many connections there are: for the capacity, and for open loops."""

    name: str
    key: str
    floats: int
    closed: int
    open: int


SIZES = (Size("1 KB", "small", 256, 64, 192), Size("600 KB", "large", 3 * 224 * 224, 8, 48))


@dataclass(frozen=True)
class Way:
    """A server, and how requests to it are written. ``has_messages`` is whether it answers in messages of ours."""

    server: str
    kind: str = "own"
    has_messages: bool = True


WAYS = {
    "GraphPipe": Way("graphpipe"),
    "GraphPipe, foreign writer": Way("graphpipe", "foreign"),
    "GraphPipe, nothing repeats": Way("graphpipe", "new"),
    "Go": Way("go"),
    "aiohttp": Way("aiohttp", has_messages=False),
    "bare uvloop": Way("counting", has_messages=False),
}
Found = dict[str, dict[int, list[dict[str, float]]]]  # way, share, rounds


@contextlib.contextmanager
def servers() -> Iterator[tuple[dict[str, Running], list[str]]]:
    """All of them, on one core; and what does not run here, in words."""
    left_out = []
    with contextlib.ExitStack() as stack:
        up = {
            "graphpipe": stack.enter_context(
                Tree().serving("--model", "echo", "--access-lines-per-s", "0", cpu=SERVERS)
            )
        }
        for kind in ("go", "aiohttp", "counting"):
            try:
                up[kind] = stack.enter_context(running(kind, cpu=SERVERS))
            except (FileNotFoundError, ValueError) as problem:
                left_out.append(f"{kind} does not run here: {problem}.")
        yield up, left_out


def check(up: Mapping[str, Running], size: Size) -> None:
    """Everybody gives the tensor back, or the bytes, before it matters how soon. Raises AssertionError."""
    expected = numbers_of(size.floats)
    for way in WAYS.values():
        if way.server in up:
            sent = message(way.kind, size.floats).content
            body = once(up[way.server].port, sent)
            if way.has_messages:
                np.testing.assert_array_equal(decode_infer_response(body).outputs[0], expected)
            elif way.server == "aiohttp":
                assert sent.endswith(body), "the echo is none"


def ask(
    load: Generator, up: Mapping[str, Running], size: Size, shares: Sequence[int], options: argparse.Namespace
) -> tuple[Found, list[float]]:
    """What each round found by way and share, and the capacity in each."""
    ways = {name: way for name, way in WAYS.items() if way.server in up}
    found: Found = {name: {share: [] for share in shares} for name in ways}
    capacities = []
    for number in range(options.rounds):
        seconds = min(0.7, 4 * options.seconds)
        capacity = load(up["graphpipe"].port, floats=size.floats, connections=size.closed, seconds=seconds)["per_s"]
        capacities.append(capacity)
        over: set[str] = set()
        for share in shares:
            rate = capacity * share / 100
            # Where few come it takes longer until a p99 is one.
            seconds = min(max(options.seconds, 300 / rate), 2.5 * options.seconds)
            for name in [*ways] if number % 2 else [*ways][::-1]:
                if name in over:  # with less it could not keep up
                    found[name][share].append({"rate": rate, "behind": 1.0, "late_p99_ms": 0.0, "busy": 0.0})
                    continue
                for attempt in range(
                    2
                ):  # a pause of the machine at the end of a round looks like a server that is slow
                    said = load(
                        up[ways[name].server].port, kind=ways[name].kind, floats=size.floats, rate=rate,
                        seconds=seconds, connections=size.open, seed=1000 * number + share + 500 * attempt,
                        even=options.even,
                    )  # fmt: skip
                    if said["behind"] <= BEHIND_MAX:
                        break
                else:
                    over.add(name)
                found[name][share].append(said)
    return found, capacities


def row(size: Size, name: str, share: int, rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """One row of everything that was measured: medians of the rounds in which the server kept up, if it did in most."""
    kept = [each for each in rounds if each["behind"] <= BEHIND_MAX]
    found: dict[str, Any] = {
        "size": size.name,
        "server": name,
        "share": share,
        "rate": median(each["rate"] for each in rounds),
        "kept_up": 2 * len(kept) > len(rounds),
    }
    if not found["kept_up"]:
        return {**found, "mark": "over"}
    for key in (*QUANTILES, "late_p99_ms", "busy"):
        if all(key in each for each in kept):
            found[key] = median(each[key] for each in kept)
    late = found["late_p99_ms"] > 0.2 * found["p99_ms"] or found["busy"] > 0.95
    return {**found, "mark": "*" if late else ""}


def beside(size: Size, rows: Sequence[Mapping[str, Any]]) -> Table:
    """For documents: a line for each load, and side by side what callers wait."""
    names = list(dict.fromkeys(row["server"] for row in rows))
    table = Table(
        f"Waits at {size.name}, p50 / p99 in ms, by load",
        {"share": "load, % of capacity", "rate": "requests/s", **{name: name for name in names}},
    )
    for share in dict.fromkeys(row["share"] for row in rows):
        line: dict[str, Any] = {"share": str(share)}
        for each in rows:
            if each["share"] == share:
                line["rate"] = each["rate"]
                line[each["server"]] = cell(each)
        table.rows.append(line)
    return table


def cell(row: Mapping[str, Any]) -> str:
    if not row["kept_up"]:
        return "over"
    return f"{shown(row['p50_ms'])} / {shown(row['p99_ms'])}{row['mark']}"


def measure(options: argparse.Namespace) -> Result:
    options.rounds = options.rounds or (7 if options.full else 3)
    options.seconds = options.seconds or (2.0 if options.full else 0.45)
    drawn = "at even gaps" if options.even else "as a Poisson process"
    result = Result(
        "latency",
        f"What callers wait at a given load (open loop, requests due {drawn}, counted from when they were due)",
        "python benchmarks/latency.py" + (" --full" if options.full else ""),
        about(("numpy", "aiohttp", "uvloop")) | {"rounds": str(options.rounds), "arrivals": drawn},
    )
    everything = Table(
        "All of it",
        {"size": "request", "server": "server", "share": "load, %", "rate": "requests/s", **QUANTILES}
        | {"late_p99_ms": "generator late, p99 ms", "busy": "generator busy", "mark": ""},
    )
    with servers() as (up, left_out), generator(GENERATOR) as load:
        for size in SIZES:
            check(up, size)
            found, capacities = ask(load, up, size, options.shares, options)
            rows = [row(size, name, share, rounds) for name, by in found.items() for share, rounds in by.items()]
            table = result.tables[size.key] = beside(size, rows)
            table.notes += [
                f"100 % is {shown(median(capacities))} requests/s ({shown(min(capacities))} to {shown(max(capacities))}), "
                f"what {size.closed} callers get of GraphPipe who send on their last answer.",
                *left_out,
            ]
            if any(each["mark"] == "*" for each in rows):
                table.notes.append(
                    "\\* the generator was late by more than a fifth of this p99: the machine had other work, too."
                )
            everything.rows += rows
    result.tables["quantiles"] = Table(
        "GraphPipe's waits in full, our own layout",
        {
            key: label
            for key, label in everything.columns.items()
            if key in ("size", "share", "rate", *QUANTILES, "mark")
        },
        [each for each in everything.rows if each["server"] == "GraphPipe"],
    )
    result.tables["all"] = everything
    return result


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=0, help="default: 3, or 7 with --full")
    parser.add_argument("--seconds", type=float, default=0.0, help="a load in a round; default: 0.45, or 2 with --full")
    parser.add_argument("--shares", type=int, nargs="+", default=list(SHARES), help="loads, in %% of the capacity")
    parser.add_argument("--even", action="store_true", help="requests are due at even gaps")


if __name__ == "__main__":
    answer(measure, __doc__, flags)

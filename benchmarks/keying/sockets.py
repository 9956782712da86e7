"""What a key costs over real sockets: servers without keys, with one and with 1,000 in turn, asked by turns."""

from __future__ import annotations

import contextlib
import os
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness.process import Running
from benchmarks.harness.rounds import Measured, Ratio, interleaved, middle, ratio
from benchmarks.harness.tree import Tree
from benchmarks.harness.turns import Generator
from benchmarks.keying.callers import CALLERS, key_file, new_keys, request

__all__ = ["CONNECTIONS", "KINDS", "Found", "measure", "table"]

CONNECTIONS = (1, 64)
OPENED = "no key is asked for"
KINDS = (OPENED, "no key is asked for, and none is sent", "one key", "1,000 keys in turn")
WARM_S = 1.0  # every head has come twice
Found = dict[int, Measured]


def measure(rounds: int, seconds: float, tree: Tree) -> Found:
    """By connections and kind, a round each: the server's CPU for a call, microseconds, and calls a second.

    Servers have the first of this machine's CPUs, callers the last.
    """
    keys = new_keys()
    first, last = (cpus := sorted(os.sched_getaffinity(0)))[0], cpus[-1]
    sent = (request(keys[0]),), (request(),), (request(keys[0]),), tuple(map(request, keys))
    assert len(sent[-1]) == CALLERS
    found: Found = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        one, many = key_file(folder / "one", keys[:1]), key_file(folder / "many", keys)
        files: tuple[Path | None, ...] = (None, None, one, many)
        generator = stack.enter_context(Generator(folder))
        os.sched_setaffinity(generator.pid, {last})
        ways = {}
        for kind, messages, file in zip(KINDS, sent, files, strict=True):
            flags = ["--model", "echo", "--access-lines-per-s", "0"]
            flags += [] if file is None else ["--api-key-file", str(file)]
            server = stack.enter_context(tree.serving(*flags, cpu=first))
            ways[kind] = partial(_asked, generator, server, f"of {kind}", messages)
        for connections in CONNECTIONS:
            for ask in ways.values():
                ask(connections, WARM_S)
            found[connections] = interleaved(
                {kind: partial(ask, connections, seconds) for kind, ask in ways.items()},
                rounds,
                f"{connections} connections",
            )
    return found


def _asked(
    generator: Generator, server: Running, name: str, messages: tuple[bytes, ...], connections: int, seconds: float
) -> dict[str, float]:
    before = server.cpu_seconds()
    said = generator.turn(
        server.port, connections, seconds, b"".join(messages), name, warm_s=0.05, different=len(messages)
    )
    used = server.cpu_seconds() - before
    return {"cpu_us": 1e6 * used / said["all_requests"], "per_second": said["per_second"]}


def table(found: Found) -> str:
    """Medians, and ratios to the server that asks for no key and gets one, with what they lie between."""
    lines = [f"{'':<40}{'connections':>12}{'CPU us':>8}{'beside no key asked for':>28}{'calls/s':>10}"]
    for connections, kinds in found.items():
        for kind, rounds in kinds.items():
            cost = ratio(kinds, kind, OPENED, "cpu_us")
            lines.append(
                f"{kind:<40}{connections:>12}{middle(rounds, 'cpu_us'):>8.2f}{_told(cost):>28}"
                f"{middle(rounds, 'per_second'):>10,.0f}"
            )
    return "\n".join(lines)


def _told(cost: Ratio) -> str:
    return f"{cost.value:.3f} ({cost.low:.3f} to {cost.high:.3f})"

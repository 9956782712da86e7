"""What does a row from the cache cost, what does a row that is not there, and does the cache hold its limit?

    python -m benchmarks.cache [--rounds N] [--full] [--save]

Hits: requests of 128 rows of 4 KB and of one row of 600 KB, all known, beside echo's answers to the same bytes on the
same server. `same size` are models that answer what they got (so that as much is read from disk, put together and sent as
echo sends); `small answer` are a perceptron and squeezenet. Times are of whole round trips over a raw socket on loopback,
and the server's own (from its metrics: from the whole request here to its answer written; of the best round, since a
neighbour on the machine only ever adds to it). CPU is what the scheduler gave to the server's threads for one request.
Misses: squeezenet on images never seen before, with and without a cache, in turns.
`--full` inserts 1,000,000 rows of 1 KB into a store with a limit of 1 GB.
"""

from __future__ import annotations

import argparse
import re
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.batching import cpu_seconds, save, serving
from benchmarks.harness.row_models import identity, mlp, squeezenet
from graphpipe.server.stages.cache.store import RowStore
from graphpipe.wire import encode_request

CALLS = 60


class Caller:
    """A raw socket to one model; what it sends was made before."""

    def __init__(self, port: int, model: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = memoryview(bytearray(1 << 21))
        self.path = f"/models/{model}"

    def message(self, rows: np.ndarray) -> bytes:
        body = b"".join(encode_request([rows]))
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def call(self, message: bytes) -> float:
        """Seconds for one round trip."""
        started = time.perf_counter()
        self.socket.sendall(message)
        have, whole = 0, 1 << 62
        while have < whole:
            have += self.socket.recv_into(self.buffer[have:])
            if whole == 1 << 62:
                end = bytes(self.buffer[:512]).find(b"\r\n\r\n")
                if end >= 0:
                    head = bytes(self.buffer[:end]).lower()
                    assert head.startswith(b"http/1.1 200"), head
                    whole = end + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        return time.perf_counter() - started


def server_ms(port: int, model: str, during: Callable[[], Any]) -> float:
    """The server's own mean time for a request while something runs, in milliseconds."""

    def totals() -> tuple[float, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            page = answer.read().decode()
        name = "graphpipe_request_duration_seconds"
        found = [re.search(rf'^{name}_{what}{{model="{model}"}} (\S+)$', page, re.M) for what in ("sum", "count")]
        return (float(found[0][1]), float(found[1][1])) if found[0] and found[1] else (0.0, 0.0)

    before = totals()
    during()
    after = totals()
    return 1000 * (after[0] - before[0]) / (after[1] - before[1])


def hits(folder: Path, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows, image = rng.random((128, 1024), np.float32), rng.random((1, 3, 224, 224), np.float32)
    models = {
        "rows": identity(folder, 1024),
        "image": identity(folder, 3 * 224 * 224),
        "mlp": mlp(folder),
        "squeezenet": squeezenet(folder),
    }
    flags = [flag for name, path in models.items() for flag in ("--model", f"{name}={path}")]
    cases = {
        "128 rows x 4 KB": {"echo": rows, "rows": rows, "mlp": rows},
        "1 row x 600 KB": {"echo": image, "image": image.reshape(1, -1), "squeezenet": image},
    }
    found: dict[str, Any] = {}
    cached = [flag for name in models for flag in ("--cache", f"{name}=true")]
    with serving("--model", "echo", *flags, *cached, "--cache-dir", str(folder / "cache")) as (port, process):
        for case, values in cases.items():
            callers = {name: Caller(port, name) for name in values}
            messages = {name: callers[name].message(value) for name, value in values.items()}
            for name, caller in callers.items():
                for _ in range(3):  # to learn that outputs are rows, to store them, and to know them
                    caller.call(messages[name])
                    time.sleep(0.3)
            trips: dict[str, list[float]] = {name: [] for name in values}
            own: dict[str, list[float]] = {name: [] for name in values}
            cpu: dict[str, list[float]] = {name: [] for name in values}
            for _ in range(rounds):
                for name, caller in callers.items():
                    calls: list[float] = []

                    def run(
                        caller: Caller = caller, message: bytes = messages[name], calls: list[float] = calls
                    ) -> None:
                        calls += [caller.call(message) for _ in range(CALLS)]

                    before = cpu_seconds(process)
                    own[name].append(server_ms(port, name, run))
                    cpu[name].append(1000 * (cpu_seconds(process) - before) / CALLS)
                    trips[name].append(1000 * median(calls))
            print(f"\n{case}, all known")
            found[case] = {}
            for name in values:
                ratio = median(a / b for a, b in zip(trips[name], trips["echo"], strict=True))
                server_ratio = min(own[name]) / min(own["echo"])
                kind = {"echo": "echo", "rows": "same size", "image": "same size"}.get(name, f"small answer ({name})")
                line = {
                    "round trip ms": round(median(trips[name]), 3), "times echo": round(ratio, 2),
                    "server ms, best round": round(min(own[name]), 3), "times echo's": round(server_ratio, 2),
                    "CPU ms": round(median(cpu[name]), 3),
                }  # fmt: skip
                found[case][kind] = line
                print(f"  {kind:<28}" + "   ".join(f"{key} {value:>6}" for key, value in line.items()))
    return found


def misses(folder: Path, rounds: int) -> dict[str, Any]:
    path = squeezenet(folder)
    rng = np.random.default_rng(1)
    flags = ("--model", f"plain={path}", "--model", f"cached={path}", "--cache", "cached=true")
    times: dict[str, list[float]] = {"plain": [], "cached": []}
    with serving(*flags, "--cache-dir", str(folder / "misses")) as (port, _):
        callers = {name: Caller(port, name) for name in times}
        images = [rng.random((1, 3, 224, 224), np.float32) for _ in range(20)]
        for number in range(rounds):
            for name, caller in callers.items():
                messages = [caller.message(image + number) for image in images]
                times[name].append(1000 * median(map(caller.call, messages)))
    ratio = median(a / b for a, b in zip(times["cached"], times["plain"], strict=True))
    found = {f"{name} ms": round(median(rounds), 2) for name, rounds in times.items()} | {"times": round(ratio, 3)}
    print("\nsqueezenet, images never seen before\n  " + "   ".join(f"{key} {value}" for key, value in found.items()))
    return found


def full(folder: Path, rows: int = 1_000_000, limit: int = 10**9, size: int = 1024) -> dict[str, Any]:
    store = RowStore.open(folder / "full", limit)
    rng = np.random.default_rng(2)
    steps = []
    evicted, largest = 0, 0
    print(f"\n{rows:,} rows of {size} bytes into a limit of {limit:,} bytes")
    for start in range(0, rows, rows // 10):
        began = time.perf_counter()
        for _ in range(rows // 10 // 1000):
            keys, data = rng.bytes(64 * 1000), rng.bytes(1000 * size)
            batch = [(keys[64 * i : 64 * i + 64], data[size * i : size * i + size]) for i in range(1000)]
            evicted += store.write(batch).evicted
        seconds = time.perf_counter() - began
        counts = store.counts()
        largest = max(largest, counts.file_bytes)
        steps.append(round(rows / 10 / seconds))
        done = start + rows // 10
        print(
            f"  {done:>9,}: {steps[-1]:>7,} rows/s   {counts.rows:>9,} there   file {counts.file_bytes / limit:.2f} of limit"
        )
    store.close()
    (folder / "full" / "in-order").unlink()  # as after a kill: the file is checked before it is used
    began = time.perf_counter()
    RowStore.open(folder / "full", limit).close()
    check_s = time.perf_counter() - began
    print(f"  reading it as a whole before its next use: {check_s:.1f} s")
    return {
        "rows/s by tenth": steps,
        "evicted": evicted,
        "largest file, of the limit": round(largest / limit, 3),
        "check s": round(check_s, 1),
    }


def main() -> None:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--full", action="store_true", help="also insert a million rows")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/cache.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {"hits": hits(folder, options.rounds), "misses": misses(folder, options.rounds)}
        if options.full:
            results["a million rows"] = full(folder)
    if options.save:
        save("cache", results)


if __name__ == "__main__":
    main()

"""What does batching gain where a model likes many rows, and what does it cost where it does not?

    python -m benchmarks.batching [--seconds N] [--rounds N] [--save]

A multilayer perceptron 1024-2048-2048-10 with 64 callers of one row each, and squeezenet with 8 callers of one image: the
same server with and without batching, in turns, so that a busy moment of the machine hits both. The load comes from a
process of its own that sends prebuilt bytes on keep-alive connections and looks at nothing but the lengths of answers; its
own limit is measured with the echo model, so that one can see that it is not what is measured. CPU is what the scheduler
gave to the server's threads for one row: on a shared machine the one figure that neighbours change little.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import uvloop

from benchmarks.harness.load import load
from benchmarks.harness.row_models import mlp, squeezenet
from graphpipe.wire import encode_request

ROOT = Path(__file__).resolve().parent.parent


def request(shape: tuple[int, ...]) -> bytes:
    """One request, as bytes on the wire."""
    rows = np.random.default_rng(0).random(shape, np.float32)
    body = b"".join(encode_request([rows]))
    return b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@contextlib.contextmanager
def serving(*flags: str) -> Iterator[tuple[int, int]]:
    """A server as an operator starts it; gives its port and its process."""
    code = "from graphpipe.server.cli import main; main()"
    command = [sys.executable, "-c", code, "--listen", "127.0.0.1:0", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().rstrip().rstrip("/").rpartition(":")[2]), process.pid
        process.send_signal(signal.SIGTERM)


def measure(port: int, callers: int, seconds: float, shape: tuple[int, ...]) -> dict[str, float]:
    """Load from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.batching", "--load", str(port), str(callers), str(seconds)]
    done = subprocess.run([*command, *map(str, shape)], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def cpu_seconds(process: int) -> float:
    """What the scheduler has given to all threads of a process so far."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{process}/task").glob("*/schedstat")) / 1e9


CASES: tuple[tuple[str, int, tuple[int, ...], dict[str, tuple[str, ...]]], ...] = (
    (
        "mlp",
        64,
        (1, 1024),
        {
            "unbatched": (),
            "batched, wait 0": ("--batch-rows-max", "32"),
            "batched, wait 2 ms": ("--batch-rows-max", "32", "--batch-wait-ms", "2"),
        },
    ),
    (
        "squeezenet",
        8,
        (1, 3, 224, 224),
        {"unbatched": (), "batched, wait 0": ("--batch-rows-max", "8")},
    ),
)


def main() -> None:
    """Measure, print a table, and save it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/batching.json")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = {"mlp": mlp(Path(folder)), "squeezenet": squeezenet(Path(folder))}
        for name, callers, shape, ways in CASES:
            print(f"\n{name}, {callers} callers of one row")
            found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
            with contextlib.ExitStack() as servers:
                # All of them are up all the time, and idle but for their turns.
                ports = {
                    way: servers.enter_context(serving("--model", str(models[name]), *flags))
                    for way, flags in ways.items()
                }
                echo_port, _ = servers.enter_context(serving("--model", "echo"))
                for number in range(options.rounds):
                    for way in [*ways] if number % 2 else [*reversed(ways)]:
                        port, process = ports[way]
                        before = cpu_seconds(process)
                        one = measure(port, callers, options.seconds, shape)
                        rows = one["all_requests"]
                        found[way].append({**one, "cpu_ms": 1000 * (cpu_seconds(process) - before) / rows})
                echo = measure(echo_port, callers, options.seconds, shape)["per_second"]
            print(f"  {'the load alone (echo)':<24}{echo:>10.0f} rows/s")
            results[name] = {"echo rows/s": round(echo)}
            plain = found["unbatched"]
            for way, rounds in found.items():
                rate, p50, p99, cpu = (
                    median(r[key] for r in rounds) for key in ("per_second", "p50_ms", "p99_ms", "cpu_ms")
                )
                ratio = median(r["per_second"] / p["per_second"] for r, p in zip(rounds, plain, strict=True))
                tail = median(r["p99_ms"] / p["p99_ms"] for r, p in zip(rounds, plain, strict=True))
                print(
                    f"  {way:<24}{rate:>10.0f} rows/s {ratio:>6.2f}x   p50 {p50:>7.1f} ms   p99 {p99:>7.1f} ms {tail:>5.2f}x"
                    f"   CPU {cpu:>6.2f} ms/row"
                )
                results[name][way] = {
                    "rows/s": round(rate), "times": round(ratio, 2), "p50 ms": round(p50, 1), "p99 ms": round(p99, 1),
                    "CPU ms/row": round(cpu, 2),
                }  # fmt: skip
    if options.save:
        save("batching", results)


def save(name: str, results: dict[str, Any]) -> None:
    """Write results with the machine, versions and commit that they hold for."""
    import onnxruntime

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    machine = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    about = {
        "machine": f"{machine}, {os.cpu_count()} CPUs",
        "load average": [round(number, 1) for number in os.getloadavg()],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "commit": commit.stdout.strip(),
    }
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**about, "results": results}, indent=2) + "\n")
    print(f"saved to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        port, callers, seconds, *shape = sys.argv[2:]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            message = request(tuple(map(int, shape)))
            print(json.dumps(runner.run(load(int(port), int(callers), float(seconds), message))))
    else:
        main()

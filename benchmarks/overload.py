"""Ten times more requests than can be answered: what becomes of those that could be?

    python benchmarks/overload.py [--seconds 60] [--times 10] [--queue 32] [--workers 1]

The peak is what a few callers get who send their next request on their last answer, measured before and after. In between
requests leave at ten times that rate, whatever comes back. The model is a Python function of about 5 ms of work
(harness/busy.py); the server has one CPU, the load generator another.

Wanted: goodput (good answers a second) within 10 % of the peak, memory flat, and 503 in under 50 ms for the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.harness.open_load import generate

ROOT = Path(__file__).resolve().parent.parent


class Memory(threading.Thread):
    """Samples the resident memory of a process and its children, twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.samples: list[float] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            self.samples.append(sum(_resident(pid) for pid in (self.pid, *_children(self.pid))) / 1e6)

    def growth(self) -> tuple[float, float]:
        """Megabytes in the first and the last tenth of the time, the very first moments left out."""
        tenth = max(1, len(self.samples) // 10)
        return float(np.median(self.samples[tenth : 2 * tenth])), float(np.median(self.samples[-tenth:]))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


@contextlib.contextmanager
def server(queue: int, workers: int, cpu: int | None) -> Iterator[tuple[int, int]]:
    """The process id and the port of a server of the busy model."""
    command = [sys.executable, "-c", "from graphpipe.server.cli import main; main()"]
    command += ["-m", "busy=benchmarks.harness.busy:busy", "-l", "127.0.0.1:0", "--workers", str(workers)]
    command += ["--queue-requests-max", str(queue)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=None if cpu is None else lambda: os.sched_setaffinity(0, {cpu}),
    )
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline().decode().rpartition(":")[2])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--queue", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    ours, theirs = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
    aside = max(4, options.seconds / 6)
    with server(options.queue, options.workers, ours) as (pid, port):
        generate(port, 2, theirs, callers=4)  # it is warm
        before = generate(port, aside, theirs, callers=4)["by_status"]["200"]["per_second"]
        memory = Memory(pid)
        memory.start()
        result = generate(port, options.seconds, theirs, per_second=before * options.times)
        memory.over.set()
        time.sleep(1)  # what is left in the queue
        after = generate(port, aside, theirs, callers=4)["by_status"]["200"]["per_second"]
    peak = (before + after) / 2
    good, refused = (
        result["by_status"]["200"],
        result["by_status"].get("503", {"per_second": 0, "p50_ms": 0, "p99_ms": 0}),
    )
    first, last = memory.growth()
    others = {code: each["count"] for code, each in result["by_status"].items() if code not in ("200", "503")}
    lines = {
        "peak": f"{before:.0f}/s before, {after:.0f}/s after",
        "sent": f"{result['sent'] / result['seconds']:.0f}/s for {result['seconds']:.0f} s; "
        f"{result.get('unsent', 0)} found no free connection; "
        f"the generator used {100 * result['cpu_share']:.0f} % of its CPU",
        "goodput": f"{good['per_second']:.0f}/s, {100 * good['per_second'] / peak:.0f} % of the peak",
        "answered in": f"{good['p50_ms']:.1f} ms median, {good['p99_ms']:.1f} ms p99",
        "503": f"{refused['per_second']:.0f}/s, {refused['p50_ms']:.1f} ms median, {refused['p99_ms']:.1f} ms p99",
        "anything else": f"{others or 'nothing'}; {result.get('closed', 0)} connections closed",
        "memory": f"{first:.1f} MB at the start, {last:.1f} MB at the end",
    }
    print(f"{platform.machine()}, {len(cpus)} CPUs, Python {platform.python_version()}")
    for name, text in lines.items():
        print(f"{name:<14}{text}")


if __name__ == "__main__":
    main()

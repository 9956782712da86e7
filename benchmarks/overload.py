"""Ten times more requests than can be answered: what becomes of those that could be?

    python benchmarks/overload.py [--tree COMMIT ...] [--seconds 60] [--rounds 1] [--times 10] [--queue 32] [--workers 1]

The peak is what a few callers get who send their next request on their last answer, measured before and after. In between
requests leave at ten times that rate, whatever comes back. The model is a Python function of about 5 ms of work
(harness/served/busy.py); the server has one CPU, the load generator another.

Several --tree, each a commit or a folder with a checkout, are measured in turn, in as many rounds as asked for; what is
printed are medians. Without any it is this checkout.

"For its CPU" compares answers for a second of the server's CPU, here and at the peak: on a quiet machine the same figure,
on a shared one the one to believe (of --workers the parent alone is looked at; it means nothing there).

Wanted: goodput (good answers a second) of at least 95 % of the peak, memory flat, and 503 in under 50 ms for the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import threading
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.harness.open_load import generate  # noqa: E402
from benchmarks.harness.process import Running  # noqa: E402
from benchmarks.harness.tree import Tree  # noqa: E402


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


def overloaded(server: Running, seconds: float, times: float, cpu: int | None) -> dict[str, float]:
    """One round: requests a second, milliseconds, megabytes, and shares."""
    aside = max(2.0, seconds / 6)
    generate(server.port, 1, cpu, callers=4)  # it is warm
    used = [server.cpu_seconds()]
    quiet = [_good(generate(server.port, aside, cpu, callers=4)["by_status"])]
    used.append(server.cpu_seconds())
    before = quiet[0]["per_second"]
    memory = Memory(server.process.pid)
    memory.start()
    result = generate(server.port, seconds, cpu, per_second=before * times)
    memory.over.set()
    memory.join()
    used.append(server.cpu_seconds())
    time.sleep(1)  # what is left in the queue
    used.append(server.cpu_seconds())
    quiet.append(_good(generate(server.port, aside, cpu, callers=4)["by_status"]))
    used.append(server.cpu_seconds())
    after = quiet[1]["per_second"]
    peak_for_cpu = (quiet[0]["count"] + quiet[1]["count"]) / (used[1] - used[0] + used[4] - used[3])
    good, refused = _good(result["by_status"]), result["by_status"].get("503", _NONE)
    first, last = memory.growth()
    others = sum(each["count"] for code, each in result["by_status"].items() if code not in ("200", "503"))
    return {
        "peak before, /s": before,
        "peak after, /s": after,
        "sent, /s": result.get("sent", 0) / result["seconds"],
        "found no connection free": result.get("unsent", 0),
        "the generator's CPU, %": 100 * result["cpu_share"],
        "goodput, /s": good["per_second"],
        "goodput, % of the peak": 100 * good["per_second"] / ((before + after) / 2),
        "the same for its CPU, %": 100 * good["count"] / (used[2] - used[1]) / peak_for_cpu,
        "answered in, ms median": good["p50_ms"],
        "answered in, ms p99": good["p99_ms"],
        "503, /s": refused["per_second"],
        "503 in, ms median": refused["p50_ms"],
        "503 in, ms p99": refused["p99_ms"],
        "answered otherwise": others,
        "connections closed": result.get("closed", 0),
        "MB at the start": first,
        "MB at the end": last,
    }


_NONE = {"count": 0, "per_second": 0.0, "p50_ms": 0.0, "p99_ms": 0.0}


def _good(by_status: dict[str, dict[str, float]]) -> dict[str, float]:
    return by_status.get("200", _NONE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", action="append", default=[], help="a commit, or a folder with a checkout")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--queue", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    ours, theirs = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
    trees = [Tree(each) for each in options.tree] or [Tree()]
    flags = ["--model", "busy=busy:busy", "--workers", str(options.workers), "--queue-requests-max", str(options.queue)]
    found: list[list[dict[str, float]]] = [[] for _ in trees]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(tree.serving(*flags, "--access-lines-per-s", "0", cpu=ours)) for tree in trees]
        for _ in range(options.rounds):
            for server, rounds in zip(servers, found, strict=True):
                rounds.append(overloaded(server, options.seconds, options.times, theirs))
    print(f"{platform.machine()}, {len(cpus)} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    print(f"{'':<26}" + "".join(f"{tree.commit:>12}" for tree in trees))
    for what in found[0][0]:
        print(f"{what:<26}" + "".join(f"{median(one[what] for one in rounds):>12,.1f}" for rounds in found))


if __name__ == "__main__":
    main()

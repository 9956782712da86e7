"""A load generator whose requests leave when they are due, however the earlier ones fare, and which says how late it was.

    python -m benchmarks.harness.arrivals [--cpu N]

Each line of stdin is a task (JSON, see ``Task``), each line of stdout what came of it. Arrivals are a Poisson process (or
even) drawn before the clock starts, the same for every server that is asked with the same seed. A request takes a free
connection; one that finds none waits for one. Latency counts from when it was due, not from when it left, so that a server
that stalls is charged for all whom it kept waiting (what is known as coordinated omission is not there). The generator
spins on a core of its own: timers of loops are too coarse for gaps of 20 us. How late it sent what found a connection free,
which is its own fault, is measured too. Without a rate it is a closed loop: each connection sends on its last answer.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.messages import foreign, post, tensor

__all__ = ["Message", "Task", "generator", "message", "once", "quantiles"]

ROOT = Path(__file__).resolve().parents[2]
_SCRATCH = memoryview(bytearray(1 << 20))
_FIRST_BYTES = 64 * 1024
_EVENTS_MAX = 16  # answers that are read before it is looked at who is due
_PATIENCE_S = 2.0
_WARM_S = 30
_MARK = b"@@number"  # where eight digits go that are new in every request


@dataclass(frozen=True)
class Task:
    """What to send where. ``rate`` is requests a second, 0 for a closed loop; ``floats`` is the size of one float32 tensor.

    ``kind`` is how requests are written: ``own``, as our writer lays them out; ``foreign``, as FlatBuffers' builders do;
    ``new``, ours with a field in the head and a config that no other request has; ``raw`` is the tensor's bytes alone.
    """

    port: int
    kind: str = "own"
    floats: int = 256
    rate: float = 0.0
    seconds: float = 0.5
    connections: int = 64
    seed: int = 0
    even: bool = False
    path: str = "/"


@dataclass(frozen=True)
class Message:
    """A request, and where in it a number stands that is another in each."""

    content: bytes
    numbers: tuple[int, ...] = ()


def message(kind: str, floats: int, path: str = "/") -> Message:
    """The request of a kind. Raises ValueError for a kind that there is not."""
    array = numbers_of(floats)
    if kind == "own":
        return Message(post(path, tensor(array)))
    if kind == "foreign":
        return Message(post(path, foreign(array)))
    if kind == "raw":
        return Message(post(path, array.tobytes()))
    if kind != "new":
        raise ValueError(f"there is no kind of request {kind!r}; there are own, foreign, new and raw")
    body = tensor(array, config=_MARK.decode())
    content = post(path, body, "1.1", f"X-Number: {_MARK.decode()}")
    first = content.find(_MARK)
    return Message(content, (first, content.find(_MARK, first + 1)))


def numbers_of(floats: int) -> NDArray[np.float32]:
    """The tensor that all of them bear: one row."""
    return np.linspace(0, 1, floats, dtype=np.float32).reshape(1, floats)


def once(port: int, content: bytes) -> bytes:
    """The body of one answer. Raises ConnectionError if it is cut, or says something else than 200."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(content)
        received = bytearray()
        while (end := received.find(b"\r\n\r\n") + 4) < 4:
            received += _some(connection)
        head = bytes(received[:end]).lower()
        if head[9:12] != b"200":
            raise ConnectionError(f"answered with {head[9:].splitlines()[0].decode()}")
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(received) < end + length:
            received += _some(connection)
        return bytes(received[end:])


def _some(connection: socket.socket) -> bytes:
    part = connection.recv(1 << 20)
    if not part:
        raise ConnectionError("the server hung up in its answer")
    return part


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and p99.9 in milliseconds; the last only where ten or so lie beyond it."""
    ordered = sorted(seconds)
    found = {}
    for name, share in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p999_ms", 0.999)):
        if ordered and (share < 0.999 or len(ordered) >= 5000):
            found[name] = 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
    return found


class _Line:
    """A connection: when what it sent was due, what of it is yet to leave, and how much has come back."""

    __slots__ = ("content", "due", "got", "left", "socket")

    def __init__(self, port: int, what: Message) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        # Each has its own where numbers are written into it.
        self.content = bytearray(what.content) if what.numbers else what.content
        self.left = memoryview(b"")
        self.got = 0
        self.due = 0.0


class _Lines:
    """All connections of a task."""

    def __init__(self, task: Task) -> None:
        self.what = message(task.kind, task.floats, task.path)
        self.number = 0
        self.whole = 0  # bytes of an answer: those of a task are of one size
        self.poll = select.epoll()
        self.all = [_Line(task.port, self.what) for _ in range(task.connections)]
        self.by_number = {line.socket.fileno(): line for line in self.all}
        for number in self.by_number:
            self.poll.register(number, select.EPOLLIN)

    def send(self, line: _Line) -> None:
        if self.what.numbers:
            self.number += 1
            digits = b"%08d" % self.number
            for place in self.what.numbers:
                line.content[place : place + 8] = digits  # type: ignore[index]
        sent = line.socket.send(line.content)
        if sent < len(line.content):
            line.left = memoryview(line.content)[sent:]
            self.poll.modify(line.socket, select.EPOLLIN | select.EPOLLOUT)

    def events(self, timeout: float = 0) -> Iterator[_Line]:
        """Those whose answer is whole now."""
        for number, event in self.poll.poll(timeout, _EVENTS_MAX):
            line = self.by_number[number]
            if event & select.EPOLLOUT and line.left:
                with contextlib.suppress(BlockingIOError):
                    line.left = line.left[line.socket.send(line.left) :]
                if not line.left:
                    self.poll.modify(line.socket, select.EPOLLIN)
            if event & ~select.EPOLLOUT and self._received(line):
                yield line

    def _received(self, line: _Line) -> bool:
        if line.got:  # MSG_TRUNC drops what came without copying it
            came = line.socket.recv_into(_SCRATCH, len(_SCRATCH), socket.MSG_TRUNC)
        else:
            came = line.socket.recv_into(_SCRATCH, _FIRST_BYTES)
            if _SCRATCH[9:12] != b"200":
                raise ConnectionError(f"answered with {bytes(_SCRATCH[: min(came, 200)])!r}")
            if not self.whole:
                head = bytes(_SCRATCH[: min(came, 4096)]).partition(b"\r\n\r\n")[0]
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                self.whole = len(head) + 4 + length
        if not came:
            raise ConnectionError("the server hung up")
        line.got += came
        if line.got < self.whole:
            return False
        line.got = 0
        return True

    def warm(self) -> None:
        """One request on each, before anything counts."""
        for line in self.all:
            self.send(line)
        left, over = len(self.all), time.perf_counter() + _WARM_S
        while left:
            left -= sum(1 for _ in self.events(1))
            if time.perf_counter() > over:
                raise ConnectionError(f"{left} of {len(self.all)} first requests had no answer within {_WARM_S} s")

    def close(self) -> None:
        self.poll.close()
        for line in self.all:
            line.socket.close()


def run(task: Task) -> dict[str, float]:
    """What came of a task: see ``_open`` and ``_closed``. Raises ConnectionError if the server refuses or hangs up."""
    dues: list[float] = []
    if task.rate:
        count = max(1, round(task.rate * task.seconds))
        gaps = np.random.default_rng(task.seed).exponential(1 / task.rate, count)
        dues = (np.full(count, 1 / task.rate) if task.even else gaps).cumsum().tolist()
    lines = _Lines(task)
    try:
        lines.warm()
        gc.collect()
        gc.disable()
        return _open(lines, dues) if dues else _closed(lines, task.seconds)
    finally:
        gc.enable()
        lines.close()


def _open(lines: _Lines, dues: list[float]) -> dict[str, float]:
    """Latencies from when requests were due; ``behind``, the share of them that had no answer when the last was due;
    ``late_p99_ms``, by how much requests left after they were due although a connection was free; ``busy``, the share of
    its time in which the generator had something to do.
    """
    clock = time.perf_counter
    free, waiting = list(lines.all), deque[float]()
    latencies: list[float] = []
    late: list[float] = []
    at, count, behind, idle, was_idle, last = 0, len(dues), -1, 0.0, False, 0.0
    began = clock()
    while True:
        now = clock() - began
        if was_idle and behind < 0:
            idle += now - last
        last, was_idle = now, True
        while at < count and dues[at] <= now:
            was_idle = False
            if free:
                line = free.pop()
                line.due = dues[at]
                late.append(clock() - began - line.due)
                lines.send(line)
            else:
                waiting.append(dues[at])
            at += 1
        for line in lines.events():
            was_idle = False
            latencies.append(clock() - began - line.due)
            if waiting:
                line.due = waiting.popleft()
                lines.send(line)
            else:
                free.append(line)
        if at == count:
            if behind < 0:
                behind, over = count - len(latencies), now
                if behind > len(lines.all):
                    break  # who is that far behind has had enough
            if len(free) == len(lines.all) or now > over + _PATIENCE_S:
                break
    return {
        **quantiles(latencies),
        "rate": count / dues[-1],
        "requests": len(latencies),
        "behind": behind / count,
        "late_p99_ms": quantiles(late).get("p99_ms", 0.0),
        "busy": 1 - idle / over,
    }


def _closed(lines: _Lines, seconds: float) -> dict[str, float]:
    """Requests a second and latencies of callers who send on their last answer. ``all_requests`` counts the first ones, too,
    and what was under way when the time was over.
    """
    clock = time.perf_counter
    latencies: list[float] = []
    idle, was_idle = 0.0, False
    began = last = clock()
    for line in lines.all:
        line.due = clock()
        lines.send(line)
    while (now := clock()) < began + seconds:
        if was_idle:
            idle += now - last
        last, was_idle = now, True
        for line in lines.events():
            was_idle = False
            answered = clock()
            latencies.append(answered - line.due)
            line.due = answered
            lines.send(line)
    elapsed = clock() - began
    left = len(lines.all)
    while left and clock() < began + elapsed + 5:
        left -= sum(1 for _ in lines.events(0.1))
    return {
        **quantiles(latencies),
        "per_s": len(latencies) / elapsed,
        "requests": len(latencies),
        "all_requests": len(latencies) + 2 * len(lines.all) - left,
        "busy": 1 - idle / elapsed,
    }


class Generator:
    """The process that sends."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, port: int, **task: Any) -> dict[str, float]:
        """Do a task, of the fields of ``Task``. Raises RuntimeError with what it said if that went wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(Task(port, **task))) + "\n")
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError("the load generator ended")
        found: dict[str, Any] = json.loads(said)
        if "error" in found:
            raise RuntimeError(f"{task}: {found['error']}")
        return found


@contextlib.contextmanager
def generator(cpu: int | None = None) -> Iterator[Generator]:
    """A generator in a process of its own, on a CPU of its own if one is named."""
    command = [sys.executable, "-m", "benchmarks.harness.arrivals", *([] if cpu is None else ["--cpu", str(cpu)])]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        try:
            yield Generator(process)
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", type=int)
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    for line in sys.stdin:
        try:
            said: dict[str, Any] = run(Task(**json.loads(line)))
        except (ConnectionError, ValueError) as problem:
            said = {"error": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

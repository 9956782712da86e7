"""Room for bodies and answers, taken or kept by those who do not need it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter

import numpy as np

from benchmarks.attacking.attack import MIB, Saw, Scene, attack
from benchmarks.harness.innocent import Calls
from benchmarks.harness.messages import post, small, tensor
from benchmarks.harness.strangers import all_at_once, answer, connect, crowd, hang_up

TRICKLE_S = 8.0
ROOM = ("--in-flight-bytes-max", 256 * MIB, "--body-bytes-max", 64 * MIB)


@attack(
    "bodies of a batched model",
    "4 callers send 60 good requests of 12 MB, one after another; 256 MiB may be in flight",
    "--model", "echo", "--model", "rows=attacked:rows", "--batch-rows-max", "rows=8", *ROOM,
)  # fmt: skip
def batched(scene: Scene) -> Saw:
    message = post("/models/rows", tensor(np.ones((1, 3_000_000), np.float32)))
    seen: Counter[str] = Counter()

    def call(number: int) -> None:
        connection = connect(scene.port)
        for _ in range(15):
            status, _ = answer(connection, message)
            seen[status] += 1
            if status != "200":
                connection.close()
                connection = connect(scene.port)
        connection.close()

    all_at_once(4, call)
    return dict(seen)


def _trickle(scene: Scene) -> Saw:
    def trickle(number: int) -> str | None:
        connection = connect(scene.port)
        until = time.monotonic() + TRICKLE_S
        try:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (32 * MIB))
            connection.settimeout(0.5)
            while time.monotonic() < until:
                connection.sendall(bytes(2750))
                with contextlib.suppress(TimeoutError):
                    return connection.recv(4096)[9:12].decode() or "cut"
            return "still sending"
        finally:
            hang_up(connection)

    return dict(all_at_once(9, trickle, TRICKLE_S))


_WHAT = "9 connections promise 32 MiB each and send 5.5 KB/s; 256 MiB may be in flight; innocent bodies: "
attack(
    "trickling bodies, and large ones", _WHAT + "1 MB",
    "--model", "echo", *ROOM, innocent=Calls(floats=1 << 18, per_second=5),
)(_trickle)  # fmt: skip
attack(
    "trickling bodies, and small ones", _WHAT + "1 KB, in a packet of their own",
    "--model", "echo", *ROOM, innocent=Calls(split=True),
)(_trickle)  # fmt: skip


@attack(
    "bare heads",
    "4,000 connections send a head that promises 65,000 bytes, and no body, for 3 s; 64 MiB may be in flight",
    "--model", "echo", "--in-flight-bytes-max", 64 * MIB, "--body-bytes-max", 48 * MIB,
)  # fmt: skip
def bare_heads(scene: Scene) -> Saw:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65000\r\n\r\n"
    with crowd(scene.port, 4000, head) as connections:
        time.sleep(3)
        return {"connected": len(connections)}


@attack(
    "answers that nobody reads",
    "40 callers ask for 16 MB each and read nothing for 3 s; 64 MiB may be in flight",
    "--model", "echo", "--model", "large=attacked:large",
    "--in-flight-bytes-max", 64 * MIB, "--body-bytes-max", 48 * MIB,
)  # fmt: skip
def unread_answers(scene: Scene) -> Saw:
    with crowd(scene.port, 40, post("/models/large", small(1)), receive_bytes=4096) as connections:
        time.sleep(3)
        seen: Counter[str] = Counter()
        for connection in connections:
            connection.settimeout(2)
            try:
                seen[connection.recv(12)[9:12].decode() or "cut"] += 1
            except TimeoutError:
                seen["silence"] += 1
            except OSError:
                seen["cut"] += 1
        return dict(seen)

"""Callers behind a stock nginx, which speaks HTTP/1.0 to those behind it."""

from __future__ import annotations

import contextlib
import time

import numpy as np

from benchmarks.attacking.attack import MIB, Saw, Scene, attack
from benchmarks.harness.innocent import Calls
from benchmarks.harness.messages import post, small, tensor
from benchmarks.harness.served.attacked import ANSWER_BYTES
from benchmarks.harness.strangers import answer, connect, hang_up

READ_S, READ_BYTES_PER_S = 8.0, 1_500_000


@attack(
    "hang-ups in an answer, HTTP/1.0",
    "60 callers, one after another, ask for 16 MB with 200 bytes, and hang up after 30 ms",
    "--model", "echo", "--model", "large=attacked:large",
)  # fmt: skip
def hang_ups(scene: Scene) -> Saw:
    message = post("/models/large", small(1), "1.0")
    for _ in range(60):
        connection = connect(scene.port)
        connection.sendall(message)
        time.sleep(0.03)
        hang_up(connection)
    time.sleep(0.5)
    return {"KB sent": 60 * len(message) / 1000}


@attack(
    "hang-ups with bodies, HTTP/1.0",
    "40 callers, one after another, send 12 MB to echo, read nothing, and hang up after 30 ms; 128 MiB may be in flight; "
    "innocent bodies: 1 MB",
    "--model", "echo", "--in-flight-bytes-max", 128 * MIB, "--body-bytes-max", 64 * MIB,
    innocent=Calls(floats=1 << 18, per_second=5),
)  # fmt: skip
def bodies(scene: Scene) -> Saw:
    message = post("/models/echo", tensor(np.ones(3_000_000, np.float32)), "1.0")
    refused = 0
    for _ in range(40):
        connection = connect(scene.port)
        try:
            connection.sendall(message)
        except OSError:  # refused in the middle of its body
            refused += 1
        time.sleep(0.03)
        hang_up(connection)
    time.sleep(2)  # innocent callers go on
    return {"refused in the middle": refused}


@attack(
    "resets, HTTP/1.0",
    "900 callers ask a model that takes 10 ms, one at a time, and reset; innocent callers ask the same model",
    "--model", "slow=attacked:slow", "--threads", "slow=1",
    innocent=Calls("/models/slow", per_second=20),
)  # fmt: skip
def resets(scene: Scene) -> Saw:
    message = post("/models/slow", small(), "1.0")
    for _ in range(900):
        connection = connect(scene.port)
        connection.sendall(message)
        hang_up(connection)
    began = time.monotonic()
    connection = connect(scene.port)
    status, _ = answer(connection, post("/models/slow", small()))
    connection.close()
    return {"the next caller waits, s": time.monotonic() - began, f"and gets {status}": 1}


@attack(
    "a steady slow reader, HTTP/1.0",
    "1 caller reads an answer of 16 MB at 1.5 MB/s for 8 s, then the rest; --send-timeout-s 3",
    "--model", "echo", "--model", "large=attacked:large", "--send-timeout-s", 3,
)  # fmt: skip
def slow_reader(scene: Scene) -> Saw:
    connection = connect(scene.port, receive_bytes=32 * 1024)
    connection.sendall(post("/models/large", small(1), "1.0"))
    began, have = time.monotonic(), 0
    with contextlib.suppress(OSError):
        while have < ANSWER_BYTES:
            if (now := time.monotonic()) - began < READ_S and have > (now - began) * READ_BYTES_PER_S:
                time.sleep(0.02)
                continue
            part = connection.recv(32_000 if now - began < READ_S else 1 << 20)
            if not part:
                break
            have += len(part)
    connection.close()
    return {"MB that came": have / 1e6}

"""What a few bytes can make a server write."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.attacking.attack import Saw, Scene, attack
from benchmarks.harness.messages import post, small, tensor
from benchmarks.harness.strangers import all_at_once, answer, connect

FLOOD_S = 3.0


@attack(
    "callers who leave, and the log",
    "1,000 callers send 56 bytes, the head of a chunked request, and leave",
    "--model", "echo", "--access-lines-per-s", 0,
)  # fmt: skip
def leaving(scene: Scene) -> Saw:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert len(head) == 56
    before = scene.server.log_bytes()
    for _ in range(1000):
        connection = connect(scene.port)
        connection.sendall(head)
        connection.close()
    return {"bytes of log for each": (_all_logged(scene) - before) / 1000}


@attack(
    "a failing model, and the log",
    "8 connections call a model that fails, again and again, for 3 s",
    "--model", "echo", "--model", "fails=attacked:fails", "--access-lines-per-s", 0,
)  # fmt: skip
def failing(scene: Scene) -> Saw:
    message = post("/models/fails", small())
    return _flood(scene, message)


@attack(
    "junk, and the log",
    "8 connections send bodies that are no messages, again and again, for 3 s",
    "--model", "echo", "--access-lines-per-s", 0,
)  # fmt: skip
def junk(scene: Scene) -> Saw:
    message = post("/", b"\xff" + tensor(np.ones(4, np.float32)))
    return _flood(scene, message)


def _all_logged(scene: Scene) -> int:
    """The log's bytes, once nothing has been added for a second."""
    seen = -1
    while (now := scene.server.log_bytes()) != seen:
        seen = now
        time.sleep(1)
    return now


def _flood(scene: Scene, message: bytes) -> Saw:
    before = scene.server.log_bytes()

    def call(number: int) -> str:
        connection = connect(scene.port)
        until = time.monotonic() + FLOOD_S
        count, status = 0, "200"
        while time.monotonic() < until and status not in ("cut", "silence"):
            status, _ = answer(connection, message)
            count += 1
        connection.close()
        counts.append(count)
        return status

    counts: list[int] = []
    all_at_once(8, call)
    return {"answers/s": sum(counts) / FLOOD_S, "KB of log/s": (_all_logged(scene) - before) / 1000 / FLOOD_S}

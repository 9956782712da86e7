"""What costs the event loop more than it costs those who ask."""

from __future__ import annotations

import time
from statistics import median

from benchmarks.attacking.attack import Saw, Scene, attack
from benchmarks.attacking.pages import page
from benchmarks.harness.messages import post, small
from benchmarks.harness.strangers import all_at_once, answer, connect

MODELS = [argument for number in range(100) for argument in ("--model", "echo" if not number else f"echo{number}=echo")]


@attack("metrics of many models", "1 caller reads /metrics of 100 models again and again, for 3 s", *MODELS)
def metrics(scene: Scene) -> Saw:
    took: list[float] = []
    until = time.monotonic() + 3
    while (began := time.monotonic()) < until:
        assert "graphpipe_requests_total" in page(scene, "/metrics")
        took.append(1000 * (time.monotonic() - began))
    return {"pages": len(took), "ms a page": median(took)}


@attack(
    "heads that never repeat",
    "8 connections send 8,000 small requests with one head each, then as many with a traceparent and a request id that "
    "never come again",
    "--model", "echo", "--access-lines-per-s", 0,
)  # fmt: skip
def heads(scene: Scene) -> Saw:
    body = small()

    def send(repeat: bool, first: int) -> None:
        def call(number: int) -> None:
            connection = connect(scene.port)
            for i in range(1000):
                caller, one = (0, 0) if repeat else (number, first + i)
                fields = f"traceparent: 00-{caller:032x}-{one:016x}-01", f"X-Request-Id: {caller}-{one}"
                answer(connection, post("/", body, "1.1", *fields))
            connection.close()

        all_at_once(8, call)

    found: Saw = {}
    for what, repeat in (("us of CPU, heads that repeat", True), ("us of CPU, heads that never do", False)):
        send(repeat, 0)
        before = scene.server.cpu_seconds()
        send(repeat, 1000)
        found[what] = 1e6 * (scene.server.cpu_seconds() - before) / 8000
    return found

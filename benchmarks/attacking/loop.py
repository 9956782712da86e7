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
    found: Saw = {}
    for what, fields in (
        ("us of CPU, heads that repeat", lambda i, j: ("traceparent: 00-0-0-01", "X-Request-Id: 0")),
        (
            "us of CPU, heads that never do",
            lambda i, j: (f"traceparent: 00-{i:032x}-{j:016x}-01", f"X-Request-Id: {i}-{j}"),
        ),
    ):

        def call(number: int) -> str:
            connection = connect(scene.port)
            for i in range(1000):
                status, _ = answer(connection, post("/", body, "1.1", *fields(number, i)))  # noqa: B023
            connection.close()
            return status

        all_at_once(8, call)
        before = scene.server.cpu_seconds()
        all_at_once(8, call)
        found[what] = 1e6 * (scene.server.cpu_seconds() - before) / 8000
    return found

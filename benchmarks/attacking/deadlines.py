"""Deadlines that are over when they come, and again and again."""

from __future__ import annotations

from benchmarks.attacking.attack import Saw, Scene, attack
from benchmarks.attacking.flood import flood
from benchmarks.harness.innocent import Calls
from benchmarks.harness.messages import post, small

PEER = "127.0.0.2"


@attack(
    "deadlines that are over, replayed",
    "8 callers of 127.0.0.2 send one request whose time is over in 0, 1 or 5 ms, again and again, for 3 s, to a model that "
    "takes 10 ms, one at a time; innocent callers of 127.0.0.1 ask the same model, without a deadline",
    "--model", "slow=attacked:slow", "--threads", "slow=1", "--access-lines-per-s", 0,
    innocent=Calls("/models/slow", per_second=20),
)  # fmt: skip
def replayed(scene: Scene) -> Saw:
    messages = [post("/models/slow", small(), "1.1", f"GraphPipe-Timeout-Ms: {ms}") for ms in (0, 1, 5)]
    return flood(scene, lambda number, count: messages[number % 3], source=PEER)

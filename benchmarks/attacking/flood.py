"""The same again and again, from many connections at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from benchmarks.attacking.attack import Saw, Scene
from benchmarks.harness.strangers import all_at_once, answer, connect

__all__ = ["FLOOD_S", "flood"]

FLOOD_S = 3.0


def flood(
    scene: Scene, message: Callable[[int, int], bytes], callers: int = 8, fresh: bool = False, source: str = ""
) -> Saw:
    """What so many callers get a second, each on a connection of its own, or on a ``fresh`` one for each message, for 3 s.

    ``message`` gives what a caller, by his number, sends as his first, his second and so on. A connection that is cut is
    made again.
    """

    def call(number: int) -> None:
        connection = connect(scene.port, source)
        until, count = time.monotonic() + FLOOD_S, 0
        while time.monotonic() < until:
            try:
                status, _ = answer(connection, message(number, count))
            except ValueError:  # a connection that ended told the end of an answer only
                status = "cut"
            seen[status] += 1
            count += 1
            if fresh or status in ("cut", "silence"):
                connection.close()
                connection = connect(scene.port, source)
        connection.close()

    seen: Counter[str] = Counter()
    all_at_once(callers, call)
    return {f"{status}/s": count / FLOOD_S for status, count in sorted(seen.items())}

"""Connections: many that say nothing, and many of one peer."""

from __future__ import annotations

import asyncio
from collections import Counter

from benchmarks.attacking.attack import Saw, Scene, attack
from benchmarks.attacking.handshakes import silent
from benchmarks.harness.innocent import Calls
from benchmarks.harness.messages import post, small

PEER_S = 10.0


@attack(
    "silent connections",
    "1,500 connections say nothing for 8 s to a server with 1,024 descriptors; --head-timeout-s 2; innocent callers connect "
    "for each call",
    "--model", "echo", "--head-timeout-s", 2,
    innocent=Calls(fresh=True, per_second=20), descriptors=1024,
)  # fmt: skip
def nothing_said(scene: Scene) -> Saw:
    return silent(scene, 1500)


@attack(
    "one peer with many connections",
    "1,100 connections of 127.0.0.2 call a model that takes 10 ms, one at a time, again and again, for 10 s; innocent "
    "callers of 127.0.0.1 ask the same model",
    "--model", "slow=attacked:slow", "--threads", "slow=1", "--access-lines-per-s", 0,
    innocent=Calls("/models/slow", per_second=10, timeout_s=15),
)  # fmt: skip
def one_peer(scene: Scene) -> Saw:
    message = post("/models/slow", small())
    seen: Counter[str] = Counter()

    async def caller() -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", scene.port, local_addr=("127.0.0.2", 0))
                while True:
                    writer.write(message)
                    head = await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
                    seen[head[9:12].decode()] += 1
                    if head[9:12] != b"200":
                        await asyncio.sleep(0.5)
            except (OSError, asyncio.IncompleteReadError):
                seen["cut"] += 1
                await asyncio.sleep(0.5)

    async def all_of_them() -> None:
        callers = [asyncio.create_task(caller()) for _ in range(1100)]
        await asyncio.sleep(PEER_S)
        for each in callers:
            each.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    asyncio.run(all_of_them())
    return {f"{status}/s": count / PEER_S for status, count in sorted(seen.items())}

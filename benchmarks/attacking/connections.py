"""Connections: many that say nothing, and many of one peer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

from benchmarks.attacking.attack import Saw, Scene, attack
from benchmarks.harness.innocent import Calls
from benchmarks.harness.messages import post, small
from benchmarks.harness.strangers import closed_by_the_server, crowd

SILENT_S = 8.0
PEER_S = 10.0


def _silent(scene: Scene, count: int) -> Saw:
    with crowd(scene.port, count) as connections:
        time.sleep(SILENT_S)
        return {"connected": len(connections), "closed by the server": closed_by_the_server(connections)}


@attack(
    "silent connections",
    "1,500 connections say nothing for 8 s to a server with 1,024 descriptors; --head-timeout-s 2; innocent callers connect "
    "for each call",
    "--model", "echo", "--head-timeout-s", 2,
    innocent=Calls(fresh=True, per_second=20), descriptors=1024,
)  # fmt: skip
def silent(scene: Scene) -> Saw:
    return _silent(scene, 1500)


def _certificate(folder: Path) -> tuple[str, ...]:
    import trustme

    path = folder / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return ("--tls-cert", str(path))


@attack(
    "silent TLS handshakes",
    "300 connections begin no handshake for 8 s; --head-timeout-s 2",
    "--model", "echo", "--head-timeout-s", 2,
    innocent=Calls(tls=True), prepare=_certificate,
)  # fmt: skip
def silent_tls(scene: Scene) -> Saw:
    return _silent(scene, 300)


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

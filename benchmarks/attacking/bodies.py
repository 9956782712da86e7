"""Bodies that are too large, at once or when they are inflated."""

from __future__ import annotations

import gzip
import os
import zlib

from benchmarks.attacking.attack import MIB, Saw, Scene, attack
from benchmarks.attacking.flood import flood
from benchmarks.harness.messages import post

ROOM = ("--in-flight-bytes-max", 256 * MIB, "--body-bytes-max", 64 * MIB)


@attack(
    "bodies over the limit",
    "8 callers begin bodies of 65 MB, of 2 GB, of 1 TB and of chunks of 65 MB, and send 1 MB of each, on a new connection "
    "each time, for 3 s; --body-bytes-max 64 MiB",
    "--model", "echo", *ROOM,
)  # fmt: skip
def over_the_limit(scene: Scene) -> Saw:
    start, mega = "POST / HTTP/1.1\r\nHost: h\r\n", bytes(1_000_000)
    lengths = (65 * MIB, 2 << 30, 1 << 40)
    heads = [f"{start}Content-Length: {length}\r\n\r\n".encode() for length in lengths]
    heads.append(f"{start}Transfer-Encoding: chunked\r\n\r\n{65 * MIB:x}\r\n".encode())
    return flood(scene, lambda number, count: heads[(number + count) % len(heads)] + mega, fresh=True)


def bomb(mebibytes: int) -> bytes:
    """Gzip of so many MiB of zeros: one compressed piece of 16 MiB, again and again."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = deflate.compress(bytes(16 * MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    return gzip.compress(b"")[:10] + piece * (mebibytes // 16) + end + bytes(8)


@attack(
    "bombs",
    "8 callers send 1 MB of gzip that is 1 GB of zeros, and the same in gzip again, each on a new "
    "connection, for 3 s; --body-bytes-max 64 MiB",
    "--model", "echo", *ROOM,
)  # fmt: skip
def bombs(scene: Scene) -> Saw:
    once = bomb(1024)
    twice = gzip.compress(once, 9)
    messages = [
        post("/", once, "1.1", "Content-Encoding: gzip"),
        post("/", twice, "1.1", "Content-Encoding: gzip, gzip"),
    ]
    return {"KB sent": len(once) / 1000} | flood(
        scene, lambda number, count: messages[(number + count) % len(messages)], fresh=True
    )


@attack(
    "compressed bodies that become as large as they may",
    "8 callers send gzip of 0.5 MB that becomes 48 MiB, which is no message, again and again, for 3 s; a ratio of 96 where "
    "100 is allowed; 256 MiB may be in flight",
    "--model", "echo", *ROOM,
)  # fmt: skip
def just_allowed(scene: Scene) -> Saw:
    size = 48 * MIB
    body = gzip.compress(os.urandom(size // 96 - 50_000) + bytes(size - size // 96 + 50_000), 6)
    assert 90 < size / len(body) < 100, size / len(body)
    message = post("/", body, "1.1", "Content-Encoding: gzip")
    return {"ratio": size / len(body)} | flood(scene, lambda number, count: message)

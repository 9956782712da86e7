"""Heads that can be read in two ways, and paths that lead somewhere."""

from __future__ import annotations

import contextlib
import time
from collections import Counter

from benchmarks.attacking.attack import Saw, Scene, attack
from benchmarks.attacking.flood import FLOOD_S, flood
from benchmarks.harness.messages import post, small
from benchmarks.harness.strangers import all_at_once, connect

HIDDEN = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
# In place of the length: after each, what is hidden is the body's rest for one reader, and a request for another.
TWO_WAYS = (
    "Content-Length: {length}\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: {length}",
    "Content-Length: 5\r\nContent-Length: {length}",
    "Content-Length: {length}\r\nContent-Length: 5",
    "Content-Length: 5, {length}",
    "Content-Length: {length}\r\nTransfer-Encoding: xchunked",
    "Content-Length: {length}\r\nTransfer-Encoding : chunked",
    "Content-Length: {length}\r\nTransfer-Encoding:\x0bchunked",
    "Content-Length: {length}\r\nX: y\r\n Transfer-Encoding: chunked",
    "Content-Length: {length}\r\nX: y\nTransfer-Encoding: chunked",
    "Transfer-Encoding: identity, chunked\r\nContent-Length: {length}",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: {length}",
    "Content-Length: +{length}",
    "Content-Length: 0x{length:x}",
)


def _twofold(way: str) -> bytes:
    body = b"0\r\n\r\n" + HIDDEN
    return f"POST / HTTP/1.1\r\nHost: h\r\n{way.format(length=len(body))}\r\n\r\n".encode("latin-1") + body


@attack(
    "heads that can be read in two ways",
    f"8 callers send requests with two lengths, or with a length and chunks, in {len(TWO_WAYS)} notations, and another "
    "request hidden in the body, each on a new connection, for 3 s",
    "--model", "echo",
)  # fmt: skip
def two_ways(scene: Scene) -> Saw:
    seen: Counter[str] = Counter()

    def call(number: int) -> None:
        until, count = time.monotonic() + FLOOD_S, number
        while time.monotonic() < until:
            with connect(scene.port, timeout_s=2) as connection:
                received = b""
                with contextlib.suppress(OSError):
                    connection.sendall(_twofold(TWO_WAYS[count % len(TWO_WAYS)]))
                    while part := connection.recv(65536):
                        received += part
            seen[received[9:12].decode() or "cut"] += 1
            seen["hidden requests answered"] += b"graphpipe_requests_total" in received
            count += 1

    seen["hidden requests answered"] = 0
    all_at_once(8, call)
    hidden = seen.pop("hidden requests answered")
    return {f"{status}/s": count / FLOOD_S for status, count in sorted(seen.items())} | {
        "hidden requests answered": hidden
    }


PATHS = (
    "/models/../../../../etc/passwd", "/models/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/models/..%2f..%2fetc%2fpasswd",
    "/models/echo/../../etc/passwd", "/models/echo%00.py", "/models/..%5c..%5cwindows", "/models/%2Fetc%2Fpasswd",
    "/models/file:%2F%2F%2Fetc%2Fpasswd", "/models/http:%2F%2F127.0.0.1%2F", "/models/%c0%ae%c0%ae/etc/passwd",
    "/metrics/../etc/passwd", "/models/" + "a" * 8000, "/models/" + "%61" * 2000,
)  # fmt: skip


@attack(
    "paths as names of models",
    f"8 callers ask for {len(PATHS)} paths that lead out of a folder, to a file or to another server, or are very long, "
    "again and again, for 3 s",
    "--model", "echo", "--access-lines-per-s", 0,
)  # fmt: skip
def paths(scene: Scene) -> Saw:
    messages = [post(path, small(4)) for path in PATHS]
    return flood(scene, lambda number, count: messages[(number + count) % len(messages)])

"""Memory that callers on the same host show, and descriptors that they pass."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacking.attack import MIB, Saw, Scene, attack
from benchmarks.attacking.flood import FLOOD_S
from benchmarks.harness.innocent import Calls
from benchmarks.harness.messages import post
from benchmarks.harness.strangers import all_at_once, answer
from graphpipe.memory.segment import Segment
from graphpipe.wire import decode_infer_response, encode_request

UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: graphpipe-memory/1\r\n\r\n"
AT_ONCE = 253
X = np.linspace(0, 1, 20_000, dtype=np.float32)


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(path))
    connection.sendall(UPGRADE)
    assert b" 101 " in connection.recv(4096)
    return connection


def _message(x: NDArray[Any], memory: str, area: str = "", path: str = "/") -> bytes:
    fields = [f"GraphPipe-Memory: {memory}"] + ([f"GraphPipe-Memory-Answer: {area}"] if area else [])
    return post(path, b"".join(encode_request([x], elsewhere=frozenset((0,)))), "1.1", *fields)


def _ask(connection: socket.socket, message: bytes, descriptors: list[int]) -> str:
    with contextlib.suppress(OSError):
        message = message[socket.send_fds(connection, [message], descriptors) :]
    return answer(connection, message)[0]


def _again_and_again(scene: Scene, callers: int, ask: Callable[[socket.socket, int, int], str], each: int = 0) -> Saw:
    """What so many callers see a second; whose connection is cut has another one, or who has asked ``each`` times on it."""
    seen: Counter[str] = Counter()

    def call(number: int) -> None:
        connection, count = _connect(scene.path), 0
        until = time.monotonic() + FLOOD_S
        while time.monotonic() < until:
            status = ask(connection, number, count)
            seen[status] += 1
            count += 1
            if status in ("cut", "silence") or (each and not count % each):
                connection.close()
                connection = _connect(scene.path)
        connection.close()

    all_at_once(callers, call)
    return {f"{status}/s": count / FLOOD_S for status, count in sorted(seen.items())}


@contextlib.contextmanager
def _lingering() -> Iterator[socket.socket]:
    """A connection that is full, and keeps whoever closes it last for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lingers = socket.create_connection(listener.getsockname())
        reader, _ = listener.accept()
    with reader, lingers:
        lingers.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                lingers.send(bytes(MIB))
        lingers.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
        yield lingers


@attack(
    "descriptors without heads",
    f"8 callers who may pass memory send one byte after the other with {AT_ONCE} descriptors each, among them of "
    "connections that keep whoever closes them, and leave without a request, again and again, for 3 s",
    "--model", "echo",
    unix=True, innocent=Calls(),
)  # fmt: skip
def without_heads(scene: Scene) -> Saw:
    passed: Counter[str] = Counter()
    most = 0

    def call(number: int) -> None:
        nonlocal most
        until = time.monotonic() + FLOOD_S
        while time.monotonic() < until:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(5)
            with connection, contextlib.suppress(OSError):
                connection.connect(str(scene.path))
                connection.sendall(UPGRADE)
                if b" 101 " not in connection.recv(4096):
                    passed["refusals"] += 1
                    time.sleep(0.01)
                    continue
                for byte in b"POST":
                    with _lingering() as lingers:
                        socket.send_fds(connection, [bytes((byte,))], [lingers.fileno()] * AT_ONCE)
                    passed["descriptors"] += AT_ONCE
            most = max(most, len(os.listdir(f"/proc/{scene.server.process.pid}/fd")))

    all_at_once(8, call)
    return {f"{what}/s": count / FLOOD_S for what, count in passed.items()} | {"open in the server at once": most}


@attack(
    "memory with holes",
    "4 callers show ever new segments of 64 MiB that nobody has written to, for 3 s",
    "--model", "fails=attacked:fails", "--model", "echo", "--in-flight-bytes-max", 256 * MIB, "--body-bytes-max", 64 * MIB,
    unix=True,
)  # fmt: skip
def holes(scene: Scene) -> Saw:
    size = 64 * MIB - 4096
    message = _message(np.empty(size // 8, np.int64), f"0=0:0+{size}", path="/models/fails")  # which is copied

    def ask(connection: socket.socket, number: int, count: int) -> str:
        segment = Segment.create(64 * MIB)
        return _ask(connection, message, [segment.fd])

    return _again_and_again(scene, 4, ask)


LIES = (
    "0=0:0+{size}, 0=0:0+{size}", "0=0:64+{size}", "0=0:9223372036854775744+64", "0=1:0+{size}", "0=16:0+{size}",
    "0=0:1+{size}",
    "0=0:0+64", "1=0:0+{size}", "0=0:0+{size}, 7=0:0+64", "0=0:0+0", "0=0:-64+64", "", "0", "," * 8000,
    ", ".join(f"{i}=0:0+64" for i in range(300)),
)  # fmt: skip


@attack(
    "memory fields that lie",
    f"8 callers say of one segment what is so, and then in {len(LIES)} ways what is not, again and again, for 3 s",
    "--model", "echo",
    unix=True,
)  # fmt: skip
def lies(scene: Scene) -> Saw:
    segment = Segment.create(X.nbytes)
    messages = [_message(X, each.format(size=X.nbytes)) for each in ("0=0:0+{size}", *LIES)]

    def ask(connection: socket.socket, number: int, count: int) -> str:
        return _ask(connection, messages[count % len(messages)], [segment.fd])

    return _again_and_again(scene, 8, ask, each=len(messages))


@attack(
    "memory that changes under a cache",
    "4 callers show rows that they change all the while, and 2 ask for the same rows as bytes and look at what they get, "
    "for 3 s",
    "--model", "rows=attacked:rows", "--model", "echo", "--cache", "rows=true", "--cache-version", "rows=1",
    unix=True,
)  # fmt: skip
def changing_rows(scene: Scene) -> Saw:
    rows = np.arange(40_000, dtype=np.float32).reshape(400, 100)
    as_bytes = post("/models/rows", b"".join(encode_request([rows])))
    segments = [Segment.create(rows.nbytes) for _ in range(4)]
    views = [np.frombuffer(each.view, np.float32).reshape(rows.shape) for each in segments]
    shown = _message(rows, f"0=0:0+{rows.nbytes}", path="/models/rows")
    wrong: Counter[str] = Counter()
    until = time.monotonic() + FLOOD_S

    def change() -> None:
        while time.monotonic() < until:
            for view in views:
                view[...] = rows
                view[::2] = -1

    def ask(connection: socket.socket, number: int, count: int) -> str:
        if number < 4:
            return _ask(connection, shown, [segments[number].fd])
        connection.sendall(as_bytes)
        received = b""
        while (end := received.find(b"\r\n\r\n") + 4) < 4 or len(received) < end + rows.nbytes:
            part = connection.recv(1 << 20)
            if not part:
                return "cut"
            received += part
        (found,) = decode_infer_response(received[end:]).outputs
        wrong["rows"] += int((found != rows + 1).any(axis=1).sum())
        return "right" if np.array_equal(found, rows + 1) else "WRONG"

    changer = threading.Thread(target=change)
    changer.start()
    try:
        return _again_and_again(scene, 6, ask) | {"wrong rows": wrong["rows"]}
    finally:
        changer.join()

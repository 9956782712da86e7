"""HTTP/2: frames that cost their sender nothing, windows that stay shut, messages that do not come."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable

from benchmarks.attacking.attack import MIB, Saw, Scene, attack
from benchmarks.attacking.bodies import ROOM
from benchmarks.attacking.flood import FLOOD_S
from benchmarks.harness.strangers import all_at_once, connect
from tests.grpc.frames import (
    ACK,
    CALL,
    CONTINUATION,
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RESET,
    SETTINGS,
    UPDATE,
    block,
    frame,
    head,
    number,
    prefixed,
)

MANY = 20_000
HELLO = PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK)
FIELDS = tuple((name, "/inference.GRPCInferenceService/ModelInfer" if name == ":path" else of) for name, of in CALL)
SHUT_S = 6.0


def _floods() -> list[bytes]:
    """One of each kind: what asks for an answer, what asks for nothing, what begins and ends at once, what never ends."""
    streams = range(1, 2 * MANY, 2)
    return [
        frame(SETTINGS) * MANY,
        frame(PING, 0, 0, bytes(8)) * MANY,
        frame(PRIORITY, 0, 3, number(0) + b"\x10") * MANY,
        frame(UPDATE, 0, 0, number(1)) * MANY,
        head(1, fields=FIELDS) + frame(DATA, 0, 1) * MANY,
        b"".join(head(stream, fields=FIELDS) + frame(RESET, 0, stream, number(8)) for stream in streams),
        head(1, fields=FIELDS, flags=0) + frame(CONTINUATION, 0, 1, block((("a", "b"),))) * MANY,
        b"".join(head(stream, fields=FIELDS) for stream in streams),
    ]


@attack(
    "HTTP/2 floods",
    "8 callers, each with another kind of 20,000 frames (settings, pings, priorities, windows, empty data, streams that are "
    "reset at once, a head without end, streams without a message), on a new connection each time, for 3 s",
    "--model", "echo", "--access-lines-per-s", 0, needs="ngh2",
)  # fmt: skip
def floods(scene: Scene) -> Saw:
    kinds = _floods()

    def call(which: int) -> str:
        with contextlib.closing(connect(scene.port, timeout_s=5)) as connection:
            try:
                connection.sendall(HELLO + kinds[which])
                while connection.recv(1 << 16):
                    pass
            except TimeoutError:
                return "kept/s"
        return "sent away/s"

    seen = all_at_once(len(kinds), call, FLOOD_S)
    cut = seen.pop("cut", 0)  # before all was sent
    return {"sent away/s": (seen["sent away/s"] + cut) / FLOOD_S, "kept/s": seen["kept/s"] / FLOOD_S}


def _calls(message: Callable[[int], bytes]) -> bytes:
    return b"".join(head(stream, fields=FIELDS) + message(stream) for stream in range(1, 201, 2))


def _until_they_end(scene: Scene, connections: int, hello: bytes, calls: bytes) -> Saw:
    """How many of these calls were ended within the time, and when the first was."""

    def call(which: int) -> None:
        with contextlib.closing(connect(scene.port, timeout_s=1)) as connection:
            connection.sendall(hello + calls)
            came = b""
            while (left_s := began + SHUT_S - time.monotonic()) > 0:
                connection.settimeout(left_s)
                try:
                    data = connection.recv(1 << 16)
                except TimeoutError:
                    break
                if not data:
                    cut.append(which)
                    break
                came += data
                while len(came) >= 9 and len(came) >= (end := 9 + int.from_bytes(came[:3], "big")):
                    if came[3] == RESET or (came[3] == HEADERS and came[4] & END_STREAM):
                        ended.add((which, int.from_bytes(came[5:9], "big")))
                        first_s.append(time.monotonic() - began)
                    came = came[end:]

    ended: set[tuple[int, int]] = set()
    cut: list[int] = []
    first_s: list[float] = []
    began = time.monotonic()
    all_at_once(connections, call)
    seen = {"calls that were ended": len(ended), "connections that were ended": len(cut)}
    return {**seen, **({"the first after, s": min(first_s)} if first_s else {})}


def _field(key: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([key << 3 | 2]) + length + bytes([size]) + content


@attack(
    "HTTP/2 windows that stay shut",
    "8 connections, each with 100 calls of echo with 56 KB, whose answers may have one byte each, for 6 s; "
    "--send-timeout-s 2",
    "--model", "echo", "--send-timeout-s", 2, "--access-lines-per-s", 0, needs="ngh2",
)  # fmt: skip
def shut(scene: Scene) -> Saw:
    floats = 14_000
    shape = bytes([floats & 127 | 128, floats >> 7])
    tensor = _field(1, b"x") + _field(2, b"FP32") + _field(3, shape)
    data = prefixed(_field(1, b"echo") + _field(5, tensor) + _field(7, bytes(4 * floats)))
    pieces = [data[at : at + 16384] for at in range(0, len(data), 16384)]

    def message(stream: int) -> bytes:
        return b"".join(frame(DATA, END_STREAM if each is pieces[-1] else 0, stream, each) for each in pieces)

    hello = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1)) + frame(SETTINGS, ACK)
    return _until_they_end(scene, 8, hello, _calls(message))


@attack(
    "gRPC messages that do not come",
    "8 connections, each with 100 calls that promise 30 MiB and send nothing of it, for 6 s; 256 MiB may be in flight; "
    "--body-timeout-s 2",
    "--model", "echo", *ROOM, "--body-timeout-s", 2, "--access-lines-per-s", 0, needs="ngh2",
)  # fmt: skip
def promised(scene: Scene) -> Saw:
    promise = b"\x00" + number(30 * MIB)
    return _until_they_end(scene, 8, HELLO, _calls(lambda stream: frame(DATA, 0, stream, promise)))

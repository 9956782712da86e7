"""JSON: documents that are too much, and documents that are as much as is taken."""

from __future__ import annotations

from benchmarks.attacking.attack import MIB, Saw, Scene, attack
from benchmarks.attacking.bodies import ROOM
from benchmarks.attacking.flood import flood
from benchmarks.harness.messages import post

INFER = "/v2/models/echo/infer"
# So many numbers of 15 digits are 64 MiB, which is also as many values as are taken.
NUMBERS = 4_190_000
LISTS = 1_040_000


def _document(shape: str, data: bytes) -> bytes:
    head = f'{{"inputs":[{{"name":"x","datatype":"FP64","shape":[{shape}],"data":['.encode()
    return post(INFER, head + data + b"]}]}")


@attack(
    "JSON bombs",
    "8 callers send 64 MB of lists that begin, 900 KB of them, 64 MB of lists and objects that are empty, and a document of "
    "65 MiB, each on a new connection, for 3 s; 256 MiB may be in flight",
    "--model", "echo", *ROOM, needs="orjson",
)  # fmt: skip
def bombs(scene: Scene) -> Saw:
    messages = [
        post(INFER, b"[" * 64_000_000),
        post(INFER, b"[" * 900_000),
        post(INFER, b"[" + b"[],{}," * 10_600_000 + b"0]"),
        post(INFER, b" " * 65 * MIB),
    ]
    return flood(scene, lambda number, count: messages[(number + count) % len(messages)], fresh=True)


@attack(
    "JSON as large as it may be",
    f"4 callers send {NUMBERS:,} numbers of 15 digits (67 MB), or {LISTS:,} lists of one, to echo, which answers "
    "with as much, each on a new connection, for 3 s; 256 MiB may be in flight",
    "--model", "echo", *ROOM, needs="orjson",
)  # fmt: skip
def largest(scene: Scene) -> Saw:
    numbers = _document(str(NUMBERS), b",".join([b"0.1234567890123"] * NUMBERS))
    lists = _document(f"{LISTS},1", b",".join([b"[1]"] * LISTS))
    messages = [numbers, lists]
    return flood(scene, lambda number, count: messages[(number + count) % 2], callers=4, fresh=True)

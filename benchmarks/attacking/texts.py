"""Strings, names and texts: few bytes that stand for much, and what is kept of them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.attacking.attack import MIB, Saw, Scene, attack
from benchmarks.harness.innocent import Calls
from benchmarks.harness.messages import foreign, post, shared_strings, tensor
from benchmarks.harness.strangers import all_at_once, answer, connect

TEXT_BYTES = 15 * MIB


def _one_after_another(scene: Scene, *messages: bytes) -> Saw:
    """What each is answered with, the longest time that one took, and the largest refusal."""
    seen: Saw = {}
    longest_s, refusal_bytes = 0.0, 0
    for message in messages:
        connection = connect(scene.port, timeout_s=60)
        began = time.monotonic()
        status, size = answer(connection, message)
        longest_s = max(longest_s, time.monotonic() - began)
        connection.close()
        seen[status] = seen.get(status, 0) + 1
        refusal_bytes = max(refusal_bytes, 0 if status == "200" else size)
    return {**seen, "longest, s": longest_s, **({"bytes of a refusal": refusal_bytes} if refusal_bytes else {})}


@attack(
    "shared strings",
    "2 requests with 2,000,000 elements that are one empty string, 8 MB each (an eighth of what the wire allows)",
    "--model", "echo",
)  # fmt: skip
def shared(scene: Scene) -> Saw:
    return _one_after_another(scene, *[post("/", shared_strings(2_000_000))] * 2)


@attack(
    "shared strings, as many as are taken",
    "2 requests with 1,000,000 elements that are one empty string, 4 MB each",
    "--model", "echo",
)  # fmt: skip
def most_strings(scene: Scene) -> Saw:
    return _one_after_another(scene, *[post("/", shared_strings(1_000_000))] * 2)


@attack(
    "config texts",
    "24 requests to a batched model, each with 1 KB of data and another config of 15 MiB",
    "--model", "echo", "--model", "rows=attacked:rows", "--batch-rows-max", "rows=8",
)  # fmt: skip
def configs(scene: Scene) -> Saw:
    row = np.ones((1, 256), np.float32)
    texts = (f"{number:02}".ljust(TEXT_BYTES) for number in range(24))
    return _one_after_another(scene, *(post("/models/rows", tensor(row, config=text)) for text in texts))


@attack(
    "a failing request with many strings",
    "1 request with 1,000,000 strings without a character, 12 MB, to a model that fails (an eighth of 91 MiB)",
    "--model", "echo", "--model", "fails=attacked:fails",
)  # fmt: skip
def failing(scene: Scene) -> Saw:
    strings = np.full(1_000_000, b"", object)
    return _one_after_another(scene, post("/models/fails", tensor(strings)))


def _frozen(folder: Path) -> tuple[str, ...]:
    """A frozen graph of one Identity, written as protobuf by hand: nobody has to import TensorFlow for it."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    def node(name: str, op: str, kind: str, *inputs: str) -> bytes:
        attribute = field(1, kind.encode()) + field(2, b"\x30\x01")  # DT_FLOAT
        content = field(1, name.encode()) + field(2, op.encode())
        content += b"".join(field(3, source.encode()) for source in inputs) + field(5, attribute)
        return field(1, content)

    path = folder / "frozen.pb"
    path.write_bytes(node("x", "Placeholder", "dtype") + node("y", "Identity", "T", "x"))
    return ("--model", f"frozen={path}")


@attack(
    "a long output name",
    "3 callers at once ask a frozen TensorFlow graph for an output with a name of 15 MiB; innocent callers ask it "
    "too",
    "--model", "echo",
    prepare=_frozen, needs="tensorflow", innocent=Calls("/models/frozen"),
)  # fmt: skip
def output_name(scene: Scene) -> Saw:
    message = post("/models/frozen", foreign(np.ones(256, np.float32), "y" * TEXT_BYTES))
    sizes: list[int] = []

    def call(number: int) -> str:
        connection = connect(scene.port, timeout_s=60)
        status, size = answer(connection, message)
        sizes.append(size)
        connection.close()
        return status

    began = time.monotonic()
    return {**all_at_once(3, call), "all, s": time.monotonic() - began, "bytes of a refusal": max(sizes)}

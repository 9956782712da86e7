"""A caller that shows memory to a server, by hand: the exact fields and descriptors that a test wants to send."""

from __future__ import annotations

import array
import os
import re
import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpipe.memory.segment import Segment
from graphpipe.wire import decode_infer_response, encode_request
from tests.raw_http import Answer, Wire

Array = NDArray[Any]
_ENTRY = re.compile(r"(\d+)=(\d+)\+(\d+)")


def aligned(size: int) -> int:
    return -(-size // 64) * 64


def segment_of(arrays: Sequence[Array], room: int = 0) -> tuple[Segment, list[str]]:
    """A segment with the bytes of arrays, and ``room`` behind them; and where each of them is, of descriptor 0."""
    segment = Segment.create(max(1, sum(aligned(each.nbytes) for each in arrays) + room))
    at, places = 0, []
    for each in arrays:
        segment.view[at : at + each.nbytes] = np.ascontiguousarray(each).tobytes()
        places.append(f"0:{at}+{each.nbytes}")
        at += aligned(each.nbytes)
    return segment, places


def send(
    wire: Wire,
    body: bytes,
    descriptors: Sequence[int],
    memory: str | None = None,
    answer: str | None = None,
    *lines: str,
    path: str = "/",
) -> None:
    """One request, whose descriptors go with its first bytes."""
    fields = [f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *lines]
    if memory is not None:
        fields.append(f"GraphPipe-Memory: {memory}")
    if answer is not None:
        fields.append(f"GraphPipe-Memory-Answer: {answer}")
    data = "\r\n".join([*fields, "", ""]).encode() + body
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sent = wire.socket.sendmsg([data], control)
    wire.send(data[sent:])


def message(inputs: Sequence[object], shown: Sequence[int], names: Sequence[str] = (), **more: Any) -> bytes:
    return b"".join(encode_request(inputs, names, elsewhere=frozenset(shown), **more))


class Called:
    """An answer, and what its outputs are: in the message, or in the memory that was shown for them."""

    def __init__(self, answer: Answer, segment: Segment, area: int) -> None:
        self.answer = answer
        self.status = answer.status
        self.kept = answer.headers.get("graphpipe-memory-kept", "")
        self.memory = answer.headers.get("graphpipe-memory", "")
        self.outputs: list[Array] = []
        if self.status == 200:
            elsewhere = {}
            for i, at, length in _ENTRY.findall(self.memory):
                assert int(at) % 64 == 0
                start = area + int(at)
                elsewhere[int(i)] = segment.view[start : start + int(length)]
            self.outputs = decode_infer_response(answer.body, elsewhere=elsewhere or None).outputs


def call(
    wire: Wire, inputs: Sequence[Array], *lines: str, names: Sequence[str] = (), room: int = 0, path: str = "/"
) -> Called:
    """Show all inputs that are numbers, and ``room`` for outputs, in one segment."""
    shown = [i for i, each in enumerate(inputs) if each.dtype.kind in "biuf" and each.nbytes]
    segment, places = segment_of([inputs[i] for i in shown], room)
    memory = ", ".join(f"{i}={place}" for i, place in zip(shown, places, strict=True)) or None
    area = segment.size - room
    answer = f"0:{area}+{room}" if room else None
    body = message(inputs, shown, names)
    send(wire, body, [segment.fd] if memory or answer else [], memory, answer, *lines, path=path)
    return Called(wire.answer(), segment, area)


def open_here() -> int:
    """The descriptors of this process, in which the server is too."""
    return len(os.listdir("/proc/self/fd"))


def mapped_here(segment: Segment | None = None) -> int:
    """How many pieces of shared memory this process sees, or how often it sees this one."""
    with open("/proc/self/maps") as maps:
        found = [line for line in maps if "memfd:graphpipe" in line]
    return sum(segment is None or line.split()[4] == str(segment.key[1]) for line in found)

"""What is guarded: the codec, the hot route, the exchange and the clients, each by what a user calls or sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.guarding.within import client, codec
from benchmarks.harness.messages import foreign, post, small, tensor

__all__ = ["SERVERS", "SUBJECTS", "Subject"]

# Settings of the servers that are asked. Without a line for each request, and with one for each.
SERVERS = {
    "quiet": ("--model", "echo", "--model", "rows=attacked:rows", "--access-lines-per-s", "0"),
    "logging": ("--model", "echo", "--access-lines-per-s", "1000000"),
}


@dataclass(frozen=True)
class Subject:
    """One thing that a commit may have made dearer.

    With a ``server`` it is asked over a socket, and ``request`` gives the bytes by their number; otherwise it is called
    in a process of its own (within/).
    """

    room: str
    what: str
    server: str = ""
    request: Callable[[int], bytes] = lambda number: b""
    status: bytes = b"200"

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.room}: {self.what}"

    @property
    def process(self) -> str:
        """Which process of a tree does it."""
        return self.server or "called"


def _always(request: bytes) -> Callable[[int], bytes]:
    return lambda number: request


def _traced(number: int) -> bytes:
    return post("/", _OWN, "1.1", f"traceparent: 00-{number:032x}-00f067aa0ba902b7-01")


def _chunked(body: bytes) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


_OWN = small()
_ROWS = tensor(np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 256))
_THEIRS = foreign(np.linspace(0, 1, 256, dtype=np.float32))

SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        *(Subject("codec", name) for name in codec.calls(Path())),
        Subject("hot route", "1 KB", "quiet", _always(post("/models/echo", _OWN))),
        Subject("hot route", "1 KB, other writer", "quiet", _always(post("/models/echo", _THEIRS))),
        Subject("hot route", "1 KB, worker thread", "quiet", _always(post("/models/rows", _ROWS))),
        Subject("exchange", "1 KB, access line", "logging", _always(post("/", _OWN))),
        Subject("exchange", "1 KB, traced, access line", "logging", _traced),
        Subject("exchange", "1 KB in chunks, access line", "logging", _always(_chunked(_OWN))),
        Subject("exchange", "1 KB by aiohttp, access line", "logging", _always(post("/", _OWN, "1.1", "TE: trailers"))),
        Subject("exchange", "a refusal, access line", "logging", _always(post("/", b"no message")), b"400"),
        *(Subject("client", name) for name in client.batches("")),
    )
}

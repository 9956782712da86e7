"""The server's side of memory, by hand: what a client shows, looked at; and answers that may say anything of it."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from graphpipe.client.calls import Array
from graphpipe.wire import InferRequest, decode_request, encode_infer_response
from tests.canned import Caller, Canned, Talk, answer, canned

__all__ = ["ASKED", "YES", "Look", "Shown", "hand_made", "looking"]

# The exact bytes that ask for it.
ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: graphpipe-memory/1"
YES = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: graphpipe-memory/1\r\n\r\n"


@dataclass
class Shown:
    """A request, with the memory that it shows."""

    fields: dict[str, str]  # of its head, names in lower case
    inputs: list[Array]
    segments: list[memoryview]
    inodes: list[int]
    area: memoryview | None = None

    @property
    def places(self) -> dict[int, tuple[int, int, int]]:
        """Descriptor, offset and length of each tensor that is shown."""
        return _places(self.fields.get("graphpipe-memory", ""))

    def answer(self, *arrays: Array, kept: str = "") -> bytes:
        """The bytes of an answer whose outputs go to the area as far as they fit; those bytes are written here."""
        told, at = [], 0
        for i, array in enumerate(arrays):
            end = at + array.nbytes
            if self.area is not None and array.nbytes >= 1 << 16 and end <= len(self.area):
                self.area[at:end] = array.tobytes()
                told.append((i, f"{i}={at}+{array.nbytes}"))
                at = -(-end // 64) * 64
        body = b"".join(encode_infer_response(arrays, elsewhere=frozenset(i for i, _ in told)))
        lines = [f"GraphPipe-Memory: {', '.join(text for _, text in told)}"] if told else []
        return answer(body, "200 OK", *lines, *([f"GraphPipe-Memory-Kept: {kept}"] if kept else []))


class Look:
    """A connection on which memory is passed, from the server's side."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._received = b""
        self._fds: list[int] = []

    def request(self) -> Shown | None:
        """The next request, or None if the caller left."""
        while b"\r\n\r\n" not in self._received:
            if not self._receive():
                return None
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        lines = [line.decode().partition(": ") for line in head.split(b"\r\n")[1:]]
        fields = {name.lower(): value for name, _, value in lines}
        length = int(fields["content-length"])
        while len(self._received) < length:
            if not self._receive():
                return None
        body, self._received = self._received[:length], self._received[length:]
        fds, self._fds = self._fds, []
        shown = Shown(fields, [], [], [])
        for fd in fds:
            shown.segments.append(memoryview(mmap.mmap(fd, os.fstat(fd).st_size)))
            shown.inodes.append(os.fstat(fd).st_ino)
            os.close(fd)
        places = {i: shown.segments[n][at : at + size] for i, (n, at, size) in shown.places.items()}
        request = decode_request(body, elsewhere=places)
        assert isinstance(request, InferRequest)
        shown.inputs = request.inputs
        if room := fields.get("graphpipe-memory-answer"):
            (n, at, size), *_ = _places(f"0={room}").values()
            shown.area = shown.segments[n][at : at + size]
        with self.caller.server.lock:
            self.caller.server.requests += 1
        return shown

    def _receive(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self.caller.socket, 1 << 16, 32)
        self._received += data
        self._fds += fds
        return bool(data)


def _places(field: str) -> dict[int, tuple[int, int, int]]:
    found = {}
    for entry in filter(None, field.split(", ")):
        tensor, _, place = entry.partition("=")
        number, _, span = place.partition(":")
        at, _, size = span.partition("+")
        assert int(at) % 64 == 0
        found[int(tensor)] = int(number), int(at), int(size)
    return found


def looking(run: Callable[[Shown], bytes]) -> Talk:
    """A server that says yes, and answers each request with the bytes that ``run`` gives; others it echoes."""

    def talk(caller: Caller) -> None:
        if caller.read_head() != ASKED:
            caller.unread_head()
            caller.serve()
            return
        caller.send(YES)
        look = Look(caller)
        while (shown := look.request()) is not None:
            caller.send(run(shown))

    return talk


@contextlib.contextmanager
def hand_made(folder: Path, *talks: Talk) -> Iterator[Canned]:
    """A server on a Unix socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "peer.sock"))
    listener.listen()
    with canned(*talks, listener=listener) as server:
        yield server

"""A caller who is as quick as a blocking socket can be."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from graphpipe.wire import Segment, encode_request

__all__ = ["Raw"]


class Raw:
    """A raw socket client: sends prebuilt segments, receives into one warm buffer.

    ``segments`` are a body in another protocol than ours, and ``fields`` what its head has besides.
    """

    def __init__(
        self, port: int, path: str, array: Any, segments: Sequence[Segment] = (), fields: Sequence[str] = ()
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        segments = segments or encode_request([array])
        lines = [f"POST {path} HTTP/1.1", "Host: h", *fields, f"Content-Length: {sum(map(len, segments))}", "", ""]
        head = "\r\n".join(lines).encode()
        self.pieces = [head, *segments]
        self.buffer = memoryview(bytearray(90_000_000))

    def call(self) -> memoryview:
        for piece in self.pieces:
            self.socket.sendall(piece)
        have = 0
        while (end := bytes(self.buffer[: min(have, 4096)]).find(b"\r\n\r\n")) < 0:
            have += self._receive(have)
        length = int(bytes(self.buffer[:end]).lower().split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        while have < end + 4 + length:
            have += self._receive(have)
        return self.buffer[end + 4 : have]

    def _receive(self, have: int) -> int:
        count = self.socket.recv_into(self.buffer[have:])
        if not count:
            raise ConnectionResetError
        return count

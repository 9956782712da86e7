"""Work that no commit of ours changes: what is measured beside it is a ratio that means the same on another machine."""

from __future__ import annotations

import socket

__all__ = ["Yardstick"]

_PAGE = bytes(4096)


class Yardstick:
    """A little of each thing that a call is made of: the interpreter's loop, a copy, a message through the kernel."""

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()
        self._copy = bytearray(4096)
        self._received = memoryview(bytearray(4096))

    def __call__(self) -> None:
        seen: dict[int, str] = {}
        for number in range(60):
            seen[number % 8] = str(number)
        self._copy[:] = _PAGE
        self._here.sendall(_PAGE[:1024])
        self._there.recv_into(self._received)

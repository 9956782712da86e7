"""Sockets of callers who mean no good, or do not care."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

__all__ = ["all_at_once", "answer", "closed_by_the_server", "connect", "crowd", "hang_up"]


def connect(port: int, source: str = "", receive_bytes: int = 0, timeout_s: float = 20) -> socket.socket:
    """A connection, from an address of one's own (127.0.0.2 is another peer) and with a receive buffer of one's own."""
    connection = socket.socket()
    connection.settimeout(timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    if source:
        connection.bind((source, 0))
    connection.connect(("127.0.0.1", port))
    return connection


def hang_up(connection: socket.socket) -> None:
    """Close with a reset, as a process does that is killed."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def answer(connection: socket.socket, message: bytes = b"") -> tuple[str, int]:
    """What comes back: the status, and the bytes of the body that came; ``cut`` if it ends early, ``silence`` if nothing
    comes for the connection's time.
    """
    try:
        connection.sendall(message)
    except TimeoutError:
        return "silence", 0
    except OSError:
        pass  # it may have been answered before all was sent
    received = b""
    try:
        while (end := received.find(b"\r\n\r\n") + 4) < 4:
            part = connection.recv(65536)
            if not part:
                return "cut", 0
            received += part
        fields = received[:end].lower().partition(b"content-length:")[2]
        length, have = int(fields.split(b"\r\n")[0] or 0), len(received) - end
        while have < length:
            part = connection.recv(1 << 20)
            if not part:
                return "cut", have
            have += len(part)
    except TimeoutError:
        return "silence", 0
    except OSError:
        return "cut", 0
    return received[9:12].decode(), have


@contextlib.contextmanager
def crowd(
    port: int, count: int, say: bytes = b"", receive_bytes: int = 0, source: str = ""
) -> Iterator[list[socket.socket]]:
    """So many connections, each of which says something; those that could not be made, or were cut at once, are missing."""
    connections = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            connections.append(connect(port, source, receive_bytes, timeout_s=3))
            connections[-1].sendall(say)
    try:
        yield connections
    finally:
        for connection in connections:
            hang_up(connection)


def closed_by_the_server(connections: list[socket.socket]) -> int:
    """How many of these the server has closed, as far as one sees without waiting; answers are read and dropped."""
    closed = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            while True:
                if not connection.recv(1 << 16):
                    closed += 1
                    break
        except BlockingIOError:
            pass
        except OSError:
            closed += 1
    return closed


def all_at_once(callers: int, call: Callable[[int], str | None], seconds: float = 0) -> Counter[str]:
    """Each in a thread of its own: what ``call`` came back with, once each, or again and again for so long."""
    seen: Counter[str] = Counter()
    until = time.monotonic() + seconds

    def work(number: int) -> None:
        while True:
            try:
                said = call(number)
            except OSError:
                said = "cut"
            if said is not None:
                seen[said] += 1
            if time.monotonic() >= until:
                return

    threads = [threading.Thread(target=work, args=(i,)) for i in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen

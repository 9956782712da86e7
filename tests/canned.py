"""A server by hand: it counts connections and requests, and answers with whatever bytes a test wants."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from graphpipe.wire import IOMetadata, MetadataResponse, Type, decode_request
from graphpipe.wire.messages import InferRequest, encode_infer_response, encode_metadata_response

Talk = Callable[["Caller"], None]


def answer(body: bytes, status: str = "200 OK", *headers: str, version: str = "1.1") -> bytes:
    """The bytes of an answer with its Content-Length."""
    lines = [f"HTTP/{version} {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def outputs(*arrays: object) -> bytes:
    """The body of an answer with these outputs."""
    return b"".join(encode_infer_response(arrays))


def metadata(inputs: Sequence[str], outputs: Sequence[str], element: Type = Type.FLOAT32) -> bytes:
    """The body of an answer that describes a model."""
    return encode_metadata_response(
        MetadataResponse(
            "canned", inputs=tuple(IOMetadata(n, "", (-1,), element) for n in inputs),
            outputs=tuple(IOMetadata(n, "", (-1,), element) for n in outputs),
        )
    )  # fmt: skip


class Caller:
    """One accepted connection, as the server sees it."""

    def __init__(self, server: Canned, connection: socket.socket) -> None:
        self.server = server
        self.socket = connection
        self.head = b""
        self._buffer = b""

    def read_head(self) -> bytes:
        """The head of the next request; empty if the caller left."""
        while b"\r\n\r\n" not in self._buffer:
            more = self.socket.recv(65536)
            if not more:
                return b""
            self._buffer += more
        self.head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return self.head

    def unread_head(self) -> None:
        """Have the head that was read last be the next one again."""
        self._buffer = self.head + b"\r\n\r\n" + self._buffer

    def read_request(self) -> bytes:
        """The body of the next request; empty if the caller left. Counts it."""
        if not self.read_head():
            return b""
        (length,) = (
            int(line.split(b":")[1]) for line in self.head.split(b"\r\n") if line.startswith(b"Content-Length:")
        )
        parts, have = [self._buffer[:length]], min(length, len(self._buffer))
        self._buffer = self._buffer[length:]
        while have < length:
            parts.append(self.socket.recv(min(1 << 20, length - have)))
            if not parts[-1]:
                return b""
            have += len(parts[-1])
        with self.server.lock:
            self.server.requests += 1
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def serve(self, *, until: int = 1 << 30) -> None:
        """Echo requests as a decent server does, at most ``until`` of them."""
        for _ in range(until):
            body = self.read_request()
            if not body:
                return
            message = decode_request(body)
            self.send(answer(outputs(*message.inputs) if isinstance(message, InferRequest) else metadata(["x"], ["y"])))

    def reset(self) -> None:
        """Close with a reset, as a crashing host does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


class Canned:
    """Runs ``talk`` for each connection, in a thread of its own. ``talks`` says it for the first ones one by one."""

    def __init__(self, talks: Sequence[Talk], listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self.talks = talks
        self.connections = 0
        self.requests = 0
        self.errors: list[BaseException] = []
        self.lock = threading.Lock()
        self.listener = listener
        self._tls = tls
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        address = self.listener.getsockname()
        if self.listener.family == socket.AF_UNIX:
            return f"unix:{address}"
        scheme = "https" if self._tls else "http"
        return f"{scheme}://localhost:{address[1]}" if self._tls else f"{scheme}://127.0.0.1:{address[1]}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self._open.append(connection)
                talk = self.talks[min(self.connections, len(self.talks) - 1)]
                self.connections += 1
            thread = threading.Thread(target=self._talk, args=(talk, connection), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, talk: Talk, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                with self.lock:
                    self._open.append(connection)
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                talk(Caller(self, connection))
            except AssertionError as error:
                self.errors.append(error)
            finally:
                connection.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(10)
        assert not self.errors, self.errors


@contextlib.contextmanager
def canned(*talks: Talk, listener: socket.socket | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Canned]:
    """A server by hand on a free port."""
    server = Canned(talks or (Caller.serve,), listener or socket.create_server(("127.0.0.1", 0), backlog=256), tls)
    try:
        yield server
    finally:
        server.close()


X = np.arange(6, dtype=np.float32).reshape(2, 3)

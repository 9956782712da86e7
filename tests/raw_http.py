"""HTTP by hand: the exact bytes that a test wants to send, and an answer taken apart without mercy."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Wire:
    """A connection that sends bytes as they are and reads answers as every client of ours may rely on them."""

    def __init__(self, url: str, timeout_s: float = 30, tls: ssl.SSLContext | None = None) -> None:
        self.socket = connect(url, timeout_s)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=urlsplit(url).hostname)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, to_head: bool = False) -> Answer:
        """The next answer. Every one carries its length: nothing of ours ends with the connection or in chunks."""
        line = self._file.readline()
        assert line.startswith(b"HTTP/1."), f"no status line: {line!r}"
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while (line := self._file.readline()) != b"\r\n":
            assert line.endswith(b"\r\n"), f"the head ends in {line!r}"
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if status < 200 or status == 204:
            return Answer(status, headers, b"")
        assert "content-length" in headers, f"no Content-Length: {status} {headers}"
        assert "transfer-encoding" not in headers
        length = 0 if to_head else int(headers["content-length"])
        body = self._file.read(length)
        assert len(body) == length
        return Answer(status, headers, body)

    def ended(self) -> bool:
        """Whether the server closes the connection next; waits for it, and for nothing more to come."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True

    def call(self, method: str, target: str = "/", body: bytes | None = None, **headers: str) -> Answer:
        self.send(request(method, target, body, **headers))
        return self.answer(to_head=method == "HEAD")


def request(method: str, target: str = "/", body: bytes | None = None, **headers: str) -> bytes:
    """A request's bytes. ``content_encoding="gzip"`` becomes a header; a body brings its Content-Length along."""
    lines = [f"{method} {target} HTTP/1.1", "Host: test"]
    lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in headers.items()]
    if body is not None and "transfer_encoding" not in headers and "content_length" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def chunked(body: bytes, size: int = 7) -> bytes:
    """A body in chunks of ``size`` bytes."""
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def connect(url: str, timeout_s: float = 30) -> socket.socket:
    if url.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        connection.connect(url[len("unix:") :])
        return connection
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout_s)


def call(url: str, method: str, target: str = "/", body: bytes | None = None, **headers: str) -> Answer:
    """One request on a connection of its own."""
    with Wire(url) as wire:
        return wire.call(method, target, body, **headers)

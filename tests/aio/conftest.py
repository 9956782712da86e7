"""What the asynchronous client is tried with: both kinds of event loop, and servers that do exactly as told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from graphpipe.wire import decode_request, encode_infer_response

Script = Callable[[socket.socket], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine to its end on a fresh event loop."""
    return request.param


@pytest.fixture
def scripted() -> Iterator[Callable[..., str]]:
    """A TCP server whose connections follow the scripts given, one each, in order; gives its URL."""
    with contextlib.ExitStack() as stack:
        yield lambda *scripts: stack.enter_context(_scripted(scripts))


@contextlib.contextmanager
def _scripted(scripts: tuple[Script, ...]) -> Iterator[str]:
    failures: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def follow() -> None:
            try:
                for script in scripts:
                    listener.settimeout(30)
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(30)
                        script(connection)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=follow)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(timeout=40)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def read_request(connection: socket.socket) -> bytes:
    """The body of the next request."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    (length,) = (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(1 << 20)
    return body


def answer_to(body: bytes) -> bytes:
    """A whole answer that gives back the request's tensors."""
    content = b"".join(encode_infer_response(decode_request(memoryview(body)).inputs))
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def until(read: Callable[[], Any], wanted: Any) -> None:
    """Wait until something has the value that it is to have; ``read`` may block for a moment."""
    async with asyncio.timeout(20):
        while await asyncio.to_thread(read) != wanted:  # noqa: ASYNC110 - what it watches sets no event
            await asyncio.sleep(0.01)

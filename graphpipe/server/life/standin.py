"""Who answers while no worker is up: the supervisor, with what it knows.

Health checks hear the truth (alive, since somebody is at work on it; not ready), metrics go on, and every caller is
told at once to come back in a second, instead of waiting in a queue that nobody serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Mapping

from graphpipe.errors import NotReady
from graphpipe.server.http.head import request_id_of
from graphpipe.server.http.refusal import error_headers, response_head
from graphpipe.server.numbers.counters import Counters
from graphpipe.server.numbers.metrics import CONTENT_TYPE, Metrics
from graphpipe.server.protocols.graphpipe import error_body

__all__ = ["StandIn"]

_TEXT = "text/plain; charset=utf-8"
_PATIENCE_S = 2.0


class StandIn:
    """Answers on some listening sockets, each with its TLS context or None, while it is told to. ``metrics`` is the one
    that has these, if one has.
    """

    def __init__(
        self,
        sockets: Mapping[socket.socket, ssl.SSLContext | None],
        counters: Counters,
        metrics: socket.socket | None,
    ) -> None:
        self._sockets = sockets
        self._with_metrics = metrics
        self._counters = counters
        self._metrics = Metrics(counters)
        self._answering = False
        self._tasks: set[asyncio.Task[None]] = set()
        for listener in sockets:
            listener.setblocking(False)

    def answer(self, wanted: bool) -> None:
        """Begin or end to answer."""
        if wanted == self._answering:
            return
        self._answering = wanted
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            if wanted:
                loop.add_reader(listener, self._accept, listener)
            elif listener.fileno() >= 0:
                loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # Whoever waits goes on waiting; asking again at once would only keep a core busy.
                self.answer(False)
                asyncio.get_running_loop().call_later(0.1, self._try_again)
            return
        task = asyncio.create_task(self._serve(connection, listener))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _try_again(self) -> None:
        if not self._counters.workers_live:
            self.answer(True)

    async def _serve(self, connection: socket.socket, listener: socket.socket) -> None:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_PATIENCE_S):
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, connection, ssl=self._sockets[listener]
                )
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                    if _path(head) == b"/metrics" and listener is self._with_metrics:
                        async with self._metrics.page() as page:
                            transport.writelines([_head(200, CONTENT_TYPE, page.length, {}), *page.parts])
                    else:
                        transport.write(self._answer_to(head))
                    if transport.can_write_eof():
                        transport.write_eof()
                    # The rest of its request is read as far as it comes: closing before would destroy the answer.
                    while await reader.read(1 << 16):
                        pass
                finally:
                    transport.close()
        connection.close()

    def _answer_to(self, head: bytes) -> bytes:
        if head.startswith(b"HEAD "):
            answer = self._answer_to(b"GET" + head[4:])
            return answer[: answer.index(b"\r\n\r\n") + 4]
        called = request_id_of(head)
        more = {"X-Request-Id": called} if called else {}
        if _path(head) in (b"/livez", b"/control/is_alive"):
            return _head(200, _TEXT, 3, more) + b"ok\n"
        error = NotReady(f"0 of {self._counters.workers_wanted} workers are up; they are being started: try again")
        kind, body = error_body(error, head.decode("latin-1") if b"application/vnd.graphpipe" in head.lower() else "")
        return _head(503, kind, len(body), {**error_headers(error), **more}) + body


def _path(head: bytes) -> bytes:
    """What is to be got; nothing for other methods."""
    method, _, rest = head.partition(b" ")
    return rest.partition(b" ")[0].partition(b"?")[0] if method == b"GET" else b""


def _head(status: int, kind: str, length: int, headers: Mapping[str, str]) -> bytes:
    return response_head(status, kind, length, {**headers, "Connection": "close"})

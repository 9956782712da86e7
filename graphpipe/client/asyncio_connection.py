"""One connection of the asynchronous client: asyncio's transport sends from the caller's own memory, and its protocol
receives the answer into a leased buffer.

No task belongs to it. A call waits on one future, which the protocol's callbacks wake; whoever is cancelled in that
wait closes this connection and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any, cast

from graphpipe.buffers import BufferPool
from graphpipe.client.address import Address
from graphpipe.client.answer import SCRATCH_BYTES, AnswerReader
from graphpipe.client.calls import Reply
from graphpipe.client.dialing import connected
from graphpipe.client.failures import NotSent, never_arrived, not_in_time, refused_late, unanswered, unreachable
from graphpipe.client.memory import ASKING_S, PROTOCOL, asking_head
from graphpipe.client.options import ANSWER_BYTES_MAX, Options
from graphpipe.errors import NoAnswer
from graphpipe.memory.rights import take_none
from graphpipe.wire import Segment

__all__ = ["AsyncConnection", "OnProgress", "attach", "connect"]

# Bytes sent, to send, received, and to receive (None while nobody knows).
OnProgress = Callable[[int, int, int, int | None], None]

# Transports may copy what the socket does not take at once (Python before 3.12, and TLS): a slice at a time, that costs
# little. Below this size pieces are joined, since one write is cheaper than two.
_SLICE_BYTES = 256 * 1024
# Other tasks get their turn at least this often while a socket takes all that it is given.
_TURN_BYTES = 16 * _SLICE_BYTES


class AsyncConnection(asyncio.BufferedProtocol):
    """A transport that speaks HTTP/1.1, one call at a time. After any error it is of no further use.

    ``on_lost`` is called once, when the connection is gone. ``shows`` is set by ``ask``: memory can be shown on it.
    """

    def __init__(self, address: Address) -> None:
        self.reusable = False
        self.shows = False
        self.answering = False  # whether an answer began to come to the last call
        self.open = True
        self.on_lost: Callable[[AsyncConnection], None] = lambda connection: None
        self.on_progress: OnProgress | None = None
        self._address = address
        self._transport: asyncio.Transport | None = None
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._answer: AnswerReader | None = None
        self._failure: Exception | None = None
        self._turn: asyncio.Future[None] | None = None
        self._full = False  # the transport has bytes that the socket did not take yet
        self._bytes_sent_before = 0
        self._never_arrived = False
        self._used = False
        self._gone = asyncio.get_running_loop().create_future()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self.open = self.reusable = False
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._transport.abort()

    async def closed(self) -> None:
        """Wait until the socket is gone, after ``abort``."""
        await asyncio.shield(self._gone)

    async def ask(self, pool: BufferPool) -> None:
        """Ask the server to look at memory. If this is ``reusable`` then, it is good for a call, whatever the answer."""
        with contextlib.suppress(NoAnswer, TimeoutError):
            async with asyncio.timeout(ASKING_S):
                head = asking_head(self._address.host_header)
                reply = await self.call(head, (), pool, ANSWER_BYTES_MAX, upgrade=PROTOCOL)
            self.shows = reply.head.status == 101

    async def call(
        self,
        head: bytes,
        segments: Sequence[Segment],
        pool: BufferPool,
        answer_bytes_max: int,
        *,
        fds: Sequence[int] = (),
        upgrade: str = "",
    ) -> Reply:
        """Send a request and receive the whole answer. ``fds`` are descriptors that go with its first byte; ``upgrade`` is
        the protocol that it asks to go on with.

        Raises NotSent if a reused connection turned out closed, NoAnswer for whatever else is not an answer.
        """
        self.reusable = False
        answer = self._answer = AnswerReader(self._address.url, self._scratch, pool, answer_bytes_max, upgrade)
        try:
            sent = await self._send(head, segments, answer, fds)
            while answer.reply is None and self.open:
                await self._wait()
            if self._failure is not None and answer.reply is None:
                raise self._failure
            if answer.reply is None:
                again = self._used and (not sent or self._never_arrived)
                raise unanswered(self._address, used=self._used, may_send_again=again)
        finally:
            self._answer, self.answering = None, answer.began
        self._used = True
        self._bytes_sent_before += len(head) + sum(map(len, segments))
        self.reusable = sent and self.open and answer.reply.head.keep_alive
        return answer.reply

    # --- out ---

    async def _send(self, head: bytes, segments: Sequence[Segment], answer: AnswerReader, fds: Sequence[int]) -> bool:
        """Send everything and say True, or stop and say False because something came in or the connection ended."""
        assert self._transport is not None
        in_this_turn = sent = 0
        total = len(head) + sum(map(len, segments)) if self.on_progress else 0
        for piece in _pieces(head, segments):
            if not self.open or answer.began:
                return False
            rest = self._rest_of(piece, fds) if fds else piece
            fds = ()
            if len(rest):
                self._transport.write(rest)
            in_this_turn += len(piece)
            sent += len(piece)
            if self.on_progress:
                self.on_progress(sent, total, 0, None)
            if in_this_turn >= _TURN_BYTES and not self._full:
                await asyncio.sleep(0)
                in_this_turn = 0
            while self._must_wait(answer):
                await self._wait()
                in_this_turn = 0
        return not self._full

    def _rest_of(self, piece: Segment, fds: Sequence[int]) -> Segment:
        """Send descriptors with a first piece, and give what the socket did not take of it."""
        # No transport passes any, but between calls it has nothing to send: nobody is overtaken.
        try:
            with socket.socket(fileno=os.dup(self._fileno())) as view:
                view.setblocking(False)
                return memoryview(piece)[socket.send_fds(view, [piece], list(fds)) :]
        except OSError as error:
            raise NotSent(f"no descriptors can be passed to {self._address.url}: {error.strerror}") from None

    def _must_wait(self, answer: AnswerReader) -> bool:
        return self._full and self.open and not answer.began

    async def _wait(self) -> None:
        self._turn = asyncio.get_running_loop().create_future()
        try:
            await self._turn
        finally:
            self._turn = None

    def _wake(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    # --- what the transport tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, and have it say whenever it holds anything back."""
        # uvloop's transports have the methods of asyncio.Transport, but do not inherit from it.
        self._transport = cast(asyncio.Transport, transport)
        # Over TLS asyncio takes a limit of 0 for always reached.
        self._transport.set_write_buffer_limits(high=1, low=0)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._scratch if self._answer is None else self._answer.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of what came."""
        if self._answer is None:
            # Nobody asked: what comes next would be taken for the answer to another request.
            self.abort()
            return
        try:
            self._answer.received(nbytes)
        except NoAnswer as error:
            self._fail(error)
        if self.on_progress:
            self.on_progress(0, 0, *self._answer.progress)
        if self._answer.reply is not None or self._full or not self.open:
            self._wake()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._full = True

    def resume_writing(self) -> None:
        """All is sent."""
        self._full = False
        self._wake()

    def eof_received(self) -> None:
        """The server closed its side; the transport closes ours."""
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._ended(exc)
        if not self._gone.done():
            self._gone.set_result(None)
        self.on_lost(self)

    def _ended(self, error: Exception | None) -> None:
        if not self.open:
            return
        if self._answer is not None:
            self._never_arrived = not self._address.tls and never_arrived(
                self._fileno(), self._bytes_sent_before, error
            )
            if not self._used:
                self._failure = self._failure or refused_late(self._address, error)
            try:
                if error is not None:
                    self._read_what_is_left(self._answer)
                if self._answer.began:
                    if error is not None and self._answer.reply is None:
                        raise NoAnswer(f"{self._address.url} closed the connection in the middle of its answer")
                    self._answer.ended()
            except NoAnswer as failure:
                failure.__cause__ = error
                self._failure = failure
        self.open = False
        self._wake()

    def _fail(self, error: NoAnswer) -> None:
        self._failure = error
        self.abort()

    def _read_what_is_left(self, answer: AnswerReader) -> None:
        """A server may refuse what it has not read, and close: its answer lies behind the error of our sending."""
        if self._address.tls or (fd := self._fileno()) < 0:
            return
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as view:
            view.setblocking(False)
            while answer.reply is None and (count := view.recv_into(answer.room())):
                answer.received(count)

    def _fileno(self) -> int:
        # Named by the transport's own socket object, which says -1 once it is closed.
        own = self._transport.get_extra_info("socket") if self._transport is not None else None
        return int(own.fileno()) if own is not None else -1


def _pieces(head: bytes, segments: Sequence[Segment]) -> Iterator[Segment]:
    """The bytes to send in the portions to send them in; nothing large is joined or copied."""
    small: list[Segment] = [head]
    size = len(head)
    for segment in segments:
        if size + len(segment) < _SLICE_BYTES:
            small.append(segment)
            size += len(segment)
            continue
        if small:
            yield b"".join(small)
        small, size = [], 0
        view = memoryview(segment)
        for start in range(0, len(view), _SLICE_BYTES):
            yield view[start : start + _SLICE_BYTES]
    if small:
        yield b"".join(small)


async def connect(options: Options) -> AsyncConnection:
    """A new connection. Raises Unreachable."""
    connection = AsyncConnection(options.address)
    try:
        await attach(options, connection)
    except BaseException:
        connection.abort()
        raise
    return connection


async def attach(options: Options, protocol: asyncio.BaseProtocol) -> None:
    """Connect a protocol to the server. Raises Unreachable; whoever made the protocol aborts it then."""
    loop = asyncio.get_running_loop()
    address = options.address
    tls: dict[str, Any] = {"ssl": options.tls, "server_hostname": address.host if options.tls else None}
    try:
        async with asyncio.timeout(options.connect_timeout):
            if address.unix_path:
                connection = await _unix_connection(address.unix_path)
                await loop.create_unix_connection(lambda: protocol, sock=connection)
            elif options.proxy is None:
                await loop.create_connection(lambda: protocol, address.host, address.port, **tls)
            elif options.tls is None:
                await loop.create_connection(lambda: protocol, options.proxy.host, options.proxy.port)
            else:
                # The tunnel is made in a thread: it is small talk with a plain socket.
                deadline = monotonic() + options.connect_timeout
                tunnel = await loop.run_in_executor(None, connected, address, options.proxy, deadline)
                tunnel.setblocking(False)
                await loop.create_connection(lambda: protocol, sock=tunnel, **tls)
    except TimeoutError:
        raise not_in_time(address, options.proxy) from None
    except OSError as error:
        raise unreachable(address, options.proxy, error) from error


async def _unix_connection(path: str) -> socket.socket:
    """A connection to a server on this host, which has no descriptors to give us."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        take_none(connection)
        await asyncio.get_running_loop().sock_connect(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection

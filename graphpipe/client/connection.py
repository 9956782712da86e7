"""One connection to a server: sends a request from the caller's own memory, receives the answer into a leased buffer."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Sequence
from math import ceil
from time import monotonic

from graphpipe.buffers import BufferPool
from graphpipe.client.address import Address
from graphpipe.client.calls import Reply
from graphpipe.client.http1 import HEAD_BYTES_MAX, Chunks, ResponseHead, parse_head
from graphpipe.errors import NoAnswer, TimedOut, Unreachable
from graphpipe.wire import Segment

__all__ = ["Connection", "NotSent"]

# sendmsg takes at most 1024 pieces at once.
_PIECES_MAX = 512
_SCRATCH_BYTES = 64 * 1024

_READ, _WRITE = select.POLLIN, select.POLLOUT


class NotSent(NoAnswer):
    """A reused connection was closed before the server can have read the request: it did not run."""


class Connection:
    """A socket that speaks HTTP/1.1, one call at a time. After any error it is of no further use.

    The socket never blocks: every wait is a poll with what is left of the call's time. While a large request goes out an
    answer may come in, since a server refuses what it will not take before it has read it.
    """

    def __init__(self, address: Address, deadline: float, tls: ssl.SSLContext | None) -> None:
        self.reusable = False
        self._address = address
        self._socket = _connect(address, deadline, tls)
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, _READ)
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._bytes_sent_before = 0
        self._used = False

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __del__(self) -> None:
        # A client that is dropped without being closed leaves no open sockets behind.
        with contextlib.suppress(AttributeError):
            self._socket.close()

    def still_open(self) -> bool:
        """Whether the server has neither closed the idle connection nor sent what nobody asked for."""
        return not self._poll.poll(0)

    def call(
        self, head: bytes, segments: Sequence[Segment], deadline: float, pool: BufferPool, response_bytes_max: int
    ) -> Reply:
        """Send a request and receive the whole answer. ``deadline`` is monotonic seconds.

        Raises NotSent if a reused connection turned out closed, TimedOut after the deadline, NoAnswer for whatever else
        is not an answer.
        """
        self.reusable = False
        url = self._address.url
        sent = False
        try:
            sent = self._send([head, *segments], deadline)
            filled = self._receive(self._scratch, deadline, wait_first=True)
        except TimeoutError:
            raise TimedOut(f"{url} gave no answer in time") from None
        except OSError as error:
            filled = 0 if sent else self._answer_before_failure()
            if not filled:
                raise self._unanswered(sent) from error
        if not filled:
            raise self._unanswered(sent)
        try:
            reply = self._reply(filled, deadline, pool, response_bytes_max)
        except TimeoutError:
            raise TimedOut(f"{url} did not finish its answer in time") from None
        except OSError as error:
            raise NoAnswer(f"{url} closed the connection in the middle of its answer") from error
        self.reusable = sent and reply.head.keep_alive
        self._used = True
        self._bytes_sent_before += len(head) + sum(map(len, segments))
        return reply

    # --- out ---

    def _send(self, pieces: Sequence[Segment], deadline: float) -> bool:
        """Send everything and say True, or stop and say False because something came in first."""
        queue = [piece for piece in pieces if len(piece)]
        tls = isinstance(self._socket, ssl.SSLSocket)
        at = 0
        while at < len(queue):
            try:
                taken = self._socket.send(queue[at]) if tls else self._socket.sendmsg(queue[at : at + _PIECES_MAX])
            except (BlockingIOError, ssl.SSLWantWriteError):
                if self._wait(_READ | _WRITE if not tls else _WRITE, deadline) & ~_WRITE:
                    return False
                continue
            except ssl.SSLWantReadError:
                self._wait(_READ, deadline)
                continue
            while at < len(queue) and taken >= len(queue[at]):
                taken -= len(queue[at])
                at += 1
            if taken:
                queue[at] = memoryview(queue[at])[taken:]
        return True

    def _wait(self, events: int, deadline: float) -> int:
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        if events != _READ:
            self._poll.modify(self._socket, events)
        try:
            ready = self._poll.poll(ceil(left * 1000))
        finally:
            if events != _READ:
                self._poll.modify(self._socket, _READ)
        if not ready:
            raise TimeoutError
        return ready[0][1]

    def _answer_before_failure(self) -> int:
        """What a server said before it closed on a request that was still going out."""
        with contextlib.suppress(OSError):
            return self._socket.recv_into(self._scratch)
        return 0

    def _unanswered(self, sent: bool) -> NoAnswer:
        url = self._address.url
        if self._used and (not sent or self._never_arrived()):
            return NotSent(f"{url} closed the connection before it read the request")
        return NoAnswer(f"{url} closed the connection without an answer")

    def _never_arrived(self) -> bool:
        """Whether the server's kernel acknowledged nothing of this request, so that its program cannot have read it."""
        if not hasattr(socket, "TCP_INFO") or self._address.unix_path or self._address.tls:
            return False
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
        except OSError:
            return False
        # tcpi_bytes_acked; the connection's own first acknowledgement counts as one.
        return len(info) == 128 and int(struct.unpack_from("<Q", info, 120)[0]) <= self._bytes_sent_before + 1

    # --- in ---

    def _receive(self, view: memoryview, deadline: float, *, wait_first: bool = False) -> int:
        if wait_first and not isinstance(self._socket, ssl.SSLSocket):
            self._wait(_READ, deadline)
        while True:
            try:
                return self._socket.recv_into(view)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(_READ, deadline)
            except ssl.SSLWantWriteError:
                self._wait(_WRITE, deadline)
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return 0

    def _reply(self, filled: int, deadline: float, pool: BufferPool, response_bytes_max: int) -> Reply:
        scratch = self._scratch
        while True:
            end = bytes(scratch[:filled]).find(b"\r\n\r\n") + 4
            if end >= 4:
                head = parse_head(bytes(scratch[:end]))
                if head.status >= 200:
                    break
                # 100 Continue and its kind: the answer comes after it.
                scratch[: filled - end] = bytes(scratch[end:filled])
                filled -= end
                continue
            if filled == HEAD_BYTES_MAX:
                raise NoAnswer(f"{self._address.url} answered with a head of more than {HEAD_BYTES_MAX} bytes")
            filled += self._more(scratch[filled:], deadline)
        length = head.length
        if length is None:
            return Reply(head, self._unsized(head, scratch[end:filled], deadline, response_bytes_max))
        if length > response_bytes_max:
            raise NoAnswer(f"{self._address.url} answered with {length} bytes; at most {response_bytes_max} are taken")
        body = pool.lease(length)
        if body is None:
            raise NoAnswer(f"there is no room for an answer of {length} bytes")
        have = min(length, filled - end)
        if filled - end > length:
            raise NoAnswer(f"{self._address.url} sent more than its answer")
        body[:have] = scratch[end : end + have]
        while have < length:
            have += self._more(body[have:], deadline)
        return Reply(head, body)

    def _more(self, view: memoryview, deadline: float) -> int:
        count = self._receive(view, deadline)
        if not count:
            raise NoAnswer(f"{self._address.url} closed the connection in the middle of its answer")
        return count

    def _unsized(self, head: ResponseHead, first: memoryview, deadline: float, bytes_max: int) -> memoryview:
        chunks = Chunks() if head.chunked else None
        body = bytearray(chunks.feed(first) if chunks else first)
        scratch = memoryview(bytearray(_SCRATCH_BYTES))
        while chunks is None or not chunks.done:
            count = self._receive(scratch, deadline)
            if not count:
                if chunks:
                    raise NoAnswer(f"{self._address.url} closed the connection in the middle of its answer")
                break
            body += chunks.feed(scratch[:count]) if chunks else scratch[:count]
            if len(body) > bytes_max:
                raise NoAnswer(f"{self._address.url} answered with more than {bytes_max} bytes")
        return memoryview(body)


def _connect(address: Address, deadline: float, tls: ssl.SSLContext | None) -> socket.socket:
    left = deadline - monotonic()
    if left <= 0:
        raise TimedOut(f"no time was left to connect to {address.url}")
    try:
        if address.unix_path:
            plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                plain.settimeout(left)
                plain.connect(address.unix_path)
            except BaseException:
                plain.close()
                raise
            return plain
        plain = socket.create_connection((address.host, address.port), left)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is None:
            return plain
        try:
            return tls.wrap_socket(plain, server_hostname=address.host)
        except BaseException:
            plain.close()
            raise
    except TimeoutError:
        raise TimedOut(f"{address.url} did not accept a connection in time") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unreachable(f"no connection to {address.url}: {reason}; is a server running there?") from error

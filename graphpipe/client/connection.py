"""One connection to a server: sends a request from the caller's own memory, receives the answer into a leased buffer."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Sequence
from math import ceil
from time import monotonic

from graphpipe.buffers import BufferPool
from graphpipe.client.address import Address
from graphpipe.client.answer import SCRATCH_BYTES, AnswerReader
from graphpipe.client.calls import Reply
from graphpipe.client.failures import bytes_acknowledged, unanswered, unreachable
from graphpipe.errors import NoAnswer, TimedOut
from graphpipe.wire import Segment

__all__ = ["Connection"]

# sendmsg takes at most 1024 pieces at once.
_PIECES_MAX = 512

_READ, _WRITE = select.POLLIN, select.POLLOUT


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
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
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
        answer = AnswerReader(url, self._scratch, pool, response_bytes_max)
        sent = False
        try:
            sent = self._send([head, *segments], deadline)
            received = self._receive(answer.room(), deadline, wait_first=True)
        except TimeoutError:
            raise TimedOut(f"{url} gave no answer in time") from None
        except OSError as error:
            received = 0 if sent else self._answer_before_failure()
            if not received:
                raise self._unanswered(sent) from error
        if not received:
            raise self._unanswered(sent)
        try:
            reply = self._reply(answer, received, deadline)
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
        return unanswered(self._address, may_send_again=self._used and (not sent or self._never_arrived()))

    def _never_arrived(self) -> bool:
        """Whether the server's kernel acknowledged nothing of this request, so that its program cannot have read it."""
        acknowledged = None if self._address.tls else bytes_acknowledged(self._socket.fileno())
        return acknowledged is not None and acknowledged <= self._bytes_sent_before

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

    def _reply(self, answer: AnswerReader, received: int, deadline: float) -> Reply:
        answer.received(received)
        while answer.reply is None:
            received = self._receive(answer.room(), deadline)
            if received:
                answer.received(received)
            else:
                answer.ended()
        return answer.reply


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
        raise unreachable(address, error) from error

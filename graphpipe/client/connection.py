"""One connection to a server: sends requests from the caller's own memory, receives answers into leased buffers."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
from collections.abc import Sequence
from math import ceil
from time import monotonic
from typing import Protocol

from graphpipe.buffers import BufferPool
from graphpipe.client.answer import SCRATCH_BYTES, AnswerReader
from graphpipe.client.calls import Reply
from graphpipe.client.dialing import connected
from graphpipe.client.failures import NotSent, never_arrived, not_in_time, refused_late, unanswered, unreachable
from graphpipe.client.options import Options
from graphpipe.errors import NoAnswer, TimedOut
from graphpipe.wire import Segment

__all__ = ["Connection"]

# sendmsg takes at most 1024 pieces at once.
_PIECES_MAX = 512

# Windows has none.
_GATHERS = hasattr(socket.socket, "sendmsg")

# What select.POLLIN and POLLOUT are on Linux; where poll was taken away, they were too.
_READ, _WRITE = 1, 4


class _Poll(Protocol):
    def register(self, fd: socket.socket, eventmask: int, /) -> None: ...

    def modify(self, fd: socket.socket, eventmask: int, /) -> None: ...

    def poll(self, timeout: float, /) -> list[tuple[int, int]]: ...


class _Selected:
    """select.poll for one socket, made of select.select: eventlet's monkey patching leaves nothing else that lets other
    greenlets run.
    """

    def register(self, fd: socket.socket, eventmask: int, /) -> None:
        self._socket, self._events = fd, eventmask

    modify = register

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """The socket with what it is ready for, or nothing after ``timeout`` milliseconds."""
        readers = [self._socket] if self._events & _READ else []
        writers = [self._socket] if self._events & _WRITE else []
        readable, writable, _ = select.select(readers, writers, [], timeout / 1000)
        events = (_READ if readable else 0) | (_WRITE if writable else 0)
        return [(self._socket.fileno(), events)] if events else []


class Connection:
    """A socket that speaks HTTP/1.1, one call at a time. After any error it is of no further use.

    The socket never blocks: every wait is a poll with what is left of the call's time. While a large request goes out
    an answer may come in, since a server refuses what it will not take before it has read it.
    """

    def __init__(self, options: Options, deadline: float) -> None:
        address, tls = options.address, options.tls
        self.reusable = False
        self._address = address
        self._answer_bytes_max = options.answer_bytes_max
        connecting_until = min(deadline, monotonic() + options.connect_timeout)
        self._poll: _Poll = select.poll() if hasattr(select, "poll") else _Selected()
        try:
            self._socket = connected(address, options.proxy, connecting_until)
            self._socket.setblocking(False)
            if tls is not None:
                self._secure(tls, connecting_until)
            else:
                self._poll.register(self._socket, _READ)
        except TimeoutError:
            raise not_in_time(address, options.proxy) from None
        except OSError as error:
            raise unreachable(address, options.proxy, error) from error
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
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return False
        return not self._poll.poll(0)

    def call(
        self,
        head: bytes,
        segments: Sequence[Segment],
        deadline: float,
        pool: BufferPool,
        *,
        fds: Sequence[int] = (),
        upgrade: str = "",
    ) -> Reply:
        """Send a request and receive the whole answer. ``deadline`` is monotonic seconds.

        ``fds`` are descriptors that go with its first byte, over a Unix socket; ``upgrade`` is the protocol that it asks to
        go on with.

        Raises NotSent if a reused connection turned out closed, TimedOut after the deadline, NoAnswer for whatever else
        is not an answer.
        """
        self.reusable = sent = False
        answer = AnswerReader(self._address.url, self._scratch, pool, self._answer_bytes_max, upgrade)
        try:
            sent = self._send([head, *segments], answer, deadline, fds)
            if sent:
                self._wait(_READ, deadline)
            while answer.reply is None and self._receive(answer, deadline):
                pass
        except TimeoutError:
            what = "did not finish its answer" if answer.began else "gave no answer"
            raise TimedOut(f"{self._address.url} {what} in time") from None
        except OSError as error:
            why = error if sent else self._receive_what_is_left(answer) or error
            try:
                if answer.reply is None:
                    raise self._unanswered(answer, sent, why) from why
            finally:
                del why  # it remembers this frame
        if answer.reply is None:
            raise self._unanswered(answer, sent)
        self.reusable = sent and answer.reply.head.keep_alive
        self._used = True
        self._bytes_sent_before += len(head) + sum(map(len, segments))
        return answer.reply

    def _send(self, pieces: Sequence[Segment], answer: AnswerReader, deadline: float, fds: Sequence[int] = ()) -> bool:
        """Send everything and say True, or stop and say False because the answer came first, or the end."""
        queue = [piece for piece in pieces if len(piece)]
        one_by_one = isinstance(self._socket, ssl.SSLSocket) or not _GATHERS
        at = 0
        while at < len(queue):
            try:
                if fds:
                    taken = self._send_with(fds, queue[at : at + _PIECES_MAX])
                    fds = ()
                elif one_by_one:
                    taken = self._socket.send(queue[at])
                else:
                    taken = self._socket.sendmsg(queue[at : at + _PIECES_MAX])
            except (BlockingIOError, ssl.SSLWantWriteError):
                came_in = self._wait(_READ | _WRITE, deadline) & ~_WRITE
                if came_in and (not self._receive(answer, deadline, wait=False) or answer.began):
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

    def _send_with(self, fds: Sequence[int], pieces: Sequence[Segment]) -> int:
        try:
            return socket.send_fds(self._socket, pieces, list(fds))
        except OSError as error:
            # So many are on their way already that the kernel takes no more.
            if error.errno != errno.ETOOMANYREFS:
                raise
            raise NotSent(f"no descriptors can be passed to {self._address.url}: {error.strerror}") from None

    def _receive(self, answer: AnswerReader, deadline: float, *, wait: bool = True) -> bool:
        """Take in what has come, after a wait if need be. False: the server closed its side."""
        if monotonic() > deadline:  # however much comes in
            raise TimeoutError
        try:
            count = self._socket.recv_into(answer.room())
        except (BlockingIOError, ssl.SSLWantReadError):
            if wait:
                self._wait(_READ, deadline)
            return True
        except ssl.SSLWantWriteError:
            self._wait(_WRITE, deadline)
            return True
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            count = 0
        if count:
            answer.received(count)
        elif answer.began:
            answer.ended()
        return count > 0

    def _receive_what_is_left(self, answer: AnswerReader) -> OSError | None:
        """A server may refuse what it has not read, and close: its answer lies behind the error of our sending, or what TLS
        has instead of one.
        """
        try:
            while answer.reply is None and (count := self._socket.recv_into(answer.room())):
                answer.received(count)
        except ssl.SSLError as error:
            return error
        except OSError:
            pass
        return None

    def _unanswered(self, answer: AnswerReader, sent: bool, error: OSError | None = None) -> NoAnswer:
        if answer.began:
            return NoAnswer(f"{self._address.url} closed the connection in the middle of its answer")
        if not self._used and (refused := refused_late(self._address, error)) is not None:
            return refused
        again = not sent or (
            not self._address.tls and never_arrived(self._socket.fileno(), self._bytes_sent_before, error)
        )
        return unanswered(self._address, used=self._used, may_send_again=self._used and again)

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

    def _secure(self, tls: ssl.SSLContext, deadline: float) -> None:
        secured = tls.wrap_socket(self._socket, server_hostname=self._address.host, do_handshake_on_connect=False)
        self._socket = secured
        self._poll.register(secured, _READ)
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                self._wait(_READ, deadline)
            except ssl.SSLWantWriteError:
                self._wait(_WRITE, deadline)
            else:
                return

"""One answer on its way in: where its next bytes go, and when it is whole. No sockets here.

Whoever has a socket receives into ``room()`` and says how much came. The head comes into a scratch buffer, the body
straight into a buffer leased for it.
"""

from __future__ import annotations

from graphpipe.buffers import BufferPool
from graphpipe.client.calls import Reply
from graphpipe.client.http1 import HEAD_BYTES_MAX, Chunks, ResponseHead, parse_head
from graphpipe.errors import NoAnswer
from graphpipe.words import counted

__all__ = ["SCRATCH_BYTES", "AnswerReader"]

# How a server of TLS begins to say that it did not understand.
_TLS_ALERT = b"\x15\x03"
SCRATCH_BYTES = HEAD_BYTES_MAX


class AnswerReader:
    """Takes in one answer of the server at ``url``; ``reply`` is there when all of it is.

    ``scratch`` has SCRATCH_BYTES and is the reader's own until then; bodies larger than ``bytes_max`` are not taken.
    ``upgrade`` is the protocol that the server was asked to go on with, if it was: its yes is an answer.
    """

    __slots__ = (
        "_body",
        "_bytes_max",
        "_chunks",
        "_filled",
        "_gathered",
        "_head",
        "_pool",
        "_scratch",
        "_upgrade",
        "_url",
        "reply",
    )

    def __init__(self, url: str, scratch: memoryview, pool: BufferPool, bytes_max: int, upgrade: str = "") -> None:
        self.reply: Reply | None = None
        self._upgrade = upgrade
        self._url = url
        self._scratch = scratch
        self._pool = pool
        self._bytes_max = bytes_max
        self._head: ResponseHead | None = None
        self._filled = 0  # of the scratch while the head comes, of the body afterwards
        self._body: memoryview | None = None
        self._chunks: Chunks | None = None
        self._gathered = bytearray()

    @property
    def began(self) -> bool:
        """Whether any of the answer is here. ``100 Continue`` and its kind are none of it."""
        return self._head is not None or self._filled > 0

    @property
    def progress(self) -> tuple[int, int | None]:
        """How much of the body is there, and how much there will be, if anybody knows."""
        if self._body is not None:
            return self._filled, len(self._body)
        return len(self._gathered), None

    def room(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._body is not None and self._filled < len(self._body):
            return self._body[self._filled :]
        return self._scratch if self._head else self._scratch[self._filled :]

    def received(self, count: int) -> None:
        """Take note of ``count`` bytes in ``room()``. Raises NoAnswer if they are no answer."""
        if self.reply is not None:
            raise NoAnswer(f"{self._url} sent more than its answer")
        if self._head is None:
            self._filled += count
            self._find_head()
        elif self._body is not None:
            self._filled += count
            self._finish_if_full(self._head, self._body)
        else:
            self._gather(self._head, self._scratch[:count])

    def ended(self) -> None:
        """Take note that the server closed its side. Raises NoAnswer if the answer is not whole."""
        if self.reply is not None:
            return
        first = bytes(self._scratch[: min(self._filled, 80)]) if self._head is None else b"HTTP/"
        if first[:5] != b"HTTP/"[: len(first)]:
            raise NoAnswer(f"{self._url} answered with what is not HTTP: {first!r}")
        if self._head is None or self._body is not None or self._chunks is not None:
            raise NoAnswer(f"{self._url} closed the connection in the middle of its answer")
        self.reply = Reply(self._head, memoryview(self._gathered))

    def _find_head(self) -> None:
        while True:
            received = bytes(self._scratch[: self._filled])
            end = received.find(b"\r\n\r\n") + 4
            if end < 4:
                if received[:2] == _TLS_ALERT:
                    raise NoAnswer(f"{self._url} speaks TLS: its URL begins with https://")
                if self._filled == HEAD_BYTES_MAX:
                    raise NoAnswer(f"{self._url} answered with a head of more than {HEAD_BYTES_MAX} bytes")
                return
            head = parse_head(received[:end])
            if head.status >= 200:
                break
            if head.status == 101:
                if self._upgrade and head.upgrade == self._upgrade and end == self._filled:
                    self._head, self.reply = head, Reply(head, memoryview(b""))
                    return
                raise NoAnswer(f"{self._url} switched to another protocol, which nobody asked for")
            # 100 Continue and its kind: the answer comes after it.
            self._filled -= end
            self._scratch[: self._filled] = received[end:]
        self._head = head
        self._begin_body(head, memoryview(received)[end:])

    def _begin_body(self, head: ResponseHead, first: memoryview) -> None:
        if head.length is None:
            self._chunks = Chunks() if head.chunked else None
            if len(first):
                self._gather(head, first)
            return
        if head.length > self._bytes_max:
            raise NoAnswer(
                f"{self._url} answered with {counted(head.length, 'byte')}; at most {self._bytes_max} are taken"
            )
        if len(first) > head.length:
            raise NoAnswer(f"{self._url} sent more than its answer")
        body = self._pool.lease(head.length)
        if body is None:
            raise NoAnswer(f"there is no room for an answer of {counted(head.length, 'byte')}")
        body[: len(first)] = first
        self._body, self._filled = body, len(first)
        self._finish_if_full(head, body)

    def _finish_if_full(self, head: ResponseHead, body: memoryview) -> None:
        if self._filled == len(body):
            self.reply = Reply(head, body)

    def _gather(self, head: ResponseHead, received: memoryview) -> None:
        if self._chunks is None:
            self._gathered += received
        elif self._chunks.feed(received, self._gathered):
            raise NoAnswer(f"{self._url} sent more than its answer")
        announced = 0 if self._chunks is None else self._chunks.left
        if len(self._gathered) + announced > self._bytes_max:
            raise NoAnswer(f"{self._url} answered with more than {counted(self._bytes_max, 'byte')}")
        if self._chunks is not None and self._chunks.done:
            self.reply = Reply(head, memoryview(self._gathered))

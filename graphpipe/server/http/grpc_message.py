"""A call's message on its way in: its length stands in front, so a large one is received into a lease of that length."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from graphpipe.buffers import POOLED_FROM
from graphpipe.errors import MalformedMessage, Unsupported
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.body import Body
from graphpipe.server.http.coder import Coder
from graphpipe.server.http.codings import Inflating

__all__ = ["Incoming", "prefix_of"]

# In front of a message: whether it is compressed, and its length.
_PREFIX = 5
_COMPRESSED = 1 << 32


class Incoming:
    """The one message of a call, in ``coding`` if it says that it is compressed.

    ``size`` is what it announces, ``body`` what is being received of it; a ``small`` one that came at once has none.
    ``grows`` is told what becomes of a compressed one. At most ``ratio_max`` times what came of that; 0: it is refused.
    """

    __slots__ = ("_admission", "_first", "_grows", "_ratio_max", "body", "coding", "is_compressed", "size", "small")

    def __init__(self, admission: Admission, grows: Callable[[int], None], ratio_max: int) -> None:
        self._admission = admission
        self._grows = grows
        self.coding = ""
        self._ratio_max = ratio_max
        self._first = b""  # as long as its length is not known
        self.small: bytes | None = None
        self.body: Body | None = None
        self.is_compressed = False
        self.size = 0

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return self.small is not None or (self.body is not None and self.body.is_whole)

    def take(self, data: bytes) -> None:
        """Take what has come. Raises MalformedMessage, Unsupported, TooLarge, Overloaded."""
        if self.body is not None:
            if self.body.take(memoryview(data)):
                raise _more_than_one()
            return
        if self.small is not None:
            raise _more_than_one()
        if self._first:
            data = self._first + data
        if len(data) < _PREFIX:
            self._first = data
            return
        self._first, admission = b"", self._admission
        length = self.size = int.from_bytes(data[1:_PREFIX], "big")
        if data[0]:
            self._check_compressed(data[0])
        if length == len(data) - _PREFIX and length < POOLED_FROM and not admission.is_full:
            admission.check(length)
            # A copy of its own, since bytes objects start at a multiple of 16 and a message in the middle of one does not.
            self.small = data[_PREFIX:]
            return
        self.body = Body(admission, length, self._grows)
        if self.body.take(memoryview(data)[_PREFIX:]):
            raise _more_than_one()

    def _check_compressed(self, flag: int) -> None:
        if flag != 1:
            raise MalformedMessage(f"a message begins with 0 or 1, and {flag} came")
        if not self.coding:
            raise MalformedMessage("the message says that it is compressed, and grpc-encoding does not say how")
        if not self._ratio_max:
            raise Unsupported("compressed messages are off on this server (--inflate-ratio-max 0); send it plain", 501)
        self.is_compressed = True

    def missing(self) -> MalformedMessage:
        """What is wrong with one that ends before it is whole."""
        if self.body is None:
            return MalformedMessage("the call ended before there was a message")
        return MalformedMessage(f"the call ended within its message: {self.body.filled} of {self.size} bytes came")

    def let_go(self) -> tuple[bytes | memoryview, int]:
        """The whole message, and how much of it counts as held as long as somebody looks at it."""
        small, body = self.small, self.body
        self.small = self.body = None
        if small is not None:
            return small, 0
        assert body is not None
        return body.let_go(), body.held

    def drop(self) -> None:
        """It will not come, or nobody wants it."""
        self.small = None
        if self.body is not None:
            self.body.drop()
            self.body = None

    def clear(self) -> None:
        """It was let go, and another one comes."""
        self.coding = ""
        self.is_compressed = False
        self.size = 0

    async def inflated(self, message: bytes | memoryview, coder: Coder) -> Body:
        """What becomes of a compressed message. Raises MalformedMessage, TooLarge, Overloaded."""
        admission = self._admission
        inflating = Inflating((self.coding,), admission.body_bytes_max, self._ratio_max)
        inflating.check(len(message))
        body = Body(admission, None, self._grows)
        admission.hold(inflating.state_bytes)
        try:
            await coder.inflate(inflating, bytes(message), partial(self._take_inflated, body))
            inflating.end()
            body.ended()
            return body
        except BaseException:
            body.drop()
            raise
        finally:
            admission.hold(-inflating.state_bytes)

    async def _take_inflated(self, body: Body, data: memoryview) -> None:
        body.take(data)
        if self._admission.is_full and not self._admission.begin(body):
            await self._admission.turn(body)


def prefix_of(size: int, *, is_compressed: bool) -> bytes:
    """What stands in front of a message."""
    return (size | _COMPRESSED if is_compressed else size).to_bytes(_PREFIX, "big")


def _more_than_one() -> MalformedMessage:
    return MalformedMessage("a call has one message here, and more came behind it")

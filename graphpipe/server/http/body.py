"""A request's body on its way in, from whichever way: where its next bytes go, and when it is whole.

A large body of known length is received straight into its lease. A small one, and one in chunks, is gathered from what
others received; the memory of a chunked one grows in steps.
"""

from __future__ import annotations

from collections.abc import Callable

from graphpipe.buffers import POOLED_FROM, Lease
from graphpipe.server.http.admission import Admission
from graphpipe.server.http.chunks import Chunks
from graphpipe.server.settings.values import PROGRESS_BYTES_PER_S

__all__ = ["Body", "least_pace", "too_slow"]

# What is read at once when more is held already than may be: somebody has to notice it.
_LITTLE = 4 * 1024
# A body may take so many times as long as it may make no progress: whoever promises more has to send faster.
_TIMES = 20
# Who has come to a large body waits while others may fill the room within so long.
_SOON_S = 2.0
_AHEAD = 8


class Body:
    """The body of one request, of ``length`` bytes; None where nobody knows. ``filled`` bytes of it have come.

    What comes of a ``chunked`` one is taken apart here; of one that aiohttp has taken apart, ``ended`` says where it ends.
    ``grows`` is told how many bytes one without a length has, before they are taken, and may raise.

    So many bytes come ``beside`` it, all at once as soon as there is room.

    ``held`` of them are counted as long as somebody looks at them, which the owner has to say; what is leased counts itself.
    Raises TooLarge.
    """

    __slots__ = (
        "_admission",
        "_chunks",
        "_counted",
        "_gathered",
        "_grows",
        "_lease",
        "_seen",
        "begun",
        "beside",
        "expected",
        "filled",
        "held",
        "length",
        "mark",
        "number",
    )

    def __init__(
        self,
        admission: Admission,
        length: int | None,
        grows: Callable[[int], None],
        *,
        chunked: bool = False,
        beside: int = 0,
    ) -> None:
        self._admission = admission
        self._grows = grows
        self.length = length
        self._chunks = Chunks(self._announced) if chunked else None
        if length is not None:
            admission.check(length)
        self._lease: Lease | None = None
        self._gathered = bytearray()
        self.filled = self.held = self.expected = self.mark = self._seen = self._counted = 0
        self.begun = False
        self.beside = beside
        self.number = admission.next_number()
        if length is not None and length >= POOLED_FROM:
            self._lease = admission.lease(length)

    @property
    def rest(self) -> int:
        """How much is still to come that is not counted yet, as far as anybody knows."""
        return self.beside if self.length is None else self.length - max(self.filled, self._counted) + self.beside

    @property
    def is_small(self) -> bool:
        """Whether it needs no lease."""
        return self.length is not None and self.length + self.beside < POOLED_FROM

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return self.filled == self.length if self._chunks is None else self._chunks.done

    @property
    def _is_direct(self) -> bool:
        """Whether what comes next goes straight into the lease."""
        return self.length is not None and self.filled < self.length

    def pace(self, limit_s: float) -> float:
        """The least bytes a second it has to come at, where it may stand still for ``limit_s``."""
        return least_pace(self.filled if self.length is None else self.length, limit_s)

    def look(self, after_s: float) -> None:
        """Judge how much of it is likely to come soon by what has come since the last look, ``after_s`` ago."""
        came, self._seen = self.filled - self._seen, self.filled
        if self.expected or came:
            self._admission.expect(self, min(self.rest, int(came * _SOON_S / after_s)))

    def window(self, scratch: memoryview) -> memoryview:
        """Where its next bytes are to be received."""
        room = max(self._admission.room, _LITTLE)
        if self._lease is not None and self._is_direct:
            return self._lease.view[self.filled : self.filled + room]
        return scratch[:room]

    def received(self, scratch: memoryview, count: int) -> int:
        """So much has come into its ``window``. As ``take``."""
        if self._lease is not None and self._is_direct:
            self._came(count)
            return 0
        return self.take(scratch[:count])

    def take(self, data: memoryview) -> int:
        """Take what has come, and say how much of it is behind the body's end.

        Raises MalformedMessage if it is not what a chunked body looks like, TooLarge if that is too long.
        """
        if self._chunks is not None:
            return self._chunks.feed(data, self._append)
        if self.length is None:
            self._announced(len(data))
            self._append(data)
            return 0
        mine = data[: self.length - self.filled]
        self._append(mine)
        return len(data) - len(mine)

    def ended(self) -> None:
        """Nothing more comes."""
        self.length = self.filled

    def let_go(self) -> memoryview:
        """The whole body, which is no longer this object's: its memory lives as long as somebody looks at it."""
        assert self.is_whole
        whole = memoryview(self._gathered) if self._lease is None else self._lease.view[: self.filled]
        self._end()
        return whole

    def drop(self) -> None:
        """It will not come: give back what it has taken."""
        self._end()
        if self.held:
            self._admission.hold(-self.held)
            self.held = 0

    def _end(self) -> None:
        self._lease, self._gathered = None, bytearray()
        self._admission.expect(self, 0)

    def _announced(self, size: int) -> None:
        self._admission.check(self.filled + size)
        self._grows(self.filled + size)

    def _append(self, data: memoryview) -> None:
        end = self.filled + len(data)
        if self._lease is None and end < POOLED_FROM:
            self._gathered += data
            self.held += len(data)
            self._admission.hold(len(data))
            self.filled = end
            self._admission.came(self, len(data))
            return
        if self._lease is None or end > len(self._lease.view):
            self._move(max(end, min(2 * self.filled, self._admission.body_bytes_max)))
        assert self._lease is not None
        self._lease.view[self.filled : end] = data
        self._came(len(data))

    def _came(self, count: int) -> None:
        assert self._lease is not None
        self.filled += count
        if self.filled > self._counted:
            # An eighth ahead, so that it is counted a few dozen times and not for every packet; but only what there is.
            ahead = min(self.filled // _AHEAD, max(0, self._admission.room - self.filled + self._counted))
            counted = min(self.filled + ahead, len(self._lease.view))
            self._lease.touch(counted)
            self._admission.came(self, counted - self._counted)
            self._counted = counted

    def _move(self, size: int) -> None:
        """To a lease of ``size`` bytes, or to a larger one."""
        old = self._gathered if self._lease is None else self._lease.view
        lease = self._admission.lease(max(size, POOLED_FROM))
        lease.view[: self.filled] = old[: self.filled]
        lease.touch(self.filled)
        self._counted = self.filled
        del old
        self._lease, self._gathered = lease, bytearray()
        if self.held:
            self._admission.hold(-self.held)
            self.held = 0


def least_pace(size: int, limit_s: float) -> float:
    """The least bytes a second that ``size`` bytes have to come at, where they may stand still for ``limit_s``."""
    return max(PROGRESS_BYTES_PER_S, size / (_TIMES * limit_s))


def too_slow(came: int, seconds: float, pace: float) -> str:
    """What is said to whoever sends more slowly than at ``pace``."""
    what = f"{came} bytes in {seconds:g} s, where at least {pace:.0f} a second are expected"
    return f"the body came too slowly: {what} (--body-timeout-s)"

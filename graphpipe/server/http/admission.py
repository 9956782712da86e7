"""Who may come in: how much is held of bodies and answers, and whose turn it is when that is too much.

What has come is counted, not what was promised: bytes of bodies that were received and are still looked at, and of answers
that were computed and are not sent. As long as the count is under the limit, bodies are read; over it nobody's is. What a
caller has promised and not sent yet takes no memory, so it denies nobody anything. It does decide on the order: a large body
for which there would be no room if all the others came as promised waits until it is clear whether they do.

Small bodies never wait for large ones: for them there is room unless the count is over the limit.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from graphpipe.buffers import BufferPool, Lease
from graphpipe.errors import Overloaded, TooLarge

__all__ = ["Admission", "Coming"]


class Coming(Protocol):
    """A body that has not come wholly.

    ``number`` is its place in the order of arrival; ``rest`` bytes of it are still to come, as far as that is known, and
    ``expected`` of them soon. It has ``begun`` once it was its turn.
    """

    number: int
    expected: int
    begun: bool

    @property
    def rest(self) -> int: ...

    @property
    def is_small(self) -> bool: ...


# So much may be held beyond the limit, as a part of it, by those who may send on for a while after they were stopped.
_OVER = 8


@dataclass(slots=True, eq=False)
class _Waiting:
    body: Coming
    turn: asyncio.Future[None]
    timer: asyncio.TimerHandle | None = None


class Admission:
    """Room for bodies and answers, under two limits: of one body, and of all that is held together.

    Belongs to one event loop. Whoever finds no room waits, in order of arrival, for at most ``wait_s``. ``is_full`` says
    that more is held than may be.
    """

    def __init__(self, pool: BufferPool, body_bytes_max: int, wait_s: float) -> None:
        self.body_bytes_max = body_bytes_max
        self.is_full = False
        self._pool = pool
        self._wait_s = wait_s
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._expected = 0
        self._line: list[_Waiting] = []
        pool.on_return = self._on_return

    # --- memory ---

    @property
    def room(self) -> int:
        """How many more bytes may be held."""
        return self._pool.room

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that have come, and of answers that are not sent."""
        return self._pool.bytes_max - self._pool.room

    def check(self, size: int) -> None:
        """Raise TooLarge if a body of ``size`` bytes is over the limit of one body."""
        if size > self.body_bytes_max:
            raise TooLarge(f"the body has {size} bytes; at most {self.body_bytes_max} are taken (--body-bytes-max)")

    def lease(self, size: int) -> Lease:
        """Memory for ``size`` bytes, none of them counted yet. Raises Overloaded if the machine gives none."""
        try:
            return self._pool.open_lease(size)
        except OSError as error:
            raise Overloaded(f"no memory for {size} bytes ({error.strerror}); try again") from None

    def count(self, thing: object, size: int) -> bool:
        """Hold so many bytes until ``thing`` is gone; False if there is no room."""
        return self._pool.count(thing, size)

    def hold(self, size: int) -> None:
        """So many bytes are there that no lease counts: small bodies, answers. Below 0: they are gone."""
        self._pool.put_aside(size)
        if size < 0:
            if self._line or self.is_full:
                self._serve()
        elif self._pool.room < 0:
            self.is_full = True

    # --- whose turn it is ---

    def next_number(self) -> int:
        """The place in the order of arrival of a body that comes now."""
        return next(self._numbers)

    def begin(self, body: Coming) -> bool:
        """Whether a body may be read, or read on, now; else it is to wait for its ``turn``."""
        if body.begun or body.is_small:
            begun = self._fits(body)
        else:
            begun = not self._line and self._fits(body)
        if begun:
            self._let_in(body)
        return begun

    async def turn(self, body: Coming) -> None:
        """Wait until this body may be read, or read on. Raises Overloaded if that takes too long."""
        waiting = _Waiting(body, self._loop.create_future())
        insort(self._line, waiting, key=_place)
        self._start_timer(waiting)
        try:
            await waiting.turn
        finally:
            if waiting.timer is not None:
                waiting.timer.cancel()
            if waiting in self._line:
                self._line.remove(waiting)
                self._serve()

    @property
    def is_over(self) -> bool:
        """Whether more is held than even those may bring who could not be stopped at once."""
        return self._pool.room < -(self._pool.bytes_max // _OVER)

    def refuse(self, body: Coming) -> None:
        """Have its wait for its turn end in Overloaded."""
        at = bisect_left(self._line, body.number, key=_place)
        if at < len(self._line) and self._line[at].body is body:
            waiting = self._line.pop(at)
            if not waiting.turn.done():
                waiting.turn.set_exception(self.no_room())

    def no_room(self) -> Overloaded:
        """What is said to whoever finds no room."""
        return Overloaded(
            f"{self.held_bytes} bytes of requests and answers are in flight, of at most {self._pool.bytes_max} "
            "(--in-flight-bytes-max); try again"
        )

    def came(self, body: Coming, size: int) -> None:
        """So many bytes of a body have come."""
        if body.expected:
            size = min(size, body.expected)
            body.expected -= size
            self._expected -= size
        if self._pool.room < 0:
            self.is_full = True

    def expect(self, body: Coming, size: int) -> None:
        """So much of a body is likely to come soon, judged by how fast it has come. Nothing more: it is over."""
        less = size < body.expected
        self._expect(body, size)
        if less and self._line:
            self._serve()

    def _expect(self, body: Coming, size: int) -> None:
        self._expected += size - body.expected
        body.expected = size

    def _fits(self, body: Coming) -> bool:
        room = self._pool.room
        if body.begun:
            return room > 0
        return room - (0 if body.is_small else self._expected) >= body.rest

    def _let_in(self, body: Coming) -> None:
        if not body.begun:
            body.begun = True
            if not body.is_small:
                self._expect(body, body.rest)

    def _serve(self) -> None:
        """Let those go on for whom there is room, the first first."""
        room = self._pool.room
        self.is_full = room < 0
        while self._line:
            body = self._line[0].body
            is_new = not (body.begun or body.is_small)
            if room - (self._expected if is_new else 0) < (1 if body.begun else body.rest):
                return
            # One that goes on is to come to its end before the next one does.
            room -= 0 if is_new else body.rest
            self._let_in(body)
            self._go(self._line[0])

    def _go(self, waiting: _Waiting) -> None:
        self._line.remove(waiting)
        if not waiting.turn.done():
            waiting.turn.set_result(None)

    def _time_out(self, waiting: _Waiting) -> None:
        self._serve()
        if waiting.turn.done():
            return
        body = waiting.body
        if not body.begun and self._pool.room >= body.rest:
            # Others have promised to fill the room, and they take their time: it does not wait for them any longer.
            self._let_in(body)
            self._go(waiting)
            return
        if body.begun:
            # All that is held may be bodies that cannot go on. The one that came last makes room for the others.
            last = next(other for other in reversed(self._line) if other.body.begun)
            if last is not waiting:
                self._start_timer(waiting)
                waiting = last
        self._line.remove(waiting)
        waiting.turn.set_exception(self.no_room())

    def _start_timer(self, waiting: _Waiting) -> None:
        waiting.timer = self._loop.call_later(self._wait_s, self._time_out, waiting)

    def _on_return(self) -> None:
        if (self._line or self.is_full) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._serve)


def _place(waiting: _Waiting) -> int:
    return waiting.body.number

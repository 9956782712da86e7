"""What one request shows a server of our memory, and what its answer says of it. docs/wire.md has the fields' grammar."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from graphpipe.client.calls import Reply
from graphpipe.errors import NoAnswer
from graphpipe.memory.places import Place
from graphpipe.memory.segment import Segment as SharedSegment
from graphpipe.wire import Segment

__all__ = ["ALIGNMENT", "Lease", "Loan", "Shown"]

ALIGNMENT = 64
# The kernel passes no more than some, and so does docs/wire.md.
_FDS_MAX = 16
_ENTRY = re.compile(r"(0|[1-9][0-9]{0,3})=(0|[1-9][0-9]{0,17})\+([1-9][0-9]{0,17})")
_FIELD_MAX = 8192


class Lease(NamedTuple):
    """Memory that nobody else gets while anybody holds ``view``, and where it lies."""

    view: memoryview
    place: Place


class Loan:
    """One request that shows memory: ``message``, the header lines ``fields``, and the ``fds`` that go with them."""

    __slots__ = ("_answer_bytes_max", "_area", "_copies", "_shown", "fds", "fields", "message")

    def __init__(
        self,
        shown: Shown,
        message: list[Segment],
        copies: Lease | None,
        area: Lease | None,
        answer_bytes_max: int,
    ) -> None:
        self._shown = shown
        self._copies = copies  # nobody else gets that memory before this is gone
        self._answer_bytes_max = answer_bytes_max
        self.message = message
        entries = ", ".join(f"{i}={number}:{at}+{length}" for i, (number, at, length) in shown.places.items())
        self.fields = f"GraphPipe-Memory: {entries}\r\n".encode() if entries else b""
        self._area = None if area is None else area.view
        if area is not None:
            number = shown.number(area)
            self.fields += f"GraphPipe-Memory-Answer: {number}:{area.place.offset}+{area.place.length}\r\n".encode()
        self.fds = [segment.fd for segment in shown.segments]

    def lose(self) -> None:
        """Nobody knows whether the server still looks at it: no segment of it is used again."""
        for segment in self._shown.segments:
            segment.spent = True

    def answered(self, reply: Reply, url: str) -> Reply:
        """The answer with what lies in the memory that was lent for it.

        Raises NoAnswer for one that says what cannot be.
        """
        try:
            self._leave(reply.head.kept)
            if reply.head.memory:
                elsewhere = self._outputs(reply.head.memory)
                if len(reply.body) + sum(map(len, elsewhere.values())) > self._answer_bytes_max:
                    raise _Wrong(f"more than {self._answer_bytes_max} bytes, in memory and in the message")
                return Reply(reply.head, reply.body, elsewhere)
        except _Wrong as wrong:
            self.lose()
            raise NoAnswer(f"{url} answered with {wrong}") from None
        return reply

    def _leave(self, kept: str) -> None:
        """The server still looks at these segments."""
        if not kept:
            return
        numbers = [text.strip() for text in kept.split(",")] if len(kept) <= _FIELD_MAX else []
        known = {str(i): segment for i, segment in enumerate(self._shown.segments)}
        if not numbers or not known.keys() >= set(numbers):
            raise _Wrong(f"GraphPipe-Memory-Kept: {kept[:60]!r}; the request had {len(known)} descriptors")
        for number in numbers:
            known[number].spent = True

    def _outputs(self, field: str) -> dict[int, memoryview]:
        """The outputs that the server has written to the area."""
        words = f"GraphPipe-Memory: {field[:60]!r}"
        if self._area is None:
            raise _Wrong(f"{words}, but was lent no memory for outputs")
        found: dict[int, memoryview] = {}
        ranges: list[tuple[int, int]] = []
        for text in field.split(",") if len(field) <= _FIELD_MAX else [""]:
            entry = _ENTRY.fullmatch(text.strip())
            if entry is None:
                raise _Wrong(f"{words}, which does not have the form 0=0+4096, 1=4096+640")
            i, at, length = map(int, entry.groups())
            if at % ALIGNMENT or at + length > len(self._area):
                raise _Wrong(
                    f"{words}, which leaves the {len(self._area)} bytes that were lent, or does not begin at a multiple of "
                    f"{ALIGNMENT}"
                )
            if i in found:
                raise _Wrong(f"{words}, which has output {i} twice")
            found[i] = self._area[at : at + length]
            ranges.append((at, at + length))
        ranges.sort()
        if any(end > start for (_, end), (start, _) in pairwise(ranges)):
            raise _Wrong(f"{words}, where outputs lie on top of each other")
        return found


class _Wrong(Exception):
    """What an answer says of memory cannot be."""


class Shown:
    """What a request shows: segments in the order of their descriptors, and where in them each tensor is."""

    __slots__ = ("_numbers", "places", "segments")

    def __init__(self) -> None:
        self.segments: list[SharedSegment] = []
        self.places: dict[int, tuple[int, int, int]] = {}  # by tensor: descriptor, offset, length
        self._numbers: dict[tuple[int, int], int] = {}

    def add(self, i: int, place: Place) -> bool:
        """Show tensor ``i`` where it lies; False if that would be too many descriptors."""
        # One is left for copies, and one for the answer.
        if place.key not in self._numbers and len(self.segments) >= _FDS_MAX - 2:
            return False
        self.places[i] = self._number(place), place.offset, place.length
        return True

    def number(self, lease: Lease) -> int:
        """The number of the descriptor of what was leased."""
        return self._number(lease.place)

    def _number(self, place: Place) -> int:
        number = self._numbers.setdefault(place.key, len(self.segments))
        if number == len(self.segments):
            self.segments.append(place.segment)
        return number

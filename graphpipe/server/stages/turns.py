"""Whose turn it is: peer by peer, and those of one peer in order of arrival.

A peer is a socket's address without its port, or one connection to a Unix socket. Whoever opens a thousand connections
is one peer, and what others ask for does not wait for all of his.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from contextvars import ContextVar
from itertools import count
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

__all__ = ["PEER", "Line", "Turns", "by_turns"]

# Who asked for what is being done now. What an exchange waits for runs with it, and so does all that it awaits.
PEER: ContextVar[Hashable] = ContextVar("PEER", default=None)

T = TypeVar("T")


def by_turns(items: Iterable[T], peer_of: Callable[[T], Hashable]) -> list[T]:
    """The items by turns: the first of every peer, then the second of every peer, and so on."""
    lines: dict[Hashable, count[int]] = {}
    places = [(next(lines.setdefault(peer_of(item), count())), item) for item in items]
    return [item for _, item in sorted(places, key=lambda place: place[0])]


class _Asked(Protocol):
    """What waits, and whose it is."""

    @property
    def peer(self) -> Hashable: ...


J = TypeVar("J", bound=_Asked)


class Line(deque[J]):
    """What waits of one peer."""


class Turns(Generic[J]):
    """A queue that gives every peer its turn. Filled by one thread, emptied by several.

    It behaves as a SimpleQueue does, and is one while nobody waits but one peer. ``None`` comes after all that waits.
    """

    def __init__(self) -> None:
        # What waits, where it is one peer's; else lines, each as often as it has a turn: once.
        self._turns: SimpleQueue[J | Line[J] | None] = SimpleQueue()
        # The next job, or a line whose turn it is, when there is one. No call of Python's: whoever takes a job has it,
        # whatever is raised meanwhile.
        self.take: Callable[[], J | Line[J] | None] = self._turns.get
        self._only: Hashable = None
        self._lines: dict[Hashable, Line[J]] = {}
        self._waiting = 0  # in lines
        self._lock = threading.Lock()
        # Whether nothing waits, as far as can be said at this moment. The other queue's own: it is asked after every job.
        self.empty = self._turns.empty

    def put(self, job: J | None) -> None:
        """Let a job wait for its turn."""
        if job is None:
            self._turns.put(None)
            return
        if not self._lines:
            peer = job.peer
            if peer == self._only or self.empty():
                self._only = peer
                self._turns.put(job)
                return
            self._form_a_line()
        with self._lock:
            self._join(job)

    def next_of(self, line: Line[J]) -> J:
        """The first of a line that was taken, which then waits for its next turn."""
        with self._lock:
            job = line.popleft()
            self._waiting -= 1
            if line:
                self._turns.put(line)
            else:
                del self._lines[job.peer]
        return job

    def is_over(self) -> bool:
        """Whether the None that was taken came after all that waits. If not, it comes again."""
        if self._lines:
            self._turns.put(None)
            return False
        return True

    def qsize(self) -> int:
        """How many wait, about."""
        return self._waiting if self._lines else self._turns.qsize()

    def has_more_than_his_share(self, peer: Hashable, places: int) -> bool:
        """Whether a peer has taken as many of so many places as each peer would get."""
        lines = self._lines
        if not lines:
            return peer == self._only or not self._turns.qsize()
        line = lines.get(peer)
        return line is not None and len(line) * len(lines) >= places

    def make_room(self) -> J | None:
        """Take out the last that came of the peer that has most waiting."""
        if not self._lines:
            self._form_a_line()
        with self._lock:
            longest = max(self._lines.values(), key=len, default=None)
            if longest is None or len(longest) < 2:  # its turn would find nothing there
                return None
            self._waiting -= 1
            return longest.pop()

    def sift(self, stays: Callable[[J], bool]) -> None:
        """Take out those that need not wait any more."""
        if not self._lines:
            for _ in range(self._turns.qsize()):
                try:
                    job = self._turns.get_nowait()
                except Empty:  # the threads were quicker
                    return
                if job is None or isinstance(job, Line) or stays(job):
                    self._turns.put(job)
            return
        with self._lock:
            for line in self._lines.values():
                kept = [job for job in line if stays(job)] or [line[0]]  # its turn must find something there
                self._waiting -= len(line) - len(kept)
                line.clear()
                line.extend(kept)

    def _form_a_line(self) -> None:
        """What waits of the only peer becomes a line, so that others may have their turns."""
        with self._lock:
            try:
                while True:
                    job = self._turns.get_nowait()
                    if job is None or isinstance(job, Line):
                        self._turns.put(job)  # all after it are of this kind too
                        return
                    self._join(job)
            except Empty:
                return

    def _join(self, job: J) -> None:
        self._waiting += 1
        line = self._lines.get(job.peer)
        if line is None:
            line = self._lines[job.peer] = Line()
            line.append(job)
            self._turns.put(line)
        else:
            line.append(job)

"""Memory for large bodies: aligned, reused, counted, and given back only when nobody looks at it any more.

Fresh memory costs more than the copies it holds (77 MB: 11 to 80 ms to touch for the first time, 9 ms to fill when
warm), so large bodies are received into buffers that live on. A *lease* is a memoryview of such a buffer. Arrays made
over it keep it alive, and so does whatever is made over those: a model may keep an input for ever, an answer may be a
view of an input. The buffer goes back when the last of them is gone, and not before: the finalizer hangs on a ctypes
array over the buffer, which every view has to hold, since numpy shortens chains of its own arrays but cannot see
through a foreign exporter.

Memory that was mapped and never touched costs nothing. So a lease may be *open*: as large as what was promised, and counted
only as far as it was written. What a buffer still holds behind that, from its last use, counts as idle, and goes when there
is no room for it.

A *shared* pool has its buffers in segments (``memory/``), so that what lies in them need not be sent to another process of
this host. ``memory.places`` finds them again.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import threading
import weakref
from collections import deque
from collections.abc import Callable

from graphpipe.memory.segment import Segment, available

__all__ = ["POOLED_FROM", "BufferPool", "Lease", "size_class"]

# Below this a plain bytearray is as fast.
POOLED_FROM = 64 * 1024
# Each segment is a descriptor, of which a process may have few. Buffers beyond these are nobody's but ours.
_SEGMENTS_MAX = 256


class _Buffer:
    """A piece of memory. Its first ``leased`` bytes are somebody's; its first ``warm`` ones are backed by real memory."""

    __slots__ = ("leased", "memory", "segment", "size", "warm")

    def __init__(self, size: int, segment: Segment | None = None) -> None:
        # Whoever looks at the memory holds its segment too, and so its descriptor.
        self.segment = segment
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.memory = mmap.mmap(-1, size, flags=private) if segment is None else segment.memory
        self.size = size
        self.leased = self.warm = 0

    def take_small_pages(self) -> None:
        """Have memory come in pages of 4 KiB: where 2 MiB come at the first byte, what is counted would be far from true."""
        with contextlib.suppress(AttributeError, OSError):  # a system, or a kernel, without large ones
            self.memory.madvise(mmap.MADV_NOHUGEPAGE)

    def cool(self) -> None:
        """Give back the memory behind what is leased."""
        start = -(-self.leased // mmap.PAGESIZE) * mmap.PAGESIZE
        if start < self.size:
            # What is shared stays where it is until it is taken out of the segment.
            advice = mmap.MADV_DONTNEED if self.segment is None else mmap.MADV_REMOVE
            self.memory.madvise(advice, start, self.size - start)
        self.warm = self.leased


class _Elsewhere:
    """What somebody keeps elsewhere, which counts as leased: so many bytes."""

    __slots__ = ("leased",)

    def __init__(self) -> None:
        self.leased = 0


class Lease:
    """An open lease: ``view`` may be written from its start, and ``touch`` says how far it was."""

    __slots__ = ("_buffer", "_pool", "view")

    def __init__(self, pool: BufferPool, buffer: _Buffer, view: memoryview) -> None:
        self._pool = pool
        self._buffer = buffer
        self.view = view

    def touch(self, end: int) -> None:
        """Its first ``end`` bytes are written, and count."""
        self._pool._touch(self._buffer, end)


class BufferPool:
    """Buffers by size class. At most ``bytes_max`` are leased, and leased and idle ones together stay below it too.

    ``aside`` is what somebody else keeps under the same limit. Open leases are granted without a look at the limit, and
    so is what is put aside: whoever reads and computes has to ask for ``room`` first.

    Where it is ``shared``, its buffers are segments, as far as the system has some to give.

    Safe in threads. ``on_return`` is called, in whatever thread the last view died, after each buffer that comes back.
    """

    def __init__(self, bytes_max: int, idle_bytes_max: int | None = None, *, shared: bool = False) -> None:
        self.bytes_max = bytes_max
        self.aside = 0
        self.on_return: Callable[[], None] | None = None
        self._idle_bytes_max = bytes_max if idle_bytes_max is None else idle_bytes_max
        self._segments: weakref.WeakSet[Segment] | None = weakref.WeakSet() if shared and available() else None
        self._leased = 0
        self._idle_bytes = 0
        self._idle: dict[int, list[_Buffer]] = {}
        self._half_warm: set[_Buffer] = set()  # leased, with warm memory behind what is leased
        # Finalizers run inside anything, even inside our own locked sections, so they only append here.
        self._returned: deque[_Buffer | _Elsewhere] = deque()
        self._lock = threading.Lock()

    def lease(self, size: int) -> memoryview | None:
        """``size`` writable bytes, at a 64-byte boundary if they are many; None if ``bytes_max`` leaves no room now."""
        if size < POOLED_FROM:
            return memoryview(bytearray(size))
        wanted = size_class(size)
        with self._lock:
            self._take_back()
            if self._leased + self.aside + wanted > self.bytes_max:
                return None
            buffer = self._buffer(wanted)
            self._lease(buffer, wanted)  # whole, so nothing of it stays half warm
        return self._view(buffer)[:size]

    def open_lease(self, size: int) -> Lease:
        """The same, counted only as far as it is touched, and whether or not there is room.

        Raises OSError if the machine does not even give addresses.
        """
        with self._lock:
            self._take_back()
            buffer = self._buffer(size_class(size))
            if buffer.warm:
                self._half_warm.add(buffer)
            else:
                buffer.take_small_pages()
        return Lease(self, buffer, self._view(buffer)[:size])

    def count(self, thing: object, size: int, leave: int = 0) -> bool:
        """Count ``size`` bytes that are elsewhere as leased until ``thing`` is gone; False, and they do not count, if
        ``bytes_max`` leaves no room now, and ``leave`` bytes for others.
        """
        elsewhere = _Elsewhere()
        weakref.finalize(thing, self._give_back, elsewhere).atexit = False
        with self._lock:
            self._take_back()
            if self._leased + self.aside + size + leave > self.bytes_max:
                return False
            elsewhere.leased = size
            self._leased += size
            self._fit()
        return True

    @property
    def room(self) -> int:
        """How many more bytes may be leased or put aside; below 0 if it is too many already."""
        if self._returned:
            with self._lock:
                self._take_back()
        return self.bytes_max - self._leased - self.aside

    def put_aside(self, size: int) -> None:
        """So much more is kept elsewhere; below 0: less. To be called in one thread."""
        self.aside += size
        if size > 0 and self.bytes_max - self._leased - self.aside < self._idle_bytes:
            with self._lock:
                self._take_back()
                self._fit()

    def owns(self, segment: Segment) -> bool:
        """Whether a segment is one of its buffers."""
        return self._segments is not None and segment in self._segments

    @property
    def leased_bytes(self) -> int:
        """Bytes that somebody still looks at."""
        with self._lock:
            self._take_back()
            return self._leased

    @property
    def idle_bytes(self) -> int:
        """Bytes of memory that waits for its next use."""
        with self._lock:
            self._take_back()
            return self._idle_bytes

    def _touch(self, buffer: _Buffer, end: int) -> None:
        with self._lock:
            if self._returned:
                self._take_back()
            self._lease(buffer, end)

    def _buffer(self, size: int) -> _Buffer:
        idle = self._idle.get(size)
        return idle.pop() if idle else _Buffer(size, self._segment(size))

    def _segment(self, size: int) -> Segment | None:
        if self._segments is None:
            return None
        if len(self._segments) >= _SEGMENTS_MAX:
            self._let_go_of_a_segment()
            if len(self._segments) >= _SEGMENTS_MAX:
                return None
        try:
            segment = Segment.create(size)
        except OSError:  # no descriptor is left; memory of our own may be
            return None
        self._segments.add(segment)
        return segment

    def _let_go_of_a_segment(self) -> None:
        """Make room for another by one that is idle, the largest first."""
        for size in sorted(self._idle, reverse=True):
            for i, buffer in enumerate(self._idle[size]):
                if buffer.segment is not None:
                    self._idle_bytes -= buffer.warm
                    del self._idle[size][i]
                    return

    def _lease(self, buffer: _Buffer, end: int) -> None:
        """Count the first ``end`` bytes of a buffer as leased."""
        more, fresh = end - buffer.leased, max(0, end - buffer.warm)
        if more <= 0:
            return
        buffer.leased = end
        buffer.warm += fresh
        self._leased += more
        self._idle_bytes -= more - fresh
        if buffer.warm == end:
            self._half_warm.discard(buffer)
        if fresh and self._idle_bytes:
            self._fit()

    def _view(self, buffer: _Buffer) -> memoryview:
        array = (ctypes.c_ubyte * buffer.size).from_buffer(buffer.memory)  # ctypes remembers the type for each size
        weakref.finalize(array, self._give_back, buffer).atexit = False
        return memoryview(array).cast("B")

    def _give_back(self, buffer: _Buffer | _Elsewhere) -> None:
        self._returned.append(buffer)
        if self.on_return is not None:
            self.on_return()

    def _take_back(self) -> None:
        if not self._returned:
            return
        while self._returned:
            buffer = self._returned.popleft()
            self._leased -= buffer.leased
            if isinstance(buffer, _Elsewhere):
                continue
            self._half_warm.discard(buffer)
            self._idle_bytes += buffer.leased
            buffer.leased = 0
            if 2 * buffer.warm >= buffer.size and self._may_be_used_again(buffer):
                self._idle.setdefault(buffer.size, []).append(buffer)
            else:  # or addresses with hardly any memory behind them
                self._idle_bytes -= buffer.warm
        self._fit()

    def _may_be_used_again(self, buffer: _Buffer) -> bool:
        if buffer.segment is not None:
            return not buffer.segment.spent
        return self._segments is None  # else the next one may be a segment

    def _fit(self) -> None:
        """Let go of idle memory, largest buffers first, until it fits beside the rest."""
        idle_max = max(0, min(self._idle_bytes_max, self.bytes_max - self._leased - self.aside))
        if self._idle_bytes <= idle_max:
            return
        for size in sorted(self._idle, reverse=True):
            buffers = self._idle[size]
            while buffers and self._idle_bytes > idle_max:
                # Unmapped when its last reference goes; the array that was over it may be dying just now.
                self._idle_bytes -= buffers.pop().warm
        while self._half_warm and self._idle_bytes > idle_max:
            buffer = self._half_warm.pop()
            self._idle_bytes -= buffer.warm - buffer.leased
            buffer.cool()


def size_class(size: int) -> int:
    """The buffer for ``size`` bytes: four classes to each power of two, so at most a quarter is left over."""
    step = max(POOLED_FROM, 1 << ((size - 1).bit_length() - 3))
    return -(-size // step) * step

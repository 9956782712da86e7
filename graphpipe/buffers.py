"""Memory for large bodies: aligned, reused, counted, and given back only when nobody looks at it any more.

Fresh memory costs more than the copies it holds (77 MB: 11 to 80 ms to touch for the first time, 9 ms to fill when
warm), so large bodies are received into buffers that live on. A *lease* is a memoryview of such a buffer. Arrays made
over it keep it alive, and so does whatever is made over those: a model may keep an input for ever, an answer may be a
view of an input. The buffer goes back when the last of them is gone, and not before: the finalizer hangs on a ctypes
array over the buffer, which every view has to hold, since numpy shortens chains of its own arrays but cannot see
through a foreign exporter.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections import deque
from collections.abc import Callable

__all__ = ["POOLED_FROM", "BufferPool", "size_class"]

# Below this a plain bytearray is as fast.
POOLED_FROM = 64 * 1024


class BufferPool:
    """Buffers by size class. At most ``bytes_max`` are leased, and leased and idle ones together stay below it too.

    Safe in threads. ``on_return`` is called, in whatever thread the last view died, after each buffer that comes back.
    """

    def __init__(self, bytes_max: int, idle_bytes_max: int | None = None) -> None:
        self.bytes_max = bytes_max
        self.on_return: Callable[[], None] | None = None
        self._idle_bytes_max = bytes_max if idle_bytes_max is None else idle_bytes_max
        self._leased = 0
        self._idle_bytes = 0
        self._idle: dict[int, list[mmap.mmap]] = {}
        # Finalizers run inside anything, even inside our own locked sections, so they only append here.
        self._returned: deque[mmap.mmap] = deque()
        self._lock = threading.Lock()

    def lease(self, size: int) -> memoryview | None:
        """``size`` writable bytes, at a 64-byte boundary if they are many; None if ``bytes_max`` leaves no room now."""
        if size < POOLED_FROM:
            return memoryview(bytearray(size))
        wanted = size_class(size)
        with self._lock:
            self._take_back()
            idle = self._idle.get(wanted)
            if idle:
                buffer = idle.pop()
                self._idle_bytes -= wanted
            else:
                if self._leased + wanted > self.bytes_max:
                    return None
                self._shrink(self.bytes_max - self._leased - wanted)
                buffer = mmap.mmap(-1, wanted, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._leased += wanted
        array = (ctypes.c_ubyte * wanted).from_buffer(buffer)  # ctypes remembers the type for each size
        weakref.finalize(array, self._give_back, buffer).atexit = False
        return memoryview(array).cast("B")[:size]

    @property
    def leased_bytes(self) -> int:
        """Bytes of buffers that somebody still looks at."""
        with self._lock:
            self._take_back()
            return self._leased

    @property
    def idle_bytes(self) -> int:
        """Bytes of buffers that wait for their next use."""
        with self._lock:
            self._take_back()
            return self._idle_bytes

    def _give_back(self, buffer: mmap.mmap) -> None:
        self._returned.append(buffer)
        if self.on_return is not None:
            self.on_return()

    def _take_back(self) -> None:
        while self._returned:
            buffer = self._returned.popleft()
            size = len(buffer)
            self._leased -= size
            self._idle_bytes += size
            self._idle.setdefault(size, []).append(buffer)
        self._shrink(self._idle_bytes_max)

    def _shrink(self, idle_max: int) -> None:
        """Let go of idle buffers, largest first, until at most ``idle_max`` bytes are idle."""
        if self._idle_bytes <= idle_max:
            return
        for size in sorted(self._idle, reverse=True):
            buffers = self._idle[size]
            while buffers and self._idle_bytes > idle_max:
                # Unmapped when its last reference goes; the array that was over it may be dying just now.
                buffers.pop()
                self._idle_bytes -= size


def size_class(size: int) -> int:
    """The buffer for ``size`` bytes: four classes to each power of two, so at most a quarter is left over."""
    step = max(POOLED_FROM, 1 << ((size - 1).bit_length() - 3))
    return -(-size // step) * step
